"""`python -m mnist_pipeline.run`: from nothing to predictions, and a summary that fits a screen."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import datetime, timezone
from io import StringIO
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from pipelines import ROOT, TINY, call, instance_of

from mnist_pipeline.refreshing.__main__ import main as refresh
from mnist_pipeline.run import main
from mnist_pipeline.storage.blobs import DiskBlobs
from mnist_pipeline.store import ModelStore
from mnist_pipeline.tune import main as tune

CONFIG = str({**TINY, "min_steps": 120}).replace("'", '"')
LINES, COLUMNS = 24, 200


class Ran:
    """Two runs one after the other over the same state folder, the second in this process, which saves its imports."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.first = run(state)
        printed = StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
            for name, value in {"MNIST_DATASET": "embedded", **home(state)}.items():
                patch.setenv(name, value)
            self.second_status = main(["--config", CONFIG])
        self.second = printed.getvalue()

    @property
    def store(self) -> ModelStore:
        return ModelStore(DiskBlobs(self.state / "models"))


def run(state: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    settings = {"MNIST_DATASET": "embedded", **home(state), **env}
    return call("-m", "mnist_pipeline.run", "--config", CONFIG, *arguments, **settings)


def home(state: Path) -> dict[str, str]:
    """As `make run` sets it."""
    return {"DAGSTER_HOME": str(ROOT), "MNIST_PIPELINE_STATE": str(state)}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("ran") / "state")


def test_it_ends_well_and_the_summary_fits_a_screen(ran: Ran) -> None:
    assert ran.first.returncode == 0, ran.first.stderr[-3_000:]
    lines = ran.first.stdout.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS


def test_the_summary_says_what_was_done_and_what_to_do_next(ran: Ran) -> None:
    said, (version,) = ran.first.stdout, ran.store.versions()
    assert "1,797 images: the 1,797 embedded digits of scikit-learn" in said
    assert re.search(r"test accuracy +\d\d\.\d\d%  \(95 % interval \d\d\.\d\d% to \d+\.\d\d%, 360 images\)", said)
    assert re.search(r"decision +1: deployed: accuracy 0\.\d+ above 0\.95", said)
    assert re.search(rf"in production +{version}", said)
    assert re.search(rf"trained +{version}", said)
    assert re.search(r"predictions +200 tonight, 0 quarantined: .*\.parquet", said)
    assert re.search(r"seconds +[\d.]+ +\(data [\d.]+ +training [\d.]+ +evaluation [\d.]+ +deployment [\d.]+", said)
    assert str(ran.state / "pictures") in said
    commands = said.split("Next:")[1].strip().splitlines()
    assert len(commands) == 3
    assert all("make " in command for command in commands)


def test_the_log_has_a_short_line_for_what_happened_and_no_noise(ran: Ran) -> None:
    lines = [line for line in ran.first.stderr.splitlines() if re.match(r"\d\d:\d\d:\d\d  ", line)]
    assert any("epoch 1/" in line for line in lines)
    assert any("decision 1" in line for line in lines)
    assert not [line for line in ran.first.stderr.splitlines() if "DEBUG" in line or "Warning" in line]


def test_the_inbox_was_filled_once_with_200_test_images(ran: Ran) -> None:
    night = _tonight()
    assert len(list((ran.state / "inbox" / ".claimed" / night).glob("*.png"))) == 200
    table = pq.ParquetFile(ran.state / "predictions" / f"{night}.parquet").read()
    assert len(table) == len(set(table["file"].to_pylist())) == 200
    assert not list((ran.state / "inbox").glob("*.png"))


def test_it_can_be_run_again(ran: Ran) -> None:
    assert ran.second_status == 0
    assert len(ran.store.versions()) == 1  # same data, same seed: the same version
    assert "decision       2: kept: " in ran.second
    assert "predictions    200 tonight, 0 quarantined" in ran.second


def test_where_production_stays_the_summary_says_what_was_trained_and_what_serves(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ran.state, tmp_path / "state")
    for name, value in {"MNIST_DATASET": "embedded", **home(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    assert main(["--config", CONFIG.replace("}", ', "seed": 1}')]) == 0
    (serves,), both = ran.store.versions(), ModelStore(DiskBlobs(tmp_path / "state" / "models")).versions()
    (trained,) = set(both) - {serves}
    said = capsys.readouterr().out
    assert re.search(rf"trained +{trained}$", said, re.MULTILINE)
    assert re.search(r"decision +3: (kept|not deployed): ", said)
    assert re.search(rf"in production +{serves}$", said, re.MULTILINE)
    assert len(said.splitlines()) <= LINES


def test_the_runs_are_in_the_instance_afterwards(ran: Ran) -> None:
    with instance_of(home(ran.state)) as instance:
        runs = [(each.job_name, each.status) for each in instance.get_runs()]
        assert (
            sorted(runs)
            == [("batch_inference", dg.DagsterRunStatus.SUCCESS)] * 2
            + [("make_model", dg.DagsterRunStatus.SUCCESS)] * 2
        )
        assert len(instance.all_asset_keys()) == 8


def test_pictures_are_where_the_summary_says(ran: Ran) -> None:
    pictures = {path.relative_to(ran.state / "pictures").as_posix() for path in (ran.state / "pictures").rglob("*.png")}
    assert {"raw_mnist_data/samples.png", "model_evaluation/confusion.png", "digit_predictions/answers.png"} <= pictures


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that `main` finds, called in this process."""
    for name, value in {"MNIST_DATASET": "embedded", **home(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "state"


def test_a_source_that_fails_ends_it_with_the_cause_and_deploys_nothing(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("MNIST_DATASET", "mnist")
    monkeypatch.setenv("MNIST_DATA_DIR", str(empty))
    assert main([]) == 1
    said = capsys.readouterr().out
    assert "FAILED in raw_mnist_data:" in said
    assert f"{empty} has no train-images-idx3-ubyte.gz" in said
    assert len(said.splitlines()) <= LINES
    assert not (state / "models").exists()
    assert not (state / "inbox").exists()
    with instance_of(home(state)) as instance:
        assert [each.status for each in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]


@pytest.mark.usefixtures("state")
def test_a_setting_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", '{"epoch": 3}']) == 2
    assert 'Received unexpected config entry "epoch"' in capsys.readouterr().err


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("door", [main, refresh, tune])
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MNIST_PIPELINE_ENV", "staging", "unknown environment 'staging': MNIST_PIPELINE_ENV is one of dev, prod"),
        ("MNIST_DATASET", "minst", "MNIST_DATASET='minst': it is one of auto, mnist"),
        ("MNIST_PIPELINE_TIMEZONE", "Mars", "MNIST_PIPELINE_TIMEZONE='Mars' is no timezone"),
    ],
)
def test_a_variable_that_is_wrong_is_told_in_a_line(
    door: Callable[[], int],
    name: str,
    value: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["program"])
    with pytest.raises(SystemExit, match="2"):
        door()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"Nothing was run: {says}")


@pytest.mark.parametrize("text", ["epochs=3", "[3]"])
def test_settings_that_are_no_json_object_are_refused_with_an_example(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--config", text])
    assert 'write it like {"epochs": 3}' in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--preset", "fats"], ["--presets", "fast"]])
def test_a_wrong_argument_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    said = capsys.readouterr().err
    assert arguments[0].removesuffix("s") in said
    assert "fast" in said


def _tonight() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")
