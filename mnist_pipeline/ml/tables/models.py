"""The kinds of models that a table gets: their settings, and the scikit-learn pipeline of each.

Here: every knob with its range, and what fits the columns to a model (`ColumnTransformer`, fitted on training rows).
Not here: which settings a task uses (its description), how good a model is (`scores.py`).
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mnist_pipeline.ml.tables.task import TableTask

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

RAREST = 0.002  # share of the training rows below which a category stands among "infrequent" ones


class Settings(BaseModel):
    """What every kind of model is set with; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DecisionTree(Settings):
    """One tree (Breiman et al. 1984)."""

    max_depth: Annotated[int, Field(ge=1, le=100, description="questions from the root to a leaf, at most")] = 6
    min_samples_leaf: Annotated[int, Field(ge=1, description="training rows in a leaf, at least")] = 5


class RandomForest(Settings):
    """Many trees on resampled rows and random columns (Breiman 2001)."""

    trees: Annotated[int, Field(ge=1, le=5_000, description="number of trees")] = 100
    max_depth: Annotated[int | None, Field(ge=1, le=100, description="of each tree; none: until leaves are small")] = (
        None
    )
    min_samples_leaf: Annotated[int, Field(ge=1, description="training rows in a leaf, at least")] = 2


class LogisticRegression(Settings):
    """A linear model of the log odds."""

    c: Annotated[float, Field(gt=0, description="inverse strength of the L2 penalty")] = 1.0


class KNN(Settings):
    """The k nearest neighbours among the training rows, columns scaled alike."""

    neighbours: Annotated[int, Field(ge=1, description="rows that vote")] = 15
    weights: Annotated[Literal["uniform", "distance"], Field(description="one vote a row, or the nearer the more")] = (
        "distance"
    )


MODELS: dict[str, type[Settings]] = {
    "decision_tree": DecisionTree,
    "random_forest": RandomForest,
    "logistic_regression": LogisticRegression,
    "knn": KNN,
}


def kind_of(settings: Settings) -> str:
    """The name of its kind, whatever a task calls a model. Raises KeyError for settings of a kind of your own."""
    return {kind: name for name, kind in MODELS.items()}[type(settings)]


def usual_models() -> dict[str, Settings]:
    """Every kind of model with its default settings."""
    return {name: kind() for name, kind in MODELS.items()}


def pipeline_of(settings: Settings, task: TableTask, seed: int = 0) -> "Pipeline":
    """Columns to numbers, then the model, not fitted yet; classes are weighted where the model knows how.

    It takes the feature columns of `task` as a frame. Numbers that are missing become the training rows' median
    (0 where there is none), missing categories a category of their own; categories never seen in training count as rare
    ones.
    """
    from sklearn.pipeline import Pipeline

    scaled = isinstance(settings, LogisticRegression | KNN)
    return Pipeline([("columns", _columns(task, scaled=scaled)), ("model", _estimator(settings, seed))])


def _columns(task: TableTask, *, scaled: bool) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), *([StandardScaler()] if scaled else [])
    )
    categories = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing", keep_empty_features=True),
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=RAREST, sparse_output=False),
    )
    return ColumnTransformer(
        [("numbers", numbers, list(task.numbers)), ("categories", categories, list(task.categories))],
        verbose_feature_names_out=False,
    )


def _estimator(settings: Settings, seed: int) -> Any:
    """Raises TypeError for settings of a kind that nothing was written for."""
    if isinstance(settings, DecisionTree):
        from sklearn.tree import DecisionTreeClassifier

        return DecisionTreeClassifier(**settings.model_dump(), class_weight="balanced", random_state=seed)
    if isinstance(settings, RandomForest):
        from sklearn.ensemble import RandomForestClassifier

        own = settings.model_dump()
        return RandomForestClassifier(own.pop("trees"), **own, class_weight="balanced", random_state=seed)
    if isinstance(settings, LogisticRegression):
        from sklearn.linear_model import LogisticRegression as Linear

        return Linear(C=settings.c, class_weight="balanced", max_iter=1_000, random_state=seed)
    if isinstance(settings, KNN):
        from sklearn.neighbors import KNeighborsClassifier

        # by comparing with every row: as quick on tables of this size, and no tree has to be stored and trusted
        return KNeighborsClassifier(settings.neighbours, weights=settings.weights, algorithm="brute")
    raise TypeError(f"{type(settings).__name__} has no model: write one in ml/tables/models.py")
