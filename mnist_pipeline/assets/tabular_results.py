"""What came of the models of a table: side by side on one dataset, and one dataset beside the other."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from mnist_pipeline.assets import records, tabular_pages
from mnist_pipeline.assets.tabular_keys import Frame, dataset_of, input_of, placed, split_name
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.files import ALL_THERE_ARE
from mnist_pipeline.ml.tables.task import TableTask
from mnist_pipeline.resources import Models, Pictures, Tracking
from mnist_pipeline.retries import retrying
from mnist_pipeline.storage.sealed import canonical, sha256
from mnist_pipeline.store import ModelStore

if TYPE_CHECKING:
    from mnist_pipeline.ml.tables.learning import Learned

COMPARING = (
    *("task", "preparing", "learning", "comparing", "ranking", "scores", "artifacts"),
    *("result_pictures", "comparison_pictures"),
)


def comparison_of(task: TableTask) -> dg.AssetsDefinition:
    """The models of one dataset, side by side."""
    beats_guessing = dg.AssetCheckSpec(
        "best_beats_guessing",
        asset=[task.name, "comparison"],
        blocking=True,
        description="ROC-AUC of the best model above 0.5, with its interval",
    )

    @dg.asset(
        **placed(task, "comparison", "scikitlearn", "matplotlib"),
        dagster_type=dg.Any,
        ins={"table": input_of(task, split_name(task)), **{name: input_of(task, name) for name in task.models}},
        code_version=code_version(
            "ml/drawing.py", *(f"ml/tables/{name}.py" for name in COMPARING), settings=task.target.names
        ),
        check_specs=[beats_guessing],
    )
    @retrying
    def comparison(
        context: dg.AssetExecutionContext,
        table: Frame,
        models: Models,
        pictures: Pictures,
        tracking: Tracking,
        **learned: Mapping[str, str],
    ) -> dg.MaterializeResult:
        """The models side by side: ranked with intervals, and which differences are within noise."""
        from mnist_pipeline.ml.tables.comparing import compare
        from mnist_pipeline.ml.tables.preparing import digest

        data, store = digest(table), models.of_table(task.name)
        found = compare({name: _learned(store, value, data, name) for name, value in learned.items()}, table, task)
        drawn = tabular_pages.results(found, task)
        with tracking.open(context) as tracker:
            records.compared(tracker, found.sentence, drawn)
        best = found.rows[0]
        return dg.MaterializeResult(
            value={
                "dataset": dataset_of(task, context),
                "data": data,
                "rows": len(table),
                "models": found.rows,
            },
            data_version=dg.DataVersion(sha256(canonical({"models": found.rows}))),
            metadata={
                "result": found.sentence,
                **tabular_pages.shown(pictures, context, drawn),
                **tabular_pages.ranking(found.rows),
                **records.page(tracker),
            },
            check_results=[dg.AssetCheckResult(passed=best["low"] > 0.5, check_name="best_beats_guessing")],
        )

    return comparison


class OtherData(dg.DagsterError):
    """A model was learned from other rows than those it is to be compared on."""


def _learned(store: ModelStore, value: Mapping[str, str], data: str, name: str) -> "Learned":
    """A stored model, verified and replayed, with its report. Raises OtherData."""
    from mnist_pipeline.ml.tables.artifacts import load
    from mnist_pipeline.ml.tables.learning import Learned

    report, card = store.report(value["report"]), store.card(value["version"])
    if (report["version"], report["model_digest"]) != (card.name, card.digest):
        raise OtherData(f"{name}: {value['report']} is no report about {card.name}: materialize that model again")
    if report["data_digest"] != data:
        raise OtherData(f"{name} ({value['version']}) was learned from other rows: materialize it again, then compare")
    return Learned(load(store.load(value["version"])), report)


def dataset_comparison_of(task: TableTask) -> dg.AssetsDefinition:
    """The datasets of a task, side by side."""

    @dg.asset(
        **{**placed(task, "dataset_comparison", "matplotlib"), "partitions_def": None},
        ins={"comparisons": input_of(task, "comparison", **{ALL_THERE_ARE: True})},
        code_version=code_version("ml/drawing.py", "ml/tables/comparison_pictures.py"),
        pool=f"{task.name}_datasets",  # two at once, and who read first might write last
    )
    @retrying
    def dataset_comparison(
        context: dg.AssetExecutionContext, comparisons: dict[str, Any], pictures: Pictures
    ) -> dg.MaterializeResult[list[dict[str, Any]]]:
        """The datasets side by side: what each was learned from, by its digest, and what came of it."""
        rows = [
            {**model, "dataset": key, "rows": found["rows"], "data": found["data"]}
            for key, found in sorted(comparisons.items())
            for model in found["models"]
        ]
        drawn = tabular_pages.datasets(rows)
        return dg.MaterializeResult(
            value=rows,
            data_version=dg.DataVersion(sha256(canonical({"datasets": rows}))),
            metadata={**tabular_pages.shown(pictures, context, drawn), **tabular_pages.datasets_table(comparisons)},
        )

    return dataset_comparison
