"""Superstore: is an order line profitable, told from what is known when it is ordered and shipped?"""

from mnist_pipeline.ml.tables.embedded import superstore
from mnist_pipeline.ml.tables.models import KNN, DecisionTree, LogisticRegression, RandomForest
from mnist_pipeline.ml.tables.task import Column, CsvFormat, TableTask, Target

SUB_CATEGORIES = (
    *("Accessories", "Appliances", "Art", "Binders", "Bookcases", "Chairs", "Copiers", "Envelopes", "Fasteners"),
    *("Furnishings", "Labels", "Machines", "Paper", "Phones", "Storage", "Supplies", "Tables"),
)

SUPERSTORE = TableTask(
    name="superstore",
    columns=(
        Column("Row ID", low=1, unique=True, left_out="a running number"),
        Column("Order ID", "text", left_out="names an order; a new one has a new name"),
        Column("Order Date", "date"),
        Column("Ship Date", "date", left_out="seen as shipping days"),
        Column("Ship Mode", "category", categories=("First Class", "Same Day", "Second Class", "Standard Class")),
        Column("Customer ID", "text", left_out="names a person: nothing would be learned for the next one"),
        Column("Customer Name", "text", left_out="names a person"),
        Column("Segment", "category", categories=("Consumer", "Corporate", "Home Office")),
        Column("Country", "category", left_out="the same in every row"),
        Column("City", "text", left_out="531 of them, most with a handful of rows; the state says it"),
        Column("State", "category"),
        Column("Postal Code", "text", nullable=True, left_out="says what city and state say, and may be missing"),
        Column("Region", "category", categories=("Central", "East", "South", "West")),
        Column("Product ID", "text", left_out="names one of 1,862 products; the sub-category says its kind"),
        Column("Category", "category", categories=("Furniture", "Office Supplies", "Technology")),
        Column("Sub-Category", "category", categories=SUB_CATEGORIES),
        Column("Product Name", "text", left_out="says what the product id says"),
        Column("Sales", low=0),
        Column("Quantity", low=1),
        Column("Discount", low=0, high=1),
        Column("Profit"),
    ),
    # "no profit", not "loss": 65 lines of the real table break even
    target=Target("Profit", above=0, names=("no profit", "profit")),
    models={
        "decision_tree": DecisionTree(max_depth=8, min_samples_leaf=10),
        "random_forest": RandomForest(trees=100, min_samples_leaf=3),
        "logistic_regression": LogisticRegression(c=1.0),
        "knn": KNN(neighbours=25, weights="distance"),
    },
    embedded=superstore,
    csv=CsvFormat(dates="%m/%d/%Y"),
    days={"shipping days": ("Order Date", "Ship Date")},
    parts={"train": 0.6, "validation": 0.2, "test": 0.2},
)
