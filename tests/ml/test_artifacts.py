"""A version's files: torch and ONNX give the same answers at every batch size, and other answers are refused."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load, save

from mnist_pipeline.ml.architectures import network_for
from mnist_pipeline.ml.artifacts import load_network, pack, to_onnx, torch_logits, version_files
from mnist_pipeline.ml.calibration import calibration_error, fit_temperature
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.conformal import CONFORMAL, conform, sets_of
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.predictor import Predictor, WrongAnswers, softmax
from mnist_pipeline.ml.reference import REFERENCE
from mnist_pipeline.ml.training import Trained, train

TOLERANCE = 1e-4


def test_a_version_is_weights_graph_and_golden_inputs(version: dict[str, bytes], digits: DigitData) -> None:
    assert set(version) == {"weights.safetensors", "model.onnx", "golden.safetensors"}
    golden = load(version["golden.safetensors"])
    assert np.array_equal(golden["images"], digits["validation"].images[:16])
    assert golden["logits"].shape == (16, 10)


def test_the_same_network_is_packed_to_the_same_bytes(trained: Trained, version, digits: DigitData) -> None:
    assert pack(trained.network, digits["validation"].images) == version


@pytest.fixture(scope="module")
def fitted(trained: Trained, digits: DigitData) -> tuple[Trained, dict[str, bytes]]:
    """A copy of what was trained, after its files were put together; and these."""
    own = replace(trained, network=copy.deepcopy(trained.network))
    return own, version_files(own, digits["validation"])


def test_weights_and_graph_carry_the_temperature(
    fitted: tuple[Trained, dict[str, bytes]], trained: Trained, digits: DigitData
) -> None:
    own, files = fitted
    validation, test = digits["validation"], digits["test"]
    expected = fit_temperature(torch_logits(trained.network, validation.images), validation.labels)
    assert float(own.network.temperature) == pytest.approx(expected)
    assert float(load(files["weights.safetensors"])["temperature"]) == pytest.approx(expected)
    scaled = Predictor.load(files, threads=1).logits(test.images)
    plain = torch_logits(trained.network, test.images)
    assert np.abs(scaled * np.float32(expected) - plain).max() <= TOLERANCE
    assert calibration_error(test.labels, softmax(scaled)) < calibration_error(test.labels, softmax(plain))


def test_the_sets_are_of_the_scaled_probabilities(fitted: tuple[Trained, dict[str, bytes]], digits: DigitData) -> None:
    own, files = fitted
    validation, predictor = digits["validation"], Predictor.load(files, threads=1)
    probabilities = predictor.predict(validation.images).probabilities
    expected = conform(probabilities, validation.labels, own.config.coverage)
    assert predictor.sets == sets_of(files)
    assert sets_of(files).threshold == pytest.approx(expected.threshold, abs=1e-5)


def test_another_coverage_gives_other_sets(fitted: tuple[Trained, dict[str, bytes]], digits: DigitData) -> None:
    own, files = fitted
    config = own.config.model_copy(update={"coverage": 0.8})
    other = sets_of(version_files(replace(own, config=config), digits["validation"]))
    assert (other.coverage, sets_of(files).coverage) == (0.8, 0.99)
    assert other.threshold > sets_of(files).threshold


def test_answers_of_five_views_are_those_that_are_stored(digits: DigitData) -> None:
    config = ModelConfig(width_1=3, width_2=4, width_3=5, min_steps=20, five_views=True)
    own = train(digits["train"], digits["validation"], 10, config)
    files, images = version_files(own, digits["validation"]), digits["test"].images
    stored = Predictor.load(files, threads=1).logits(images)
    assert np.abs(stored - torch_logits(load_network(files, config, 10), images)).max() <= TOLERANCE
    own.network.five_views = False
    assert np.abs(stored - torch_logits(own.network, images)).max() > 0.1


def test_the_files_are_the_same_when_they_are_put_together_again(
    fitted: tuple[Trained, dict[str, bytes]], digits: DigitData
) -> None:
    own, files = fitted
    assert version_files(own, digits["validation"]) == files
    assert set(files) == {"weights.safetensors", "model.onnx", "golden.safetensors", CONFORMAL, REFERENCE}


def test_a_network_comes_back_from_its_weights_bit_for_bit(trained: Trained, version, digits: DigitData) -> None:
    back = load_network(version, trained.config, 10)
    assert not back.training
    stored, loaded = trained.network.state_dict(), back.state_dict()
    assert list(loaded) == list(stored)
    assert all(torch.equal(loaded[name], value) for name, value in stored.items())
    images = digits["test"].images
    assert np.abs(torch_logits(back, images) - torch_logits(trained.network, images)).max() <= TOLERANCE


def test_torch_and_onnx_agree_on_every_test_image(trained: Trained, predictor: Predictor, digits: DigitData) -> None:
    images = digits["test"].images
    by_torch, by_onnx = torch_logits(trained.network, images), predictor.logits(images)
    assert by_onnx.dtype == np.float32
    assert np.abs(by_torch - by_onnx).max() <= TOLERANCE
    assert np.array_equal(by_torch.argmax(1), predictor.predict(images).labels)


@pytest.mark.parametrize(
    "knobs",
    [
        {"width_1": 1, "width_2": 1, "width_3": 1},
        {"kernel_1": 9, "kernel_2": 9, "kernel_3": 9},
        {"kernel_1": 1, "kernel_2": 3, "kernel_3": 1},
        {"kernel_1": 3, "kernel_2": 3, "padded": True},
        {"five_views": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("classes", [2, 47])
def test_torch_and_onnx_agree_for_other_architectures(classes: int, knobs: dict[str, float]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = network_for(ModelConfig(**knobs), classes).eval()
    noise = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    predicted = Predictor(to_onnx(network), threads=1).logits(noise)
    assert predicted.shape == (5, classes)
    assert np.abs(torch_logits(network, noise) - predicted).max() <= TOLERANCE


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257])
def test_an_answer_does_not_depend_on_how_many_are_asked_at_once(
    predictor: Predictor, digits: DigitData, count: int
) -> None:
    images = digits["test"].images
    whole = predictor.logits(images)
    for begin in (0, len(images) - count):
        part = predictor.logits(images[begin : begin + count])
        assert part.shape == (count, 10)
        assert np.abs(part - whole[begin : begin + count]).max() <= TOLERANCE
        assert np.array_equal(part.argmax(1), whole[begin : begin + count].argmax(1))


def test_no_images_give_no_answers(predictor: Predictor) -> None:
    none = np.zeros((0, 28, 28), np.uint8)
    assert predictor.logits(none).shape == (0, 10)
    found = predictor.predict(none)
    assert (found.labels.shape, found.probabilities.shape, found.confidence.shape) == ((0,), (0, 10), (0,))


def test_images_may_lie_in_memory_in_any_way(predictor: Predictor, digits: DigitData) -> None:
    images = digits["test"].images[:20]
    assert np.array_equal(predictor.logits(images[::2]), predictor.logits(images[::2].copy()))
    assert np.array_equal(predictor.logits(np.asfortranarray(images)), predictor.logits(images))


def test_confidence_is_the_probability_of_the_label(predictor: Predictor, digits: DigitData) -> None:
    found = predictor.predict(digits["test"].images)
    assert found.probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(found.confidence, found.probabilities.max(1))
    assert np.array_equal(found.labels, found.probabilities.argmax(1))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 28, 28), np.float32),
        np.zeros((1, 28, 27), np.uint8),
        np.zeros((28, 28), np.uint8),
        np.zeros((1, 1, 28, 28), np.uint8),
        np.zeros((0, 8, 8), np.uint8),
    ],
    ids=lambda images: f"{images.dtype} {images.shape}",
)
def test_anything_but_uint8_of_28_by_28_is_refused(predictor: Predictor, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \[N, 28, 28\], got "):
        predictor.logits(images)


# --- golden inputs ---


def with_golden(version: dict[str, bytes], change: float) -> dict[str, bytes]:
    golden = load(version["golden.safetensors"])
    golden["logits"][7, 3] += np.float32(change)
    return {**version, "golden.safetensors": save(golden)}


@pytest.mark.parametrize("change", [0.01, -5.0, np.nan, np.inf])
def test_a_model_that_does_not_give_its_golden_logits_is_not_served(version, change: float) -> None:
    with pytest.raises(WrongAnswers, match=r"golden inputs are off by .* it is not served"):
        Predictor.load(with_golden(version, change), threads=1)


def test_differences_below_the_tolerance_are_those_of_another_machine(version, digits: DigitData) -> None:
    images = digits["test"].images[:5]
    found = Predictor.load(with_golden(version, 5e-5), threads=1).predict(images)
    assert np.array_equal(found.labels, Predictor.load(version, threads=1).predict(images).labels)


def test_the_graph_of_another_network_is_found_out(version, trained: Trained) -> None:
    other = load_network(version, trained.config, 10)
    with torch.no_grad():
        other.classifier.bias[4] += 0.001
    with pytest.raises(WrongAnswers, match=r"off by 0\.001"):
        Predictor.load({**version, "model.onnx": to_onnx(other)}, threads=1)


# --- softmax ---


@given(
    arrays.arrays(
        np.float32, arrays.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-(2.0**127), 2.0**127, width=32)
    )
)
def test_softmax_gives_shares_whatever_the_logits(logits: np.ndarray) -> None:
    with np.errstate(over="ignore"):  # the distance of the largest to the smallest float32
        shares = softmax(logits)
    assert (shares >= 0).all()
    assert shares.sum(1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(shares.max(1), np.take_along_axis(shares, logits.argmax(1)[:, None], 1)[:, 0])
