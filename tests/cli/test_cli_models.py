"""`mnist-pipeline models`: list, show and diff, also where something is damaged."""

from __future__ import annotations

import pytest
from commands import document, nudged, rows, told
from pipelines import Pipeline, flip_a_bit

from mnist_pipeline.ml.predictor import ONNX

FIRST_DECISION = "models/decisions/00000001.json"


def test_the_versions_are_listed_the_newest_first_with_the_one_that_serves(pipeline: Pipeline) -> None:
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    head, *listed = rows(told(pipeline, "models", "list"))
    assert head == ["version", "validation", "created (UTC)", "dataset", "serves"]
    assert [row[0] for row in listed] == [other, first]
    assert listed[1][1].endswith(" %")
    assert listed[1][3:] == ["embedded", "decision 1"]
    assert listed[0][3:] == ["embedded"]
    said = document(pipeline, "models", "list")
    assert (said["production"], said["problems"]) == (first, [])
    assert [(each["name"], each["serves"], each["decision"]) for each in said["versions"]] == [
        (other, False, None),
        (first, True, 1),
    ]
    assert said["versions"][1]["metrics"] == pipeline.store.card(first).metrics


def test_an_empty_store_is_no_fault(fresh: Pipeline) -> None:
    assert told(fresh, "models", "list").stdout == "no versions yet: train one with `make run`\n"
    assert document(fresh, "models", "list") == {"production": None, "versions": [], "problems": []}


def test_what_is_damaged_is_told_and_the_rest_is_listed(pipeline: Pipeline) -> None:
    first, other = pipeline.value("digit_classifier"), pipeline.variant(nudged(0.1))
    flip_a_bit(pipeline.state / "models" / "versions" / other / "card.json")
    flip_a_bit(pipeline.state / FIRST_DECISION)
    result = told(pipeline, "models", "list")
    assert result.exit_code == 1
    assert [row[0] for row in rows(result)[1:]] == [first]
    assert "decisions/00000001.json cannot be trusted" in result.stderr
    assert f"version {other}, card.json" in result.stderr
    assert len(document(pipeline, "models", "list", code=1)["problems"]) == 2


def test_all_about_one_version(finished: Pipeline) -> None:
    version, report = finished.value("digit_classifier"), finished.value("model_evaluation")
    card = finished.store.card(version)
    result = told(finished, "models", "show", version)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["version"] == version
    assert facts["config.epochs"] == "1"
    assert facts["data_version"] == card.data_version
    assert facts["run_id"] == card.run_id
    assert facts["report"].startswith(f"{report}: test accuracy 9")
    assert any(line.startswith("decision 1 ") and "quality by" in line for line in lines)
    assert all(digest in result.stdout for digest in card.files.values())
    assert "verified" not in facts
    said = document(finished, "models", "show", version, "--verify")
    assert (said["name"], said["config"], said["verified"]) == (version, card.config, True)
    assert said["reports"][report]["accuracy"] == finished.store.report(report)["test"]["accuracy"]
    assert [each["number"] for each in said["decisions"]] == [1]


def test_without_a_name_it_is_the_version_that_serves(finished: Pipeline, fresh: Pipeline) -> None:
    assert told(finished, "models", "show").stdout.split()[1] == finished.value("digit_classifier")
    assert told(fresh, "models", "show").exit_code == 3


def test_verifying_finds_what_the_card_alone_does_not_show(pipeline: Pipeline) -> None:
    version = pipeline.value("digit_classifier")
    assert "golden inputs give their answers" in told(pipeline, "models", "show", version, "--verify").stdout
    flip_a_bit(pipeline.state / "models" / "versions" / version / ONNX)
    assert told(pipeline, "models", "show", version).exit_code == 0
    result = told(pipeline, "models", "show", version, "--verify")
    assert (result.exit_code, result.stdout) == (7, "")
    assert "Do not serve it" in result.stderr


def test_a_changed_report_is_damage(pipeline: Pipeline) -> None:
    report = pipeline.state / "models" / pipeline.value("model_evaluation")
    report.write_text(report.read_text().replace('"accuracy": 0.9', '"accuracy": 0.8', 1))
    assert told(pipeline, "models", "show", pipeline.value("digit_classifier")).exit_code == 7


def test_two_versions_differ_in_what_is_shown(pipeline: Pipeline) -> None:
    first = pipeline.value("digit_classifier")
    config = {**pipeline.store.card(first).config, "epochs": 9}
    other = pipeline.variant(nudged(0.1), config=config, code_version="newer", metrics={"validation_accuracy": 0.5})
    said = document(pipeline, "models", "diff", first, other)
    assert said["versions"] == [first, other]
    differences = said["differences"]
    assert differences["config.epochs"] == [1, 9]
    assert differences["code_version"] == [pipeline.store.card(first).code_version, "newer"]
    assert differences["metrics.validation_accuracy"][1] == 0.5
    assert differences["metrics.validation_loss"][1] is None
    assert differences["test.accuracy"][1] is None  # nobody has evaluated the other one
    assert "config.seed" not in differences
    assert "data_version" not in differences
    head, *listed = rows(told(pipeline, "models", "diff", first, other))
    assert head == [first, other]
    assert ["config.epochs", "1", "9"] in listed


def test_networks_with_other_weights_differ_in_their_files(pipeline: Pipeline) -> None:
    """Also where their cards say the same."""
    first, other = (pipeline.variant(nudged(by)) for by in (0.1, 0.2))
    cards = [pipeline.store.card(name) for name in (first, other)]
    differences = document(pipeline, "models", "diff", first, other)["differences"]
    named = {f"sha256 of {name}" for name, digest in cards[0].files.items() if cards[1].files[name] != digest}
    assert named
    assert {name for name in differences if not name.startswith("metrics.")} == named
    assert named <= {name for name, *_ in rows(told(pipeline, "models", "diff", first, other))}


def test_a_version_differs_in_nothing_from_itself(finished: Pipeline) -> None:
    version = finished.value("digit_classifier")
    assert "the same version" in told(finished, "models", "diff", version, version).stdout
    assert document(finished, "models", "diff", version, version)["differences"] == {}


@pytest.mark.parametrize("command", [["show", "nobody"], ["diff", "nobody", "nobody"]])
def test_an_unknown_version_has_its_own_code(finished: Pipeline, command: list[str]) -> None:
    result = told(finished, "models", *command)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith("error: there is no version 'nobody'; the store has digitcnn-")
