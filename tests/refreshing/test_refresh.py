"""The doors to a refresh, over the graph of the digits: `make refresh`, and the job in the UI."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import pytest
from pipelines import TINY, UP_TO_DEPLOYMENT, Pipeline, at_home, call, instance_of

from mnist_pipeline.alerts.kinds import Alert
from mnist_pipeline.datasets.files import Datasets
from mnist_pipeline.refreshing.reports import Report
from mnist_pipeline.refreshing.waves import REFRESH, refresh
from mnist_pipeline.sensors.telling import Position, tell_runs

pytestmark = pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")  # of Definitions.map_asset_specs

REPORT = dg.AssetKey("model_evaluation")
HEAVY = {"torch", "torchvision", "mlflow", "sklearn", "matplotlib", "onnxruntime", "scipy", "pandas", "numpy", "PIL"}
COUNT = f"""
import sys
from mnist_pipeline.refreshing.__main__ import main
status = main()
print("heavy:", *sorted({HEAVY!r} & set(sys.modules)))
sys.exit(status)
"""


def with_other_code(definitions: dg.Definitions, asset: str) -> dg.Definitions:
    """As if somebody had worked on it."""
    changed = dg.AssetKey(asset)
    return definitions.map_asset_specs(
        func=lambda spec: spec.replace_attributes(code_version="other") if spec.key == changed else spec
    )


def refreshed(pipeline: Pipeline, definitions: dg.Definitions) -> Report:
    return refresh(definitions.get_repository_def(), pipeline.instance, "x", lambda line: None)


def ran(report: Report) -> list[str]:
    return [str(each.target) for each in report.done]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a pipeline in which everything is up to date: small digits first, then a refresh."""
    folder = tmp_path_factory.mktemp("refreshed")
    env = at_home(folder, MNIST_DATASET="embedded", MLFLOW_TRACKING_URI="none")
    made = Pipeline(folder / "state", MLFLOW_TRACKING_URI="none")
    with instance_of(env) as instance:
        made.instance = instance
        made.run(*UP_TO_DEPLOYMENT, digit_classifier=TINY)
    done = call("-m", "mnist_pipeline.refreshing", **env)
    assert done.returncode == 0, done.stdout
    assert not any(f"ran     {asset} " in done.stdout for asset in UP_TO_DEPLOYMENT)
    return env


@pytest.fixture
def instance(home: dict[str, str]) -> Iterator[dg.DagsterInstance]:
    with instance_of(home) as opened:
        yield opened


@pytest.fixture
def pipeline(home: dict[str, str], instance: dg.DagsterInstance) -> Pipeline:
    """It, here."""
    found = Pipeline(Path(home["MNIST_PIPELINE_STATE"]), MLFLOW_TRACKING_URI="none")
    found.instance = instance
    return found


@pytest.mark.slow
def test_with_nothing_to_do_it_runs_nothing_and_imports_nothing_heavy(
    home: dict[str, str], instance: dg.DagsterInstance
) -> None:
    before = len(instance.get_runs())
    done = call("-c", COUNT, **home)
    assert done.returncode == 0, done.stderr
    *lines, heavy = done.stdout.splitlines()
    assert heavy == "heavy:"
    kept = [line.split() for line in lines if line.startswith("  kept")]
    assert all(["kept", asset, "up", "to", "date"] in kept for asset in UP_TO_DEPLOYMENT)
    (request,) = (line for line in done.stdout.splitlines() if "made on request only: " in line)
    assert {"batch_digit_predictions", "digit_predictions", "drift_report", "ab_report"} <= set(
        request.replace(",", "").split()
    )
    assert re.fullmatch(r"  0 ran, \d+ kept: everything is up to date, [\d.]+ s", lines[-1])
    assert len(instance.get_runs()) == before


@pytest.mark.slow
def test_new_code_of_the_evaluation_evaluates_and_an_equal_report_decides_nothing(pipeline: Pipeline) -> None:
    report = refreshed(pipeline, with_other_code(pipeline.definitions, "model_evaluation"))
    assert (report.well, ran(report)) == (True, ["model_evaluation"])
    assert report.done[0].why == "its code has changed"
    again = refreshed(pipeline, pipeline.definitions)  # and back
    assert ran(again) == ["model_evaluation"]


