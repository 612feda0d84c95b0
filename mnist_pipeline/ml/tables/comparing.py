"""All models of a table on the same rows: what each answers, and how they rank."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnist_pipeline.ml.tables.learning import Learned, answers
from mnist_pipeline.ml.tables.ranking import Answers, ranked, said
from mnist_pipeline.ml.tables.task import TableTask

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Compared:
    """rows: a model each, the best first. answers: of each model on the test part, in the same order."""

    rows: list[dict[str, Any]]
    sentence: str
    answers: dict[str, Answers]
    confusions: dict[str, list[list[int]]]
    importances: dict[str, dict[str, float]]


def compare(learned: Mapping[str, Learned], table: "pd.DataFrame", task: TableTask) -> Compared:
    """Rank them by folds or validation, and ask each for its answers on test."""
    validation = (
        {name: answers(each.pipeline, table, "validation") for name, each in learned.items()}
        if "validation" in task.parts
        else {}
    )
    test = {name: answers(each.pipeline, table, "test") for name, each in learned.items()}
    rows = ranked({name: each.report for name, each in learned.items()}, validation, test, task.seed)
    order = [row["model"] for row in rows]
    return Compared(
        rows,
        said(rows),
        {name: test[name] for name in order},
        {name: learned[name].report["confusion"] for name in order},
        {name: learned[name].report["importances"] for name in order},
    )
