"""Under which keys, groups and partitions the assets of a table stand."""

from typing import Any

import dagster as dg

from mnist_pipeline.datasets.files import EMBEDDED
from mnist_pipeline.ml.tables.task import TableTask

Frame = Any  # a pandas DataFrame: Dagster evaluates annotations, and pandas is not imported when code is loaded


def _is_table(_: dg.TypeCheckContext, value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "to_parquet")


# Said to Dagster outright: it cannot tell the type of a value from the annotation of an asset that has checks.
TABLE = dg.DagsterType(_is_table, name="Table", description="A pandas DataFrame, kept as Parquet.")


def partitions_of(task: TableTask) -> dg.DynamicPartitionsDefinition | None:
    """A partition a dataset, for tasks that read CSV files."""
    return dg.DynamicPartitionsDefinition(name=f"{task.name}_datasets") if task.csv else None


def split_name(task: TableTask) -> str:
    """train_test, train_validation_test."""
    return "_".join(task.parts)


def placed(task: TableTask, name: str, *kinds: str) -> dict[str, Any]:
    """What all assets of a task have in common."""
    return {
        "key_prefix": task.name,
        "name": name,
        "group_name": task.name,
        "partitions_def": partitions_of(task),
        "kinds": set(kinds),
    }


def input_of(task: TableTask, name: str, **metadata: Any) -> dg.AssetIn:
    """An asset of the same task as an input. metadata: for the IO manager."""
    return dg.AssetIn(key=[task.name, name], metadata=metadata)


def dataset_of(task: TableTask, context: dg.AssetExecutionContext) -> str:
    """The dataset of a run, as cards and comparisons name it: superstore/orders-1a2b3c4d, breast_cancer/embedded."""
    return f"{task.name}/{key_in(context)}"


def key_in(context: dg.AssetExecutionContext) -> str:
    """The dataset that an asset is made of in this run; of one without partitions, the embedded table."""
    return context.partition_key if context.assets_def.partitions_def else EMBEDDED
