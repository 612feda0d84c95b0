"""Other architectures compete by the same doors; one that fails takes no other along; all versions side by side."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest
from pipelines import DATA, NIGHT, Pipeline, flip_a_bit, metadata, verdicts
from served import served

from mnist_pipeline.ml import custom_metrics
from mnist_pipeline.ml.predictor import Predictor

QUICK: dict[str, Any] = {"architectures": ["tree", "knn"], "settings": {"tree_depth": 9}}


@pytest.fixture(scope="module")
def competed(
    first_run: tuple[Pipeline, dg.ExecuteInProcessResult], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Pipeline, dg.ExecuteInProcessResult]:
    pipeline = first_run[0].copy(tmp_path_factory.mktemp("competed") / "state")
    return pipeline, pipeline.run("rival_classifiers", "leaderboard", rival_classifiers=QUICK)


def test_each_rival_is_a_version_with_a_report(competed: tuple[Pipeline, dg.ExecuteInProcessResult]) -> None:
    pipeline, result = competed
    made = pipeline.value("rival_classifiers")
    assert list(made) == ["tree", "knn"]
    for name, rival in made.items():
        card, report = pipeline.store.card(rival["version"]), pipeline.store.report(rival["report"])
        assert card.name.startswith(name)
        assert card.config["tree_depth"] == 9
        assert (report["model_digest"], report["data_digest"]) == (card.digest, pipeline.digits().digest())
        assert metadata(result, "rival_classifiers")[f"{name}_test_accuracy"] == report["test"]["accuracy"] > 0.8
    assert verdicts(result) == {"every_rival_was_trained": True}


def test_every_version_that_was_measured_is_on_the_leaderboard(
    competed: tuple[Pipeline, dg.ExecuteInProcessResult],
) -> None:
    pipeline, result = competed
    board = pipeline.value("leaderboard")
    test = pipeline.digits()["test"]
    assert {row["version"] for row in board["rows"]} == set(pipeline.store.versions())
    assert {row["architecture"] for row in board["rows"]} == {"cnn", "tree", "knn"}
    assert (board["test_images"], board["left_out"]) == (len(test), {})
    for row in board["rows"]:
        files = pipeline.store.load(row["version"])
        answers = Predictor.load(files).predict(test.images).labels
        assert row["accuracy"] == pytest.approx(np.mean(answers == test.labels))
        assert row["low"] < row["accuracy"] < row["high"]
        assert row["bytes"] == len(files["model.onnx"])
        assert min(row["training_seconds"], row["latency_ms"], row["images_per_second"]) > 0
    accuracies = [row["accuracy"] for row in board["rows"]]
    assert accuracies == sorted(accuracies, reverse=True)
    said = metadata(result, "leaderboard")
    assert said["result"].startswith(f"{board['rows'][0]['version']} is best")
    assert [record.data["place"] for record in said["versions"].records] == [1, 2, 3]
    assert said["standing"].startswith("![standing](data:image/png;base64,")


def test_competing_deploys_nothing(competed: tuple[Pipeline, dg.ExecuteInProcessResult], finished: Pipeline) -> None:
    assert competed[0].store.production() == finished.store.production()


def test_a_rival_that_fails_is_named_and_takes_no_other_along(pipeline: Pipeline) -> None:
    hopeless = {"optimizer": "sgd", "learning_rate": 1e30, "epochs": 1, "min_steps": 1, "width_1": 2, "width_2": 2}
    ran = pipeline.run(
        "rival_classifiers", "leaderboard", rival_classifiers={"architectures": ["cnn", "tree"], "settings": hopeless}
    )
    assert verdicts(ran) == {"every_rival_was_trained": False}
    failed = metadata(ran, "rival_classifiers")["failed"]
    assert list(failed) == ["cnn"]
    assert "TrainingDiverged: the loss" in failed["cnn"]
    assert "tree" in {row["architecture"] for row in pipeline.value("leaderboard")["rows"]}


def test_a_rival_that_cannot_be_measured_is_named(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(truth: np.ndarray, probabilities: np.ndarray) -> float:
        raise ZeroDivisionError("no such class")

    monkeypatch.setattr(custom_metrics, "METRICS", [breaks])
    ran = pipeline.run("rival_classifiers", rival_classifiers={"architectures": ["tree"]})
    assert "MetricFailed: metric breaks raised" in metadata(ran, "rival_classifiers")["failed"]["tree"]


def test_a_wrong_setting_is_named_before_anything_is_trained(pipeline: Pipeline) -> None:
    stored = pipeline.stored()
    with pytest.raises(ValueError, match=r"(?s)epohcs.*Extra inputs"):
        pipeline.run("rival_classifiers", rival_classifiers={"architectures": ["tree"], "settings": {"epohcs": 1}})
    assert pipeline.stored() == stored


def test_a_damaged_version_is_left_out_by_name(pipeline: Pipeline) -> None:
    name = pipeline.value("digit_classifier")
    flip_a_bit(pipeline.state / "models" / "versions" / name / "model.onnx")
    pipeline.run("leaderboard")
    board = pipeline.value("leaderboard")
    assert board["rows"] == []
    assert "model.onnx" in board["left_out"][name]


def test_only_reports_on_the_present_data_count(pipeline: Pipeline) -> None:
    pipeline.run("processed_mnist_data", processed_mnist_data={"seed": 5})
    ran = pipeline.run("leaderboard")
    assert pipeline.value("leaderboard")["rows"] == []
    assert metadata(ran, "leaderboard")["result"] == "no version was measured on this data yet"


def test_no_more_versions_than_asked_for_are_run(competed: tuple[Pipeline, dg.ExecuteInProcessResult]) -> None:
    pipeline, _ = competed
    best = pipeline.value("leaderboard")["rows"][0]["version"]
    pipeline.run("leaderboard", leaderboard={"most": 1})
    assert [row["version"] for row in pipeline.value("leaderboard")["rows"]] == [best]


# --- every door takes every architecture ---

SMALL = {"trees": 20, "width_1": 4, "width_2": 8, "width_3": 8, "embedding": 16, "depth": 1, "patch": 7, "shift": 0}
AT_NOON = datetime.fromisoformat(f"{NIGHT}T12:00+00:00").timestamp()
STEPS = {"precision": "float32", "device": "cpu", "learning_rate": 0.01, "min_steps": 150}


@pytest.mark.parametrize(
    "architecture",
    ["forest", pytest.param("resnet", marks=pytest.mark.slow), pytest.param("vit", marks=pytest.mark.slow)],
)
def test_any_architecture_goes_from_data_to_deployment_and_answers(fresh: Pipeline, architecture: str) -> None:
    ran = fresh.run(
        *(*DATA, "digit_classifier", "model_evaluation", "production_digit_classifier"),
        digit_classifier={"architecture": architecture, **SMALL, **STEPS},
        production_digit_classifier={"min_accuracy": 0.6},
    )
    assert all(passed for check, passed in verdicts(ran).items() if check != "no_class_is_left_behind")
    serving = str(fresh.store.production())
    assert serving.startswith(f"{architecture}-")
    test = fresh.digits()["test"]
    expected = Predictor.load(fresh.store.load(serving)).predict(test.images[:20])
    with served(fresh.state, log=False) as client:
        answer = client.post("/predict", content=test.images[0].tobytes()).json()
    assert (answer["label"], answer["model_version"]) == (str(expected.labels[0]), serving)
    fresh.inbox.mkdir(parents=True, exist_ok=True)
    np.save(fresh.inbox / "some.npy", test.images[:20])
    os.utime(fresh.inbox / "some.npy", (AT_NOON, AT_NOON))
    fresh.run("batch_digit_predictions", night=NIGHT)
    night = pq.read_table(fresh.state / "predictions" / f"{NIGHT}.parquet").to_pydict()
    assert night["label"] == [str(label) for label in expected.labels]
    assert set(night["model_version"]) == {serving}
