"""model_evaluation: a report bound to model and data, with numbers that anybody can compute again."""

from __future__ import annotations

import dagster as dg
import numpy as np
import pytest
from pipelines import Pipeline, data_version, flip_a_bit, metadata
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from mnist_pipeline.assets.evaluation import model_evaluation
from mnist_pipeline.ml import custom_metrics
from mnist_pipeline.ml.artifacts import load_network, torch_logits
from mnist_pipeline.ml.calibration import calibration_error
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.corruptions import CORRUPTIONS
from mnist_pipeline.ml.digits import DigitData, LabeledImages
from mnist_pipeline.ml.metrics import MetricFailed
from mnist_pipeline.ml.predictor import Predictor, softmax
from mnist_pipeline.store import CorruptVersion


def share_of_zeros(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """A metric of one's own."""
    return float((probabilities.argmax(1) == 0).mean())


def always_breaks(truth: np.ndarray, probabilities: np.ndarray) -> float:
    raise ZeroDivisionError("no such class")


def never_finite(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return float("nan")


def torch_answers(pipeline: Pipeline, part: str) -> np.ndarray:
    name = pipeline.value("digit_classifier")
    network = load_network(pipeline.store.load(name), ModelConfig(**pipeline.store.card(name).config), 10)
    return torch_logits(network, pipeline.digits()[part].images)


def test_the_report_is_bound_to_model_and_data(finished: Pipeline) -> None:
    report = finished.store.report(finished.value("model_evaluation"))
    card = finished.store.card(finished.value("digit_classifier"))
    assert (report["version"], report["model_digest"]) == (card.name, card.digest)
    assert report["data_digest"] == finished.digits().digest() == card.data_version
    assert finished.store.reports(card.name) == [finished.value("model_evaluation")]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_the_numbers_are_those_that_torch_and_scikit_learn_give(finished: Pipeline, part: str) -> None:
    measured = finished.store.report(finished.value("model_evaluation"))[part]
    truth, logits = finished.digits()[part].labels, torch_answers(finished, part)
    answers = logits.argmax(1)
    assert measured["images"] == len(truth)
    assert measured["accuracy"] == pytest.approx(accuracy_score(truth, answers))
    assert measured["accuracy_low"] < measured["accuracy"] < measured["accuracy_high"]
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert measured[f"macro_{name}"] == pytest.approx(score(truth, answers, average="macro"))
        each = score(truth, answers, average=None)
        assert [scores[name] for scores in measured["per_class"].values()] == pytest.approx(list(each))
    assert measured["confusion"] == confusion_matrix(truth, answers).tolist()
    top_2 = (np.argsort(logits, 1)[:, -2:] == truth[:, None]).any(1).mean()
    assert measured["top_2_accuracy"] == pytest.approx(top_2)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_the_mistakes_are_the_wrong_answers_the_most_confident_first(finished: Pipeline, part: str) -> None:
    mistakes = finished.store.report(finished.value("model_evaluation"))[part]["mistakes"]
    truth, answers = finished.digits()[part].labels, torch_answers(finished, part).argmax(1)
    assert {each["row"] for each in mistakes} == set(np.flatnonzero(answers != truth).tolist())
    assert all(
        (each["truth"], each["predicted"]) == (str(truth[r := each["row"]]), str(answers[r])) for each in mistakes
    )
    confidences = [each["confidence"] for each in mistakes]
    assert confidences == sorted(confidences, reverse=True)


def test_every_number_is_metadata_that_can_be_plotted(finished: Pipeline, result: dg.ExecuteInProcessResult) -> None:
    said = metadata(result, "model_evaluation")
    report = finished.store.report(finished.value("model_evaluation"))
    assert f"hold the truth in {report['test']['coverage_shown']:.2%}" in said["prediction_sets"]
    for part in ("validation", "test"):
        numbers = {name: value for name, value in report[part].items() if isinstance(value, int | float)}
        assert {"accuracy", "accuracy_low", "macro_f1", "calibration_error", "top_2_accuracy"} <= numbers.keys()
        assert {f"{part}_{name}": value for name, value in numbers.items()}.items() <= said.items()
    assert said["worst_class"] == report["test"]["worst_class"]["name"]
    assert said["worst_class_of_validation"] == report["validation"]["worst_class"]["name"]
    told = {(row.data["part"], row.data["class"]): row.data for row in said["scores"].records}
    for part in ("validation", "test"):
        for name, scores in report[part]["per_class"].items():
            for score, value in scores.items():
                assert told[part, name][score] == pytest.approx(value, abs=1e-4)
    assert len(told) == 20


@pytest.mark.parametrize("picture", ["confusion", "per_class", "mistakes", "reliability", "robustness"])
def test_pictures_are_shown_and_kept(finished: Pipeline, result: dg.ExecuteInProcessResult, picture: str) -> None:
    assert metadata(result, "model_evaluation")[picture].startswith(f"![{picture}](data:image/png;base64,")
    assert (finished.state / "pictures" / "model_evaluation" / f"{picture}.png").is_file()


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("picture", ["confusion", "mistakes"])
def test_answers_and_mistakes_of_both_parts_are_drawn(pipeline: Pipeline, part: str, picture: str) -> None:
    """The pictures of a model that is wrong on one image more of that part are other ones."""
    shown = pipeline.state / "pictures" / "model_evaluation" / f"{picture}.png"
    version, data, before = pipeline.value("digit_classifier"), pipeline.digits(), shown.read_bytes()
    right = np.flatnonzero(torch_answers(pipeline, part).argmax(1) == data[part].labels)[0]
    labels = data[part].labels.copy()
    labels[right] = (labels[right] + 1) % 10
    relabelled = DigitData({**data.parts, part: LabeledImages(data[part].images, labels)}, data.origin)
    model_evaluation(
        dg.build_asset_context(), version, relabelled, pipeline.models, pipeline.pictures, pipeline.untracked
    )
    assert shown.read_bytes() != before


def test_the_same_again_is_the_same_report(pipeline: Pipeline, result: dg.ExecuteInProcessResult) -> None:
    stored = pipeline.stored()
    again = pipeline.run("model_evaluation")
    assert data_version(again, "model_evaluation") == data_version(result, "model_evaluation")
    assert pipeline.stored() == stored


# --- calibration, sets, corruptions ---


def test_the_report_tells_calibration_before_and_after(finished: Pipeline) -> None:
    name = finished.value("digit_classifier")
    report, card = finished.store.report(finished.value("model_evaluation")), finished.store.card(name)
    for part in ("validation", "test"):
        measured, truth = report[part], finished.digits()[part].labels
        after = torch_answers(finished, part)
        before = after * np.float32(card.metrics["temperature"])
        assert measured["calibration_error"] == pytest.approx(calibration_error(truth, softmax(after)), abs=1e-4)
        assert measured["calibration_error_before"] == pytest.approx(
            calibration_error(truth, softmax(before)), abs=1e-4
        )
    assert card.metrics["temperature"] != 1


def test_the_report_tells_how_the_sets_do_on_images_they_were_not_calibrated_on(finished: Pipeline) -> None:
    report, data = finished.store.report(finished.value("model_evaluation")), finished.digits()
    predictor = Predictor.load(finished.store.load(finished.value("digit_classifier")))
    expected = predictor.sets.measured(data["test"].labels, predictor.predict(data["test"].images).probabilities)
    assert expected["coverage_asked"] == 0.99
    assert expected.items() <= report["test"].items()
    assert "coverage" not in report["validation"]


def test_a_version_that_was_stored_before_there_were_sets_and_temperatures_is_evaluated_too(
    pipeline: Pipeline,
) -> None:
    old = pipeline.variant(lambda network: None, metrics={"validation_accuracy": 0.9})
    made = model_evaluation(
        dg.build_asset_context(), old, pipeline.digits(), pipeline.models, pipeline.pictures, pipeline.untracked
    )
    test = pipeline.store.report(made.value)["test"]
    assert test["calibration_error_before"] == pytest.approx(test["calibration_error"], abs=1e-6)
    assert "coverage" not in test


def test_the_worst_slice_is_in_report_and_ui_and_can_be_demanded(
    pipeline: Pipeline, result: dg.ExecuteInProcessResult
) -> None:
    report = pipeline.store.report(pipeline.value("model_evaluation"))
    lowest = min(min(shares) for shares in report["corruptions"]["accuracy"].values())
    said = metadata(result, "model_evaluation")
    assert report["test"]["worst_slice_accuracy"] == said["test_worst_slice_accuracy"] == lowest
    worst = report["corruptions"]["worst_slice"]
    assert said["worst_slice"] == f"{worst['name']}, severity {worst['severity']}"
    assert [row.data["corruption"] for row in said["corruptions"].records] == list(CORRUPTIONS)
    for demanded, reason in (
        (0.99, f"not deployed: worst_slice_accuracy {lowest:.4g} is not above 0.99"),
        (lowest - 0.01, "serves already and still passes the gate"),
    ):
        minimums = {"minimums": {"worst_slice_accuracy": demanded}}
        decided = pipeline.run("production_digit_classifier", production_digit_classifier=minimums)
        assert reason in metadata(decided, "production_digit_classifier")["reason"]


# --- metrics of one's own ---


def test_a_metric_of_ones_own_shows_up_in_report_and_ui_and_can_be_demanded(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custom_metrics, "METRICS", [share_of_zeros])
    ran = pipeline.run("model_evaluation")
    shown = metadata(ran, "model_evaluation")["test_share_of_zeros"]
    assert shown == pytest.approx((torch_answers(pipeline, "test").argmax(1) == 0).mean())
    assert pipeline.store.report(pipeline.value("model_evaluation"))["test"]["share_of_zeros"] == shown
    refused = pipeline.run(
        "production_digit_classifier", production_digit_classifier={"minimums": {"share_of_zeros": 0.5}}
    )
    decided = metadata(refused, "production_digit_classifier")
    assert decided["outcome"] == "kept"
    assert f"share_of_zeros {shown:.4g} is not above 0.5" in decided["reason"]


@pytest.mark.parametrize(("metric", "why"), [(always_breaks, "no such class"), (never_finite, "nan")])
def test_a_metric_that_fails_stops_the_evaluation_with_its_name(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, metric: custom_metrics.Metric, why: str
) -> None:
    stored, report = pipeline.stored(), pipeline.value("model_evaluation")
    monkeypatch.setattr(custom_metrics, "METRICS", [metric])
    with pytest.raises(MetricFailed, match=f"{metric.__name__}.*{why}"):
        pipeline.run("model_evaluation")
    assert (pipeline.stored(), pipeline.value("model_evaluation")) == (stored, report)


def test_a_damaged_model_is_not_evaluated(pipeline: Pipeline) -> None:
    name, stored = pipeline.value("digit_classifier"), pipeline.store.blobs.list("reports")
    flip_a_bit(pipeline.state / "models" / "versions" / name / "model.onnx")
    with pytest.raises(CorruptVersion, match=f"{name}, model.onnx"):
        pipeline.run("model_evaluation")
    assert pipeline.store.blobs.list("reports") == stored
