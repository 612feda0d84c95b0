"""raw_mnist_data and processed_mnist_data: what they say about themselves, and checks that fail when they should."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from digit_files import digits, idx_contents, write_idx
from pipelines import DATA, PROD, TINY, Pipeline, data_version, metadata, verdicts

from mnist_pipeline import retries
from mnist_pipeline.acquire import SourceUnavailable
from mnist_pipeline.assets.causes import Target
from mnist_pipeline.assets.data import processed_data_checks, raw_data_checks
from mnist_pipeline.ml import idx
from mnist_pipeline.ml.digits import DigitData, LabeledImages
from mnist_pipeline.ml.sources import BadSource
from mnist_pipeline.ml.split import split_digits
from mnist_pipeline.refreshing.standings import Observer

NOWHERE = "http://127.0.0.1:9/"


def changed(data: DigitData, **parts: LabeledImages) -> DigitData:
    return DigitData({**data.parts, **parts}, data.origin)


def joined(one: LabeledImages, other: LabeledImages) -> LabeledImages:
    return LabeledImages(np.concatenate([one.images, other.images]), np.concatenate([one.labels, other.labels]))


def failures(results: Iterable[dg.AssetCheckResult]) -> set[str | None]:
    return {each.check_name for each in results if not each.passed}


@pytest.fixture
def raw(finished: Pipeline) -> DigitData:
    return finished.digits("raw_mnist_data")


@pytest.fixture
def processed(finished: Pipeline) -> DigitData:
    return finished.digits()


# --- what the assets say ---


def test_raw_data_says_where_it_comes_from_and_what_is_in_it(result: dg.ExecuteInProcessResult, raw: DigitData) -> None:
    said = metadata(result, "raw_mnist_data")
    assert "1,797 embedded digits of scikit-learn" in said["source"]
    assert (said["dataset"], said["fallback"], said["classes"]) == ("embedded", False, 10)
    assert (said["images"], said["train_images"], said["test_images"]) == (1797, 1437, 360)
    assert said["sha256"] == raw.digest()
    pixels = raw["train"].images / 255
    assert (said["pixel_mean"], said["pixel_std"]) == (pytest.approx(pixels.mean()), pytest.approx(pixels.std()))


def test_processed_data_says_how_it_was_split(result: dg.ExecuteInProcessResult) -> None:
    said = metadata(result, "processed_mnist_data")
    assert (said["train_images"], said["validation_images"], said["test_images"]) == (1149, 288, 360)
    assert (said["test_images_also_in_train"], said["test_images_also_in_validation"]) == (0, 0)


@pytest.mark.parametrize("asset", ["raw_mnist_data", "processed_mnist_data"])
@pytest.mark.parametrize("picture", ["class_distribution", "samples"])
def test_a_picture_is_shown_in_the_ui_and_kept_as_a_file(
    finished: Pipeline, result: dg.ExecuteInProcessResult, asset: str, picture: str
) -> None:
    shown = metadata(result, asset)[picture]
    before, encoded = shown.removesuffix(")").split("base64,")
    assert before == f"![{picture}](data:image/png;"
    png = base64.b64decode(encoded, validate=True)
    assert png.startswith(b"\x89PNG")
    assert png == (finished.state / "pictures" / asset / f"{picture}.png").read_bytes()


@pytest.mark.parametrize("asset", DATA)
def test_the_data_version_is_the_digest_of_the_content(
    finished: Pipeline, result: dg.ExecuteInProcessResult, asset: str
) -> None:
    assert data_version(result, asset) == finished.digits(asset).digest()


def test_the_same_data_again_has_the_same_version_and_passes_every_check(
    fresh: Pipeline, result: dg.ExecuteInProcessResult
) -> None:
    again = fresh.run(*DATA)
    assert [data_version(again, asset) for asset in DATA] == [data_version(result, asset) for asset in DATA]
    assert len(verdicts(again)) == 7
    assert all(verdicts(again).values())


def test_the_split_is_stratified_and_the_test_set_is_never_touched(raw: DigitData, processed: DigitData) -> None:
    assert processed["test"].images.tobytes() == raw["test"].images.tobytes()
    assert processed["test"].labels.tobytes() == raw["test"].labels.tobytes()
    train, validation = (np.bincount(processed[part].labels) for part in ("train", "validation"))
    assert np.abs(validation / (train + validation) - 0.2).max() < 0.01
    both = joined(processed["train"], processed["validation"])
    assert sorted(map(bytes, both.images)) == sorted(map(bytes, raw["train"].images))
    assert both.images.dtype == np.uint8


# --- configuration ---


def test_share_and_seed_of_the_split_are_read(pipeline: Pipeline, result: dg.ExecuteInProcessResult) -> None:
    before = data_version(result, "processed_mnist_data")
    larger = pipeline.run("processed_mnist_data", processed_mnist_data={"validation_share": 0.3})
    assert metadata(larger, "processed_mnist_data")["validation_images"] == 432
    assert verdicts(larger)["split_is_in_proportion"]
    assert pipeline.digits().origin.validation_share == 0.3
    other = pipeline.run("processed_mnist_data", processed_mnist_data={"seed": 1})
    assert metadata(other, "processed_mnist_data")["validation_images"] == 288
    assert data_version(other, "processed_mnist_data") != before
    as_before = pipeline.run("processed_mnist_data")
    assert data_version(as_before, "processed_mnist_data") == before


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"validation_shore": 0.3}, "validation_shore"),
        ({"validation_share": 0.6}, "validation_share"),
        ({"validation_share": 0.001}, "validation_share"),
    ],
)
def test_a_wrong_setting_of_the_split_is_named_and_the_data_stays(
    pipeline: Pipeline, config: dict[str, float], named: str
) -> None:
    before = pipeline.digits().digest()
    with pytest.raises((dg.DagsterError, ValueError), match=named):
        pipeline.run("processed_mnist_data", processed_mnist_data=config)
    assert pipeline.digits().digest() == before


# --- sources ---


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxy")
def test_dev_falls_back_to_the_embedded_digits_and_nobody_can_miss_it(tmp_path: Path) -> None:
    offline = Pipeline(tmp_path / "state", MNIST_DATASET="auto", MNIST_MIRROR=NOWHERE)
    ran = offline.run("raw_mnist_data")
    said = metadata(ran, "raw_mnist_data")
    assert (said["dataset"], said["fallback"]) == ("embedded", True)
    assert "not the full MNIST" in said["source"]
    assert [name for name, passed in verdicts(ran).items() if not passed] == ["is_what_was_asked_for"]
    (warning,) = [entry for entry in offline.instance.all_logs(ran.run_id) if "COULD NOT BE HAD" in entry.user_message]
    assert warning.level == 30
    assert NOWHERE in warning.user_message


@pytest.mark.usefixtures("no_proxy")
def test_prod_takes_no_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)
    prod = Pipeline(tmp_path / "state", MNIST_PIPELINE_ENV="prod", MNIST_DATASET="auto", MNIST_MIRROR=NOWHERE, **PROD)
    with pytest.raises(SourceUnavailable, match="MNIST_DATA_DIR"):
        prod.run("raw_mnist_data")
    assert not list(prod.state.rglob("*.safetensors"))


def test_an_empty_folder_is_an_error_and_what_was_there_stays(finished: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    emptied = finished.copy(tmp_path / "state", MNIST_DATASET="mnist", MNIST_DATA_DIR=str(tmp_path / "empty"))
    with pytest.raises(BadSource, match=f"{tmp_path}/empty has no train-images-idx3-ubyte.gz"):
        emptied.run("raw_mnist_data")
    assert emptied.digits("raw_mnist_data").digest() == finished.digits("raw_mnist_data").digest()


@pytest.mark.parametrize(
    ("setting", "value"), [("MNIST_DATASET", "minst"), ("MNIST_PREPARATION", "smear"), ("MNIST_DATASET", "idx")]
)
def test_a_wrong_setting_of_the_source_is_named(tmp_path: Path, setting: str, value: str) -> None:
    with pytest.raises((ValueError, SourceUnavailable), match=f"(?s)MNIST_.*{value}"):
        Pipeline(tmp_path / "state", **{setting: value}).run("raw_mnist_data")


def test_nothing_is_trained_on_data_that_leaks(raw: DigitData, tmp_path: Path) -> None:
    """A blocking check stops the run: one's own IDX files, whose test images are training images too."""
    own = tmp_path / "own"
    own.mkdir()
    for file, array in {
        "train-images-idx3-ubyte": raw["train"].images,
        "train-labels-idx1-ubyte": raw["train"].labels,
        "t10k-images-idx3-ubyte": raw["train"].images[:300],
        "t10k-labels-idx1-ubyte": raw["train"].labels[:300],
    }.items():
        (own / file).write_bytes(idx.dump(array))
    leaking = Pipeline(tmp_path / "state", MNIST_DATASET="idx", MNIST_DATA_DIR=str(own))
    ran = leaking.try_run(*DATA, "digit_classifier", digit_classifier=TINY)
    assert not ran.success
    assert [name for name, passed in verdicts(ran).items() if not passed] == ["nothing_leaks"]
    said = metadata(ran, "processed_mnist_data")
    assert said["test_images_also_in_train"] + said["test_images_also_in_validation"] == 300
    assert leaking.store.versions() == []


