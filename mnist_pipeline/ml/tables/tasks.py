"""The tables that the project has pipelines for. One of your own is one more description in this tuple."""

from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER
from mnist_pipeline.ml.tables.superstore import SUPERSTORE

TASKS = (BREAST_CANCER, SUPERSTORE)
