"""Checks of model and evaluation fail when they should, and every check says what it guards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import dagster as dg
import pytest
import torch
from pipelines import Pipeline

from mnist_pipeline.assets.evaluation import evaluation_checks
from mnist_pipeline.assets.model import model_checks
from mnist_pipeline.ml.artifacts import WEIGHTS
from mnist_pipeline.ml.network import DigitCNN

BLOCKING = {
    *("is_complete", "labels_are_valid", "split_is_stratified", "split_is_in_proportion", "nothing_leaks"),
    *("torch_and_onnx_agree", "learned_something", "report_is_of_this_model"),
}
ADVISORY = {
    *("classes_are_balanced", "is_what_was_asked_for", "validation_predicts_test", "no_class_is_left_behind"),
}


def failures(results: Iterable[dg.AssetCheckResult]) -> set[str | None]:
    return {each.check_name for each in results if not each.passed}


def test_every_check_says_what_it_guards_and_whether_it_blocks(fresh: Pipeline) -> None:
    specs = {spec.name: spec for checks in fresh.definitions.asset_checks or [] for spec in checks.check_specs}
    assert {name for name, spec in specs.items() if spec.blocking} == BLOCKING
    assert {name for name, spec in specs.items() if not spec.blocking} == ADVISORY
    assert all(spec.description for spec in specs.values())


# --- model ---


def checked_model(pipeline: Pipeline, version: str) -> set[str | None]:
    return failures(model_checks(version, pipeline.digits(), models=pipeline.models))


def test_a_trained_version_passes(finished: Pipeline) -> None:
    assert checked_model(finished, finished.value("digit_classifier")) == set()


def test_weights_of_another_network_than_the_graph_are_noticed(pipeline: Pipeline) -> None:
    """Whole files, golden logits that the graph gives, and weights that do not belong to it."""
    name = pipeline.value("digit_classifier")
    other = pipeline.variant(lambda network: network.classifier.bias.add_(torch.arange(10) * 1e-3))
    files = {**pipeline.store.load(name), WEIGHTS: pipeline.store.load(other)[WEIGHTS]}
    card = pipeline.store.card(name)
    facts = {key: getattr(card, key) for key in ("metrics", "config", "class_names", "preparation", "dataset")}
    mixed = pipeline.store.add_version(files, label="mixed", data_version="d", code_version="c", run_id="r", **facts)
    assert checked_model(pipeline, mixed.name) == {"torch_and_onnx_agree"}


def test_a_model_that_only_guesses_is_noticed(pipeline: Pipeline) -> None:
    guessing = pipeline.variant(lambda network: None, metrics={"validation_accuracy": 0.18})
    assert checked_model(pipeline, guessing) == {"learned_something"}


# --- evaluation ---


def checked_report(pipeline: Pipeline, report: str, version: str | None = None) -> set[str | None]:
    name = version or pipeline.value("digit_classifier")
    return failures(evaluation_checks(report, name, pipeline.digits(), models=pipeline.models))


def test_the_report_of_this_model_passes(finished: Pipeline) -> None:
    assert checked_report(finished, finished.value("model_evaluation")) == set()


def test_a_report_of_another_model_is_noticed(pipeline: Pipeline) -> None:
    other = pipeline.variant(_nudge)
    assert checked_report(pipeline, pipeline.value("model_evaluation"), other) == {"report_is_of_this_model"}


def _nudge(network: DigitCNN) -> None:
    network.classifier.bias.add_(0.01)


def _lower_accuracy(report: dict[str, Any]) -> None:
    report["test"]["accuracy"] = report["validation"]["accuracy"] - 0.03


def _forget_a_class(report: dict[str, Any]) -> None:
    report["test"]["worst_class"]["f1"] = 0.5


def _other_data(report: dict[str, Any]) -> None:
    report["data_digest"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        (_lower_accuracy, "validation_predicts_test"),
        (_forget_a_class, "no_class_is_left_behind"),
        (_other_data, "report_is_of_this_model"),
    ],
)
def test_a_report_that_hides_a_weakness_is_noticed(
    pipeline: Pipeline, change: Callable[[dict[str, Any]], None], noticed: str
) -> None:
    report = pipeline.store.report(pipeline.value("model_evaluation"))
    change(report)
    assert checked_report(pipeline, pipeline.store.add_report(report)) == {noticed}
