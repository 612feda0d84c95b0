"""Tables of the two tasks, made once."""

from __future__ import annotations

import pandas as pd
import pytest

from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER
from mnist_pipeline.ml.tables.door import checked
from mnist_pipeline.ml.tables.preparing import counted, prepared, split
from mnist_pipeline.ml.tables.superstore import SUPERSTORE
from mnist_pipeline.ml.tables.task import TableTask


def parted(task: TableTask) -> pd.DataFrame:
    """The embedded table of a task, ready to be learned from."""
    assert task.embedded
    return split(prepared(checked(counted(task.embedded()), task, "embedded"), task), task, task.seed)


@pytest.fixture(scope="session")
def tumours() -> pd.DataFrame:
    return parted(BREAST_CANCER)


@pytest.fixture(scope="session")
def orders() -> pd.DataFrame:
    return parted(SUPERSTORE)
