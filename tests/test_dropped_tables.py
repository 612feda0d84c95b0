"""The real daemon and CSV files that are dropped: each becomes a dataset, runs once, and stands beside the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pipelines import at_home, instance_of
from processes import daemon, wait

from mnist_pipeline.datasets.files import key_of
from mnist_pipeline.ml.tables.embedded import superstore

pytestmark = pytest.mark.slow
PATIENCE_S = 240.0
EVENT = dg.AssetKey(["superstore", "dataset_comparison"])
SUPERSTORE = dg.RunsFilter(job_name="superstore")
ENDED = [dg.DagsterRunStatus.SUCCESS] * 2  # the comparison lies there a moment before its run has ended


def drop(folder: Path, name: str, rows: int) -> str:
    """The key that the file will have."""
    folder.mkdir(parents=True, exist_ok=True)
    text = superstore().head(rows).to_csv(index=False)
    (folder / name).write_text(text)
    return key_of(name, text.encode())


def test_two_datasets_that_are_dropped_stand_side_by_side(tmp_path: Path) -> None:
    env = at_home(tmp_path, MNIST_DATASET="embedded", MLFLOW_TRACKING_URI="none")
    folder, compared = tmp_path / "state" / "datasets" / "superstore", tmp_path / "state" / "assets" / "superstore"

    def sizes() -> dict[str, int]:
        try:
            rows: list[dict[str, Any]] = json.loads((compared / "dataset_comparison.json").read_text())
        except FileNotFoundError:
            return {}
        return {row["dataset"]: row["rows"] for row in rows}

    process = daemon(env, tmp_path / "daemon.log").start()
    try:
        first = drop(folder, "orders.csv", 1_000)
        wait("the first dataset", lambda: sizes() == {first: 1_000}, PATIENCE_S, every=2)
        second = drop(folder, "orders.csv", 1_500)  # the same file, with more rows: the code is not touched
        wait("the second dataset", lambda: sizes() == {first: 1_000, second: 1_500}, PATIENCE_S, every=2)
        with instance_of(env) as instance:
            runs = instance.get_runs(SUPERSTORE)
            assert [run.tags["dagster/partition"] for run in runs] == [second, first]
            wait(
                "the end of both runs",
                lambda: [run.status for run in instance.get_runs(SUPERSTORE)] == ENDED,
                PATIENCE_S,
            )
            assert len(instance.fetch_materializations(EVENT, limit=9).records) == 2
    except TimeoutError as error:
        raise AssertionError(f"{error}:\n{process.tail()}") from error
    finally:
        process.end()
