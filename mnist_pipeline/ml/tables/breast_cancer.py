"""Breast cancer (Wolberg et al. 1995): is a tumour malignant, told from the nuclei of its cells?"""

from mnist_pipeline.ml.tables.embedded import breast_cancer
from mnist_pipeline.ml.tables.models import KNN, DecisionTree, LogisticRegression, RandomForest
from mnist_pipeline.ml.tables.task import Column, TableTask, Target

MEASURED = (
    *("radius", "texture", "perimeter", "area", "smoothness"),
    *("compactness", "concavity", "concave points", "symmetry", "fractal dimension"),
)
NAMES = (*(f"mean {each}" for each in MEASURED), *(f"{each} error" for each in MEASURED))
WORST = tuple(f"worst {each}" for each in MEASURED)

BREAST_CANCER = TableTask(
    name="breast_cancer",
    columns=(
        *(Column(name, low=0) for name in (*NAMES, *WORST)),
        Column("diagnosis", "category", categories=("benign", "malignant")),
    ),
    target=Target("diagnosis", equals="malignant", names=("benign", "malignant")),
    models={
        "decision_tree": DecisionTree(max_depth=4, min_samples_leaf=5),
        "random_forest": RandomForest(trees=100, min_samples_leaf=1),
        "logistic_regression": LogisticRegression(c=0.5),
        "knn": KNN(neighbours=9, weights="uniform"),
    },
    embedded=breast_cancer,
)
