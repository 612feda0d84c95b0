"""The whole pipeline on the full MNIST, as a user runs it. Needs MNIST_DATA_DIR; skipped without."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipelines import ROOT, Pipeline, call, flip_a_bit
from shifts import SHIFTS, drawn, shifted

from mnist_pipeline.ml.artifacts import load_network, torch_logits
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.drift import Comparison, compare
from mnist_pipeline.ml.idx import BadIdx
from mnist_pipeline.ml.images import prepare, read_image
from mnist_pipeline.ml.pixels import pixel_statistics
from mnist_pipeline.ml.predictor import Predictor
from mnist_pipeline.ml.reference import REFERENCE, Sample, read_reference
from mnist_pipeline.ml.sources import BadSource
from mnist_pipeline.production import Production, load_production

FOLDER = Path(os.environ.get("MNIST_DATA_DIR", "")).absolute()  # and not where links lead, which nobody is told
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("MNIST_DATA_DIR" not in os.environ, reason="MNIST_DATA_DIR is not set"),
]
LEAST_ACCURACY = 0.99  # of one run; over seeds it is 99.22 ± 0.06 %
MOST_MEMORY = 1.5e9
TOLERANCE = 1e-4

# Linux counts the memory of a parent to the peak of a forked child, but not to its VmHWM.
MEASURED = """
import atexit, pathlib, resource, runpy, sys

def peak():
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

atexit.register(lambda: print("peak", peak(), file=sys.stderr))
sys.argv = ["mnist_pipeline.run", "--preset", "fast"]
runpy.run_module("mnist_pipeline.run", run_name="__main__")
"""


class Finished:
    """What `make run DATASET=mnist` left behind."""

    def __init__(self, state: Path) -> None:
        settings = {"MNIST_PIPELINE_STATE": str(state), "DAGSTER_HOME": str(ROOT), "MNIST_DATASET": "mnist"}
        env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        command = [sys.executable, "-c", MEASURED]
        self.ended = subprocess.run(
            command, cwd=ROOT, env={**env, **settings}, capture_output=True, text=True, check=False
        )
        self.pipeline = Pipeline(state, MNIST_DATASET="mnist", MNIST_DATA_DIR=str(FOLDER))


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    run = Finished(tmp_path_factory.mktemp("mnist") / "state")
    assert run.ended.returncode == 0, run.ended.stdout + run.ended.stderr[-3_000:]
    return run


@pytest.fixture(scope="module")
def digits(finished_run: Finished) -> DigitData:
    return finished_run.pipeline.digits()


@pytest.fixture(scope="module")
def production(finished_run: Finished) -> Production:
    return load_production(finished_run.pipeline.store)


@pytest.fixture(scope="module")
def expected(finished_run: Finished, digits: DigitData, production: Production) -> np.ndarray:
    """Torch's logits for all test images."""
    card = production.card
    network = load_network(finished_run.pipeline.store.load(card.name), ModelConfig(**card.config), 10)
    return torch_logits(network, digits["test"].images)


def assert_same(logits: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(logits - expected).max() <= TOLERANCE
    np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))


