"""The real daemon, with nothing touched by hand: from a folder of data to a model in production, and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from digit_files import idx_contents, write_idx
from pipelines import at_home, instance_of
from processes import Process, daemon, wait

from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.sources import read_embedded
from mnist_pipeline.storage.blobs import DiskBlobs
from mnist_pipeline.store import ModelStore

PATIENCE_S = 420.0
STAGES = ("raw_mnist_data", "processed_mnist_data", "digit_classifier", "model_evaluation")
pytestmark = pytest.mark.slow


def write_digits(folder: Path, leave_out: int = 0) -> None:
    """The embedded digits as IDX files, without the first few of the training images."""
    data = read_embedded()
    train = data["train"]
    fewer = LabeledImages(train.images[leave_out:], train.labels[leave_out:])
    write_idx(folder, idx_contents(fewer, data["test"]))


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return at_home(tmp_path, MNIST_DATASET="idx", MNIST_DATA_DIR=str(tmp_path / "data"))


@pytest.fixture
def started(env: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    """dagster-daemon and its code server, with data before them."""
    write_digits(Path(env["MNIST_DATA_DIR"]))
    process = daemon(env, tmp_path / "daemon.log").start()
    yield process
    process.end()


def until(true: Callable[[], bool], process: Process) -> float:
    """Seconds that it took."""
    begun = time.monotonic()
    try:
        wait("what was to come", true, PATIENCE_S, every=2)
    except TimeoutError as error:
        raise AssertionError(f"{error}:\n{process.tail()}") from error
    return time.monotonic() - begun


def counts(instance: dg.DagsterInstance) -> dict[str, int]:
    """How often each asset was made."""
    return {name: len(instance.fetch_materializations(dg.AssetKey(name), limit=100).records) for name in STAGES}


def test_from_data_to_production_and_again_when_the_data_changes(
    started: Process, env: dict[str, str], tmp_path: Path
) -> None:
    store = ModelStore(DiskBlobs(tmp_path / "state" / "models"))
    data = Path(env["MNIST_DATA_DIR"])
    with instance_of(env) as instance:
        first = until(lambda: store.current() is not None, started)
        assert set(counts(instance).values()) == {1}
        served = store.production()

        write_digits(data)  # the same, written again
        (data / "classes.txt").write_text("".join(f"{digit}\n" for digit in range(10)))  # the content is another
        until(lambda: counts(instance)["raw_mnist_data"] == 2, started)
        time.sleep(75)  # two ticks and more
        assert counts(instance) == {**dict.fromkeys(STAGES, 1), "raw_mnist_data": 2}

        write_digits(data, leave_out=7)
        again = until(lambda: len(store.decisions()) == 2, started)
        assert counts(instance) == {**dict.fromkeys(STAGES, 2), "raw_mnist_data": 3}
        assert served in store.versions()
        assert len(store.versions()) == 2
        assert [run for run in instance.get_runs() if run.status == dg.DagsterRunStatus.FAILURE] == []
    print(f"first cycle {first:.0f} s, again {again:.0f} s")
