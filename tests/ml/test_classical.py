"""Classical models: the graph answers as scikit-learn does, the same seed gives the same graph, none needs a pickle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from safetensors.numpy import load

from mnist_pipeline.ml.artifacts import ANSWERS, load_network, original_logits, to_onnx, torch_logits, version_files
from mnist_pipeline.ml.classical import FLOOR, Classical, closeness, fit, stratified
from mnist_pipeline.ml.config import CLASSICAL, Architecture, ModelConfig
from mnist_pipeline.ml.digits import DigitData, LabeledImages
from mnist_pipeline.ml.learning import learn
from mnist_pipeline.ml.predictor import TOLERANCE, Predictor
from mnist_pipeline.ml.training import Epoch, Trained

LEAST = {"tree": 0.8, "forest": 0.95, "logistic": 0.93, "knn": 0.96}


def config(architecture: Architecture, **knobs: int) -> ModelConfig:
    return ModelConfig(**{"architecture": architecture, "trees": 20, **knobs})


@pytest.fixture(scope="module")
def fitted_once(digits: DigitData) -> Mapping[str, Trained]:
    return {name: fit(digits["train"], digits["validation"], 10, config(name)) for name in CLASSICAL}


@pytest.fixture
def fitted(fitted_once: Mapping[str, Trained]) -> Mapping[str, Trained]:
    """As they were before a version was made of them, which fits a temperature."""
    for trained in fitted_once.values():
        trained.network.temperature.fill_(1.0)
    return fitted_once


@pytest.mark.parametrize("architecture", CLASSICAL)
def test_the_graph_answers_as_scikit_learn_does(
    fitted: Mapping[str, Trained], digits: DigitData, architecture: Architecture
) -> None:
    images, model = digits["test"].images, fitted[architecture].network
    predictor = Predictor(to_onnx(model), threads=1)
    assert np.abs(predictor.logits(images) - torch_logits(model, images)).max() <= TOLERANCE
    assert isinstance(model, Classical)
    expected = model.estimator.predict(images.reshape(len(images), -1).astype(float))
    assert (predictor.predict(images).labels == expected).mean() > 0.99  # of equal shares either may win
    assert (predictor.predict(images).labels == digits["test"].labels).mean() > LEAST[architecture]


@pytest.mark.parametrize("architecture", CLASSICAL)
def test_a_version_is_its_graph_with_what_scikit_learn_said(
    fitted: Mapping[str, Trained], digits: DigitData, architecture: Architecture
) -> None:
    files, images = version_files(fitted[architecture], digits["validation"]), digits["validation"].images
    assert {"model.onnx", "golden.safetensors", ANSWERS} <= set(files)
    assert "weights.safetensors" not in files
    original = original_logits(files, config(architecture), 10, images)
    assert original.shape == (len(images), 10)
    assert np.abs(original - Predictor.load(files, threads=1).logits(images)).max() <= TOLERANCE
    assert len(load(files["golden.safetensors"])["images"]) == 16
    with pytest.raises(ValueError, match="no network"):
        load_network(files, config(architecture), 10)


@pytest.mark.parametrize("architecture", CLASSICAL)
def test_logits_are_logarithms_of_probabilities_none_below_the_floor(
    fitted: Mapping[str, Trained], digits: DigitData, architecture: Architecture
) -> None:
    shares = np.exp(torch_logits(fitted[architecture].network, digits["test"].images))
    assert shares.min() >= FLOOR * 0.999
    assert np.abs(shares.sum(1) - 1).max() <= 10 * FLOOR


@pytest.mark.parametrize("architecture", CLASSICAL)
def test_the_same_seed_gives_the_same_bytes(
    fitted: Mapping[str, Trained], digits: DigitData, architecture: Architecture
) -> None:
    again = fit(digits["train"], digits["validation"], 10, config(architecture))
    assert to_onnx(again.network) == to_onnx(fitted[architecture].network)


def test_another_seed_gives_another_forest(digits: DigitData) -> None:
    few = digits["train"].take(np.arange(200))
    one, other = (to_onnx(fit(few, few, 10, config("forest", seed=seed)).network) for seed in (0, 1))
    assert one != other


def test_a_temperature_divides_the_logits_of_the_graph(digits: DigitData) -> None:
    few = digits["train"].take(np.arange(200))
    model, images = fit(few, few, 10, config("tree")).network, digits["test"].images[:9]
    plain = Predictor(to_onnx(model), threads=1).logits(images)
    model.temperature.fill_(2.5)
    assert Predictor(to_onnx(model), threads=1).logits(images) == pytest.approx(plain / 2.5, abs=1e-5)
    assert torch_logits(model, images) == pytest.approx(plain / 2.5, abs=1e-5)


@pytest.mark.parametrize("architecture", CLASSICAL)
def test_a_class_that_was_never_seen_has_a_logit_all_the_same(digits: DigitData, architecture: Architecture) -> None:
    few = digits["train"].take(np.arange(300))
    without = few.take(np.flatnonzero(few.labels != 4))
    model = fit(without, without, 10, config(architecture)).network
    answers = Predictor(to_onnx(model), threads=1).logits(few.images)
    assert answers.shape == (300, 10)
    assert answers[:, 4] == pytest.approx(np.log(FLOOR), abs=1e-5)
    assert np.abs(answers - torch_logits(model, few.images)).max() <= TOLERANCE


def test_no_images_give_no_answers(fitted: Mapping[str, Trained]) -> None:
    none = np.zeros((0, 28, 28), np.uint8)
    for trained in fitted.values():
        assert Predictor(to_onnx(trained.network), threads=1).logits(none).shape == (0, 10)


def test_learning_tells_of_one_epoch(digits: DigitData) -> None:
    told: list[Epoch] = []
    steps: list[tuple[int, int]] = []
    few = digits["train"].take(np.arange(100))
    trained = learn(few, few, 10, config("tree"), told.append, lambda step, of: steps.append((step, of)))
    assert told == trained.history == [trained.best]
    assert steps == [(1, 1)]
    assert (trained.best.number, trained.best.of, trained.best.seconds_left) == (1, 1, 0)


# --- neighbours ---


def test_the_nearest_has_a_whole_vote_and_the_farthest_none() -> None:
    assert closeness(np.array([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]])) == pytest.approx(np.array([[1, 0.75, 0], [1, 1, 1]]))


def test_prototypes_are_the_same_share_of_every_class(digits: DigitData) -> None:
    training = digits["train"]
    kept = stratified(training, 300, seed=1)
    shares = [np.bincount(each.labels, minlength=10) / len(each) for each in (kept, training)]
    assert 290 <= len(kept) <= 300
    assert np.abs(shares[0] - shares[1]).max() < 0.01
    assert np.array_equal(stratified(training, 300, seed=1).images, kept.images)
    assert not np.array_equal(stratified(training, 300, seed=2).images, kept.images)
    assert stratified(training, len(training), seed=1) is training


def test_images_that_are_all_alike_can_be_neighbours() -> None:
    """All distances are equal, so all votes are."""
    alike = LabeledImages(np.full((120, 28, 28), 9, np.uint8), np.tile(np.array([0, 1], np.uint8), 60))
    model = fit(alike, alike, 2, config("knn", neighbours=4)).network
    answers = Predictor(to_onnx(model), threads=1).logits(alike.images[:2])
    assert np.isfinite(answers).all()
