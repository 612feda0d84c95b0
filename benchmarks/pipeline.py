"""The whole graph by Dagster's CLI, each time in a cold process with an empty state folder; and its memory."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.common import Row, child, mnist_folder, spread
from mnist_pipeline.environment import PROJECT
from mnist_pipeline.experiments.courier import COMMAND

TIMES = 3


def materialize_all(env: dict[str, str]) -> tuple[float, float, float]:
    """(seconds, peak GB, test accuracy) of one cold run."""
    with tempfile.TemporaryDirectory() as state:
        night = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "mnist_pipeline.definitions"]
        spent, peak = child(
            [*command, "--select", "+group:prediction", "--partition", night],
            {**env, "MNIST_PIPELINE_STATE": state, "DAGSTER_HOME": str(PROJECT), "MNIST_PIPELINE_TIMEZONE": "UTC"},
        )
        _let_senders_end()
        (report,) = (Path(state) / "models" / "reports").glob("*/*.json")
        return spent, peak, json.loads(report.read_text())["test"]["accuracy"]


def _let_senders_end() -> None:
    """A run does not wait for what carries its records to MLflow; the next measurement has to."""
    while subprocess.run(["pgrep", "-f", COMMAND[-1]], stdout=subprocess.DEVNULL, check=False).returncode == 0:
        time.sleep(0.2)


def run() -> list[Row]:
    """Three rows: embedded, full MNIST, memory; the last two beside a plain script that trains to the same accuracy."""
    small = [materialize_all({"MNIST_DATASET": "embedded"}) for _ in range(TIMES)]
    folder = str(mnist_folder())
    full = [materialize_all({"MNIST_DATASET": "mnist", "MNIST_DATA_DIR": folder}) for _ in range(TIMES)]
    plain, held = child([sys.executable, "-m", "benchmarks.baseline", folder], {})
    embedded, whole = [each[0] for each in small], [each[0] for each in full]
    accuracy, peak = min(each[2] for each in full), max(each[1] for each in full)
    return [
        Row(
            "whole graph by CLI, cold, embedded digits",
            spread(embedded, 1, " s"),
            "–",
            "–",
            "≤ 10 s",
            statistics.mean(embedded) <= 10,
        ),
        Row(
            "whole graph by CLI, cold, full MNIST",
            f"{spread(whole, 1, ' s')} ({accuracy:.2%})",
            f"{plain:.0f} s (a plain script that only trains and tests)",
            f"{plain / statistics.mean(whole):.1f}×",
            "≤ 20 s, ≥ 99.0 %",
            statistics.mean(whole) <= 20 and accuracy >= 0.99,
        ),
        Row(
            "peak memory of that run",
            f"{peak:.2f} GB",
            f"{held:.2f} GB (that script)",
            f"{peak / held:.2f}×",
            "≤ 1.5 GB",
            peak <= 1.5,
        ),
    ]
