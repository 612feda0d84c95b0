"""A table in numbers, before anything is learned from it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_pipeline.ml.tables.columns import numeric, separation
from mnist_pipeline.ml.tables.task import TARGET

if TYPE_CHECKING:
    import pandas as pd


def summary(table: "pd.DataFrame") -> dict[str, Any]:
    """Rows, share of positive ones, and of each feature what is missing, its range or its most frequent value, and how
    well it alone separates the classes (ROC-AUC, 0.5 to 1). table: features and target."""
    target = table[TARGET].to_numpy()
    features = table.drop(columns=TARGET)
    numbers = {column.name: column.values for column in numeric(features)}
    return {
        "rows": len(table),
        "positive_share": float(target.mean()),
        "columns": {
            str(name): _of_numbers(numbers[name], target) if name in numbers else _of_categories(values)
            for name, values in features.items()
        },
    }


def _of_numbers(values: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    there = values[~np.isnan(values)]
    missing = {"kind": "number", "missing": int(len(values) - len(there))}
    if not len(there):
        return missing
    alone = separation(values, target)
    return {
        **missing,
        **{name: float(getattr(np, name)(there)) for name in ("min", "median", "mean", "max", "std")},
        **({} if np.isnan(alone) else {"separates": float(max(alone, 1 - alone))}),
    }


def _of_categories(values: "pd.Series") -> dict[str, Any]:
    counts = values.value_counts()
    most = (
        {}
        if counts.empty
        else {"most_frequent": str(counts.index[0]), "its_share": float(counts.iloc[0] / counts.sum())}
    )
    return {"kind": "category", "missing": int(values.isna().sum()), "categories": len(counts), **most}