def png(image: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def test_the_preset_fast_is_deployed_with_its_accuracy(finished_run: Finished, production: Production) -> None:
    store = finished_run.pipeline.store
    report = store.report(str(production.decision.evidence["report"]))
    assert report["test"]["images"] == 10_000
    assert report["test"]["accuracy"] >= LEAST_ACCURACY
    assert (production.decision.number, production.decision.outcome) == (1, "deployed")
    assert f"test accuracy  {report['test']['accuracy']:.2%}" in finished_run.ended.stdout


def test_the_data_is_verified_and_split_in_proportion(finished_run: Finished, digits: DigitData) -> None:
    assert f"70,000 images: IDX files in {FOLDER}, verified against the published digests" in finished_run.ended.stdout
    assert digits.origin.fallback is False
    assert {part: len(digits[part]) for part in digits.parts} == {"train": 48_000, "validation": 12_000, "test": 10_000}
    shares = [np.bincount(digits[part].labels) / len(digits[part]) for part in ("train", "validation")]
    assert np.abs(shares[0] - shares[1]).max() < 1e-4


def test_the_whole_run_stays_below_its_memory(finished_run: Finished) -> None:
    (peak,) = re.findall(r"^peak (\d+)$", finished_run.ended.stderr, re.MULTILINE)
    assert int(peak) <= MOST_MEMORY


# --- one answer, whichever way an image comes ---


def test_the_front_door_passes_every_mnist_image_unchanged(digits: DigitData) -> None:
    for part in digits.parts.values():
        changed = [i for i, image in enumerate(part.images) if not np.array_equal(prepare(image), image)]
        assert changed == []


def test_onnx_in_batches_gives_what_torch_gives(
    digits: DigitData, production: Production, expected: np.ndarray
) -> None:
    assert_same(production.predictor.logits(digits["test"].images), expected)


def test_onnx_one_by_one_gives_what_torch_gives(
    digits: DigitData, production: Production, expected: np.ndarray
) -> None:
    images = digits["test"].images
    assert_same(np.concatenate([production.predictor.logits(image[None]) for image in images]), expected)


def test_a_png_through_the_front_door_gives_what_torch_gives(
    digits: DigitData, production: Production, expected: np.ndarray
) -> None:
    read = [read_image(png(image)) for image in digits["test"].images]
    assert all(image is not None for image in read)
    assert_same(production.predictor.logits(np.stack(read)), expected)


def test_a_network_with_another_number_of_threads_gives_the_same(
    finished_run: Finished, digits: DigitData, production: Production, expected: np.ndarray
) -> None:
    alone = Predictor.load(finished_run.pipeline.store.load(production.card.name), threads=1)
    assert_same(alone.logits(digits["test"].images), expected)


# --- drift ---


def compared(finished_run: Finished, production: Production, images: np.ndarray) -> Comparison:
    """With what this version was like when it was new, as the report of a night compares it."""
    reference = read_reference(finished_run.pipeline.store.read_file(production.card.name, REFERENCE))
    met = Sample(pixel_statistics(images), production.predictor.predict(images).probabilities)
    return compare(reference, met, production.card.class_names)


@pytest.mark.parametrize("shift", [name for name in SHIFTS if name != "bars"])
def test_one_night_of_each_shift_is_noticed(
    finished_run: Finished, digits: DigitData, production: Production, shift: str
) -> None:
    verdict = compared(finished_run, production, shifted(digits["test"], shift)).verdict
    assert verdict == ("drift" if shift == "one class missing" else "strong")


def test_an_unchanged_night_is_no_drift(finished_run: Finished, digits: DigitData, production: Production) -> None:
    assert compared(finished_run, production, drawn(digits["test"])).verdict == "none"


# --- damaged data ---


@pytest.mark.parametrize("packed", [True, False], ids=["gzipped", "unpacked"])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_one_flipped_bit_is_refused_and_what_was_there_stays(
    finished_run: Finished, digits: DigitData, tmp_path: Path, file: str, packed: bool
) -> None:
    copied = tmp_path / "mnist"
    copied.mkdir()
    for path in FOLDER.glob("*-ubyte*"):
        (copied / path.name).symlink_to(path)
    source = next(path for path in copied.iterdir() if path.name.startswith(file))
    data = source.read_bytes()
    source.unlink()
    plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    flipped = copied / (f"{file}.gz" if packed else file)
    flipped.write_bytes(gzip.compress(plain, 1) if packed else plain)
    flip_a_bit(flipped)
    state = finished_run.pipeline.state
    before = {path: path.stat().st_mtime_ns for path in (state / "assets").iterdir()}
    damaged = Pipeline(state, MNIST_DATASET="mnist", MNIST_DATA_DIR=str(copied))
    with pytest.raises((BadSource, BadIdx), match=rf"{flipped} is .*etch it again"):
        damaged.run("raw_mnist_data")
    assert {path: path.stat().st_mtime_ns for path in (state / "assets").iterdir()} == before


def test_a_run_on_a_folder_that_lacks_a_file_says_which(tmp_path: Path) -> None:
    for path in list(FOLDER.glob("*-ubyte*"))[:3]:
        (tmp_path / path.name).symlink_to(path)
    state = {"MNIST_PIPELINE_STATE": str(tmp_path / "state"), "DAGSTER_HOME": str(ROOT)}
    failed = call("-m", "mnist_pipeline.run", MNIST_DATASET="mnist", MNIST_DATA_DIR=str(tmp_path), **state)
    assert failed.returncode == 1
    assert re.search(r"FAILED in raw_mnist_data:\n +.*BadSource: \S+ has no \S+-ubyte.gz", failed.stdout)
