"""All assets of a table, made from its description.

Not here: what each of them does (`tabular_rows.py`, `tabular_models.py`, `tabular_results.py`), what is done with rows
(`ml/tables/`).
"""

import dagster as dg

from mnist_pipeline.assets.tabular_models import models_of
from mnist_pipeline.assets.tabular_results import comparison_of, dataset_comparison_of
from mnist_pipeline.assets.tabular_rows import eda_summary_of, parts_of, prepared_data_of, raw_data_of
from mnist_pipeline.ml.tables.task import TableTask


def tabular_assets(task: TableTask) -> list[dg.AssetsDefinition]:
    """Assets under the name of the task, each with its checks; CSV files are partitions, one a dataset."""
    made = [raw_data_of(task), eda_summary_of(task), parts_of(task), models_of(task), comparison_of(task)]
    if task.is_prepared:
        made.append(prepared_data_of(task))
    if task.csv:
        made.append(dataset_comparison_of(task))
    return made