def test_the_files_that_were_read_are_noted_so_that_other_ones_are_seen(tmp_path: Path) -> None:
    own = write_idx(tmp_path / "own", idx_contents(digits(40), digits(20, seed=1)))
    pipeline = Pipeline(tmp_path / "state", MNIST_DATASET="idx", MNIST_DATA_DIR=str(own))
    pipeline.run("raw_mnist_data")
    assert standing(pipeline) == ()
    pipeline.run("raw_mnist_data")
    assert standing(pipeline) == ()
    write_idx(own, idx_contents(digits(50, seed=2), digits(20, seed=1)))
    assert standing(pipeline) == ("its source has changed",)
    other = pipeline.copy(tmp_path / "other", MNIST_PREPARATION="resize")
    other.instance = pipeline.instance
    pipeline.run("raw_mnist_data")
    assert (standing(pipeline), standing(other)) == ((), ("its source has changed",))


def standing(pipeline: Pipeline) -> tuple[str, ...]:
    """Why the raw data is out of date."""
    repository = pipeline.definitions.get_repository_def()
    observer = Observer(repository, pipeline.instance, pipeline.definitions.resources or {})
    return observer.look(())[Target(dg.AssetKey("raw_mnist_data"))].causes


# --- checks, called with data that is bad in one way ---


