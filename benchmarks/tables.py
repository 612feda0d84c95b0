"""Both tables by Dagster's CLI, each time in a cold process; and what a refresh saves, on breast cancer."""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Row, child, spread
from mnist_pipeline.environment import PROJECT

TIMES = 3
MATERIALIZE = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "mnist_pipeline.definitions", "--select"]
DATASETS = [sys.executable, "-m", "mnist_pipeline.datasets"]
REFRESH = [sys.executable, "-m", "mnist_pipeline.refreshing"]
DEEPER = """
import sys
from dataclasses import replace
from mnist_pipeline.ml.tables import tasks
first, *others = tasks.TASKS
tree = first.models["decision_tree"].model_copy(update={"max_depth": 3})
tasks.TASKS = (replace(first, models={**first.models, "decision_tree": tree}), *others)
from mnist_pipeline.refreshing.__main__ import main
sys.exit(main())
"""
RAN = re.compile(r"^  ran +(\S+(?: \[.*\])?) +([0-9.]+) s", re.MULTILINE)


@contextmanager
def home(**more: str) -> Iterator[dict[str, str]]:
    """An empty instance with a state of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
        yield {
            "DAGSTER_HOME": folder,
            "MNIST_PIPELINE_STATE": f"{folder}/state",
            "MNIST_DATASET": "embedded",
            "MLFLOW_TRACKING_URI": "none",
            **more,
        }


def best(env: dict[str, str], name: str) -> dict[str, float]:
    """The first row of a comparison that was made."""
    path = Path(env["MNIST_PIPELINE_STATE"], "assets", f"{name}.json")
    found: dict[str, float] = json.loads(path.read_text())["models"][0]
    return found


def breast_cancer() -> tuple[float, dict[str, float]]:
    """Seconds of one cold run of all assets, and the best model."""
    with home() as env:
        spent, _ = child([*MATERIALIZE, "key:breast_cancer/*"], env)
        return spent, best(env, "breast_cancer/comparison")


def superstore(csv: str) -> tuple[float, dict[str, float]]:
    """The same of the real CSV file."""
    with home(SUPERSTORE_CSV=csv) as env:
        told = output(DATASETS, env)
        *_, command = re.findall(r"--partition (\S+)", told)  # the embedded table comes first
        spent, _ = child([*MATERIALIZE, "key:superstore/*", "--partition", command], env)
        return spent, best(env, f"superstore/comparison/{command}")


@dataclass(frozen=True)
class Refreshes:
    """Seconds of all assets in a first refresh, of those of breast cancer among them, of those that run after one depth
    was changed, and of whole commands that find nothing to do."""

    project: float
    table: float
    part: float
    idle: list[float]


def refreshes(csv: str) -> Refreshes:
    """Of a project with the embedded digits, breast cancer and the real Superstore table."""
    with home(SUPERSTORE_CSV=csv) as env:
        output(DATASETS, env)
        whole = ran(output(REFRESH, env))
        idle = [child(REFRESH, env)[0] for _ in range(TIMES)]
        part = ran(output([sys.executable, "-c", DEEPER], env))
    table = {name: spent for name, spent in whole.items() if name.startswith("breast_cancer/")}
    return Refreshes(sum(whole.values()), sum(table.values()), sum(part.values()), idle)


def ran(told: str) -> dict[str, float]:
    """Asset -> seconds, from what a refresh prints."""
    return {name: float(spent) for name, spent in RAN.findall(told)}


def output(command: list[str], env: dict[str, str]) -> str:
    """What it prints. Raises CalledProcessError."""
    return subprocess.run(command, env={**os.environ, **env}, check=True, capture_output=True, text=True).stdout


def run() -> list[Row]:
    """Seven rows. Exits with what to do where the real Superstore table is not named."""
    csv = os.environ.get("SUPERSTORE_CSV")
    if not csv:
        sys.exit("the benchmarks measure on the real Superstore table: set SUPERSTORE_CSV to its file")
    cancer, store = [breast_cancer() for _ in range(TIMES)], [superstore(csv) for _ in range(TIMES)]
    found = refreshes(csv)
    tumours, orders = ([each[0] for each in of] for of in (cancer, store))
    accuracy, auc = folds_accuracy(), store[0][1]["test_roc_auc"]
    return [
        _at_most("breast cancer, all assets by CLI, cold", tumours, 6),
        _at_most("Superstore, real CSV, all assets by CLI, cold", orders, 12),
        _at_most("`make refresh` with nothing to do", found.idle, 3),
        _share("`make refresh` after one model's depth changed", found.part, found.project, "all assets", 5),
        _share("… beside its own table", found.part, found.table, "breast cancer's assets", None),
        Row("breast cancer, best accuracy, 5×5 folds", f"{accuracy:.1%}", "–", "–", "≥ 95 %", accuracy >= 0.95),
        Row("Superstore, ROC-AUC of the best on test", f"{auc:.3f}", "–", "–", "≥ 0.95", auc >= 0.95),
    ]


def folds_accuracy() -> float:
    """The best of the four models on breast cancer, by mean accuracy over 5×5 folds of the training part."""
    from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER as TASK
    from mnist_pipeline.ml.tables.door import checked
    from mnist_pipeline.ml.tables.embedded import breast_cancer
    from mnist_pipeline.ml.tables.learning import learn
    from mnist_pipeline.ml.tables.preparing import counted, prepared, split

    table = split(prepared(checked(counted(breast_cancer()), TASK, "embedded"), TASK), TASK, TASK.seed)
    return max(learn(table, TASK, settings).numbers["folds_accuracy"] for settings in TASK.models.values())


def _at_most(what: str, spent: list[float], bar: float) -> Row:
    return Row(what, spread(spent, 1, " s"), "–", "–", f"≤ {bar:.0f} s", statistics.mean(spent) <= bar)


def _share(what: str, part: float, whole: float, name: str, bar: int | None) -> Row:
    said = (f"{part:.1f} s", f"{whole:.1f} s ({name})", f"1/{whole / part:.1f}")
    return Row(what, *said, f"≤ 1/{bar}" if bar else "–", not bar or part <= whole / bar)