@pytest.mark.slow
def test_new_code_of_the_gate_and_a_rollback_change_nothing(pipeline: Pipeline) -> None:
    for asset in ("production_digit_classifier", "digit_predictions", "batch_digit_predictions"):
        assert ran(refreshed(pipeline, with_other_code(pipeline.definitions, asset))) == []
    forced = {"strategy": "force", "reason": "by hand"}
    pipeline.run("production_digit_classifier", production_digit_classifier=forced)
    assert ran(refreshed(pipeline, pipeline.definitions)) == []


@pytest.mark.slow
def test_the_job_makes_what_is_out_of_date_in_runs_of_its_own(
    home: dict[str, str], instance: dg.DagsterInstance
) -> None:
    instance.wipe_assets([REPORT])
    done = job(home)
    assert done.returncode == 0, done.stderr[-3_000:]
    inner, outer = instance.get_runs(limit=2)
    assert (outer.job_name, outer.status) == ("refresh", dg.DagsterRunStatus.SUCCESS)
    assert (inner.asset_selection, inner.status) == ({REPORT}, dg.DagsterRunStatus.SUCCESS)
    assert {run.tags[REFRESH] for run in (inner, outer)} == {outer.run_id}
    (output,) = instance.all_logs(outer.run_id, of_type=dg.DagsterEventType.STEP_OUTPUT)
    metadata = output.get_dagster_event().step_output_data.metadata
    assert metadata["run 1"] == dg.MetadataValue.dagster_run(inner.run_id)
    assert re.search(r"ran +model_evaluation +[\d.]+ s  never made", str(metadata["summary"].value))
    assert re.search(r"1 ran, \d+ kept: everything is up to date", str(metadata["summary"].value))


@pytest.mark.slow
@pytest.mark.parametrize("door", ["command", "job"])
def test_a_csv_file_that_was_dropped_is_run_on(home: dict[str, str], instance: dg.DagsterInstance, door: str) -> None:
    """A bad one, which is soon told."""
    folder = Path(home["MNIST_PIPELINE_STATE"]) / "datasets" / "superstore"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "late.csv").write_text("no\ntable\n")
    key = Datasets(folder).read("late.csv").key
    try:
        done = job(home) if door == "job" else call("-m", "mnist_pipeline.refreshing", **home)
        assert done.returncode == 1
        (run,) = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": key}), limit=1)
        assert run.asset_selection == {dg.AssetKey(["superstore", "raw_data"])}
        if door == "command":
            assert re.search(rf"new +superstore \[{key}\] +.*late\.csv", done.stdout)
            assert re.search(rf"FAILED +superstore/raw_data \[{key}\]", done.stdout)
    finally:
        (folder / "late.csv").unlink()
        instance.delete_dynamic_partition("superstore_datasets", key)


def job(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return call("-m", "dagster", "job", "execute", "-m", "mnist_pipeline.definitions", "-j", "refresh", **env)


class Listener:
    """What was told."""

    def __init__(self) -> None:
        self.told: list[Alert] = []

    def send(self, alerts: Sequence[Alert]) -> None:
        self.told += alerts


@pytest.mark.slow
def test_what_fails_in_it_ends_it_red_and_is_told_once(home: dict[str, str], instance: dg.DagsterInstance) -> None:
    """The last test of this module: the model is gone."""
    models = Path(home["MNIST_PIPELINE_STATE"]) / "models"
    models.rename(models.with_name("gone"))
    instance.wipe_assets([REPORT])
    try:
        done = call("-m", "mnist_pipeline.refreshing", **home)
        assert done.returncode == 1
        assert re.search(r"FAILED  model_evaluation .*digitcnn-", done.stdout)
        assert "out of date" not in done.stdout.split("production_digit_classifier")[0]
        assert "model_evaluation before it is out of date" in done.stdout
        listener, position = Listener(), Position(0.0)
        tell_runs(instance, listener, position, 0.0)  # type: ignore[arg-type]
        listener.told.clear()
        assert job(home).returncode != 0
        outer, inner = sorted(instance.get_runs(limit=2), key=lambda run: run.job_name != "refresh")
        assert {outer.status, inner.status} == {dg.DagsterRunStatus.FAILURE}
        tell_runs(instance, listener, position, 0.0)  # type: ignore[arg-type]
        assert [each.id for each in listener.told] == [f"{inner.run_id}:failed"]
    finally:
        models.with_name("gone").rename(models)