def test_checks_pass_on_good_data(raw: DigitData, processed: DigitData) -> None:
    assert failures(raw_data_checks(raw)) == set()
    assert failures(processed_data_checks(processed, raw)) == set()


def test_a_missing_image_is_noticed(raw: DigitData) -> None:
    short = changed(raw, train=raw["train"].take(np.arange(len(raw["train"]) - 1)))
    assert failures(raw_data_checks(short)) == {"is_complete"}


def test_of_data_of_ones_own_nobody_knows_how_much_there_should_be(raw: DigitData) -> None:
    own = DigitData({**raw.parts, "train": raw["train"].take(np.arange(1000))}, replace(raw.origin, dataset="images"))
    assert failures(raw_data_checks(own)) == set()


@pytest.mark.parametrize("part", ["train", "test"])
def test_label_10_is_noticed(raw: DigitData, part: str) -> None:
    labels = raw[part].labels.copy()
    labels[3] = 10
    wrong = changed(raw, **{part: LabeledImages(raw[part].images, labels)})
    assert failures(raw_data_checks(wrong)) == {"labels_are_valid"}


def test_a_rare_class_is_noticed(raw: DigitData) -> None:
    thinned = {
        part: raw[part].take(
            np.sort(np.r_[np.flatnonzero(raw[part].labels != 3), np.flatnonzero(raw[part].labels == 3)[:5]])
        )
        for part in raw.parts
    }
    rare = DigitData(thinned, replace(raw.origin, dataset="images"))
    assert failures(raw_data_checks(rare)) == {"classes_are_balanced"}


def test_the_fallback_is_noticed(raw: DigitData) -> None:
    assert failures(raw_data_checks(replace(raw, origin=replace(raw.origin, fallback=True)))) == {
        "is_what_was_asked_for"
    }


def test_a_split_that_is_not_stratified_is_noticed(raw: DigitData, processed: DigitData) -> None:
    both = joined(processed["train"], processed["validation"])
    by_class = both.take(np.argsort(both.labels, kind="stable"))
    cut = changed(
        processed, train=by_class.take(np.arange(1149)), validation=by_class.take(np.arange(1149, len(by_class)))
    )
    assert failures(processed_data_checks(cut, raw)) == {"split_is_stratified"}


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_lost_image_is_noticed(raw: DigitData, processed: DigitData, part: str) -> None:
    lost = changed(processed, **{part: processed[part].take(np.arange(1, len(processed[part])))})
    assert failures(processed_data_checks(lost, raw)) == {"split_is_in_proportion"}


@pytest.mark.parametrize(("asked", "given"), [(0.2, 0.3), (0.2, 0.19), (0.3, 0.2), (0.2, 0.5), (0.2, 0.202)])
def test_another_share_than_was_asked_for_is_noticed(raw: DigitData, asked: float, given: float) -> None:
    split = split_digits(raw, given, 0)
    wrong = replace(split, origin=replace(split.origin, validation_share=asked))
    assert failures(processed_data_checks(wrong, raw)) == {"split_is_in_proportion"}


@pytest.mark.parametrize("share", [0.01, 0.123, 0.2, 1 / 3, 0.5])
def test_the_share_that_was_asked_for_passes_whatever_it_is_rounded_to(raw: DigitData, share: float) -> None:
    assert failures(processed_data_checks(split_digits(raw, share, 0), raw)) == set()


def few(raw: DigitData, images: int) -> DigitData:
    """So many images of each of the classes 3, 5 and 8 to learn from, which become the classes 0, 1 and 2."""
    rows = [np.flatnonzero(raw["train"].labels == label)[:images] for label in (3, 5, 8)]
    train = LabeledImages(raw["train"].images[np.concatenate(rows)], np.repeat(np.arange(3, dtype=np.uint8), images))
    return DigitData({**raw.parts, "train": train}, replace(raw.origin, dataset="images", class_names=("3", "5", "8")))


@pytest.mark.parametrize("images", [5, 7, 17, 48])
def test_few_images_cannot_be_split_in_halves_and_pass(raw: DigitData, images: int) -> None:
    own = few(raw, images)
    assert failures(processed_data_checks(split_digits(own, 0.2, 0), own)) == set()


def test_of_few_images_too_a_split_that_is_not_stratified_is_noticed(raw: DigitData) -> None:
    own = few(raw, 48)
    split = split_digits(own, 0.2, 0)
    of_one_class = {"train": np.arange(29, 144), "validation": np.arange(29)}
    wrong = changed(split, **{part: own["train"].take(rows) for part, rows in of_one_class.items()})
    assert failures(processed_data_checks(wrong, own)) == {"split_is_stratified"}


@pytest.mark.parametrize("part", ["train", "validation"])
def test_test_images_that_stand_elsewhere_are_noticed(raw: DigitData, processed: DigitData, part: str) -> None:
    images = processed[part].images.copy()
    images[:5] = processed["test"].images[:5]
    leaked = changed(processed, **{part: LabeledImages(images, processed[part].labels)})
    assert failures(processed_data_checks(leaked, raw)) == {"nothing_leaks"}


def test_what_blocks_is_an_error_and_what_warns_is_a_warning(raw: DigitData, processed: DigitData) -> None:
    severities = {
        each.check_name: each.severity.value for each in [*raw_data_checks(raw), *processed_data_checks(processed, raw)]
    }
    warned = {name for name, severity in severities.items() if severity == "WARN"}
    assert warned == {"classes_are_balanced", "is_what_was_asked_for"}
