"""`mnist-pipeline trace`: from an answer, a file or a version back to where it came from, and from data forward."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from commands import document, nudged, told
from digit_files import png, strokes
from people import answered, in_a_file, night, on_the_page
from pipelines import Pipeline, flip_a_bit

from mnist_pipeline.deciding import Case, Choice, record
from mnist_pipeline.storage.sealed import sha256

DAY_S = 86_400


@pytest.fixture
def version(pipeline: Pipeline) -> str:
    return str(pipeline.value("digit_classifier"))


@pytest.fixture
def image() -> np.ndarray:
    picture: np.ndarray = strokes(1)[0]
    return picture


def test_an_answer_of_the_service_leads_back_to_everything(pipeline: Pipeline, version: str) -> None:
    images = strokes(2)
    answered(pipeline.state, "r-1", images, [1, 2], version=version)
    answered(pipeline.state, "r-2", images, [3, 4], version=version)
    on_the_page(pipeline.state, images[0], "7", request_id="r-1")
    in_a_file(pipeline.state, "a.csv", "request_id,label,index", "r-1,8,1", "r-2,9,1")
    found, card = document(pipeline, "trace", "r-1"), pipeline.store.card(version)
    assert [(each["label"], each["index"]) for each in found["answers"]] == [("1", 0), ("2", 1)]
    assert found["answers"][0]["sha256"] == sha256(images[0].tobytes())
    assert [(each["label"], each["index"]) for each in found["said"]] == [("7", None), ("8", 1)]
    (about,) = found["versions"]
    assert about["version"] == version
    assert (about["data_digest"], about["code_version"], about["run_id"]) == (
        card.data_version,
        card.code_version,
        card.run_id,
    )
    assert "embedded digits of scikit-learn" in about["source"]
    (decision,) = about["decisions"]
    assert (decision["number"], decision["strategy"], decision["outcome"]) == (1, "quality", "deployed")
    assert [each["key"] for each in about["reports"]] == [pipeline.value("model_evaluation")]
    lines = told(pipeline, "trace", "r-1").stdout
    for word in (version, card.data_version, card.run_id, card.code_version, "quality", "people said", "91.00 %"):
        assert word in lines


def test_where_no_label_was_given_it_says_why(pipeline: Pipeline, version: str, image: np.ndarray) -> None:
    answered(pipeline.state, "r-1", strokes(1), [1], version=version, abstained=True)
    night(pipeline.state, "2026-01-05", {"unsure.png": png(image)}, label=None, version=version)
    night(pipeline.state, "2026-01-06", {"blank.png": png(image)}, label=None, confidence=None, version=version)
    assert "answer    abstained (91.00 %), image 0" in told(pipeline, "trace", "r-1").stdout
    assert "abstained (90.00 %)" in told(pipeline, "trace", "unsure.png", "--night", "2026-01-05").stdout
    assert "no digit" in told(pipeline, "trace", "blank.png", "--night", "2026-01-06").stdout


def test_a_shadow_and_a_version_that_is_gone(pipeline: Pipeline, version: str) -> None:
    answered(pipeline.state, "r-1", strokes(1), [1], version=version)
    answered(pipeline.state, "r-1", strokes(1), [2], version="pruned-0123456789ab", role="shadow")
    found = document(pipeline, "trace", "r-1", code=1)
    assert [each["version"] for each in found["versions"]] == [version, "pruned-0123456789ab"]
    assert ["pruned-0123456789ab" in problem for problem in found["problems"]] == [True]


def test_pixels_and_files_are_found_by_their_digest_or_its_beginning(
    pipeline: Pipeline, version: str, image: np.ndarray, tmp_path: Path
) -> None:
    answered(pipeline.state, "r-1", strokes(1, seed=3), [1], version=version)
    night(pipeline.state, "2026-01-05", {"a.png": png(image)}, version=version)
    pixels, file = sha256(strokes(1, seed=3)[0].tobytes()), sha256(png(image))
    assert document(pipeline, "trace", pixels)["answers"][0]["request_id"] == "r-1"
    assert document(pipeline, "trace", pixels[:12])["answers"][0]["request_id"] == "r-1"
    (tmp_path / "copy.png").write_bytes(png(image))
    for what in (file, file[:10], str(tmp_path / "copy.png")):
        found = document(pipeline, "trace", what)
        assert (found["of"], found["answers"][0]["file"], found["answers"][0]["night"]) == (
            "night",
            "a.png",
            "2026-01-05",
        )
        assert found["versions"][0]["version"] == version


def test_a_file_of_a_night_by_its_name(pipeline: Pipeline, version: str, image: np.ndarray) -> None:
    night(pipeline.state, "2026-01-05", {"a.png": png(image)}, version=version, label="4")
    in_a_file(pipeline.state, "a.csv", "file,label", "a.png,7")
    found = document(pipeline, "trace", "a.png", "--night", "2026-01-05")
    assert (found["answers"][0]["label"], found["said"][0]["label"]) == ("4", "7")
    assert "a.png row 0 of night 2026-01-05" in told(pipeline, "trace", "a.png", "--night", "2026-01-05").stdout
    assert told(pipeline, "trace", "b.png", "--night", "2026-01-05").exit_code == 4
    result = told(pipeline, "trace", "a.png", "--night", "2026-01-06")
    assert (result.exit_code, "2026-01-05" in result.stderr) == (4, True)


def test_a_version_by_its_name_and_what_is_ambiguous_is_refused(pipeline: Pipeline, version: str) -> None:
    assert document(pipeline, "trace", version)["versions"][0]["version"] == version
    assert document(pipeline, "trace", version[:-3])["versions"][0]["version"] == version
    pipeline.variant(nudged(0.1))
    assert document(pipeline, "trace", "variant")["versions"][0]["decisions"] == []
    pipeline.variant(nudged(0.2))
    result = told(pipeline, "trace", "variant")
    assert (result.exit_code, "give more of it" in result.stderr) == (2, True)
    assert result.stderr.count("variant-") == 2
    answered(pipeline.state, version, strokes(1), [1], version=version)  # a request of that name, too
    assert told(pipeline, "trace", version).exit_code == 2


def test_a_beginning_of_two_digests_is_refused(pipeline: Pipeline, version: str) -> None:
    table = {f"{i}.png": png(image) for i, image in enumerate(strokes(2))}
    night(pipeline.state, "2026-01-05", table, version=version)
    one, other = (sha256(data) for data in table.values())
    assert told(pipeline, "trace", one[:10]).exit_code == 0
    assert one[:6] != other[:6]
    assert told(pipeline, "trace", "").exit_code == 2


def test_data_leads_forward_to_all_that_it_has_touched(pipeline: Pipeline, version: str, image: np.ndarray) -> None:
    digest = pipeline.digits().digest()
    other = pipeline.variant(nudged(0.1), data_version="f" * 64)
    answered(pipeline.state, "r-1", strokes(3), [1, 2, 3], version=version)
    answered(pipeline.state, "r-2", strokes(1), [1], version=version, role="shadow")
    answered(pipeline.state, "r-3", strokes(1), [1], version=version, door="draft")
    answered(pipeline.state, "r-4", strokes(1), [1], version=other)
    night(pipeline.state, "2026-01-05", {"a.png": png(image)}, version=version)
    found = document(pipeline, "trace", "--data", digest[:10])
    assert [each["version"] for each in found["versions"]] == [version]
    assert [each["key"] for each in found["reports"]] == [pipeline.value("model_evaluation")]
    assert [each["number"] for each in found["decisions"]] == [1]
    assert found["nights"] == {"2026-01-05": 1}
    assert found["answers"]["count"] == 3
    lines = told(pipeline, "trace", "--data", digest).stdout
    assert "3 answers" in lines
    assert version in lines
    assert document(pipeline, "trace", "--data", "fff")["answers"]["count"] == 1


def test_data_has_touched_decisions_and_reports_of_others_too(pipeline: Pipeline) -> None:
    """A decision that was made while its version competed, and what was found on other data of a version of it."""
    store, first = pipeline.store, pipeline.value("digit_classifier")
    other = pipeline.variant(nudged(0.1), data_version="f" * 64)
    third = pipeline.variant(nudged(0.2), data_version="e" * 64)
    told(pipeline, "challenge", other)
    record(Case.after(store, store.current()), Choice("quality", third, "kept: a test"), deploy=False)
    told(pipeline, "withdraw")
    report = {**store.report(pipeline.value("model_evaluation")), "data_digest": "d" * 64, "version": other}
    kept = store.add_report({**report, "model_digest": store.card(other).digest})
    found = document(pipeline, "trace", "--data", "fff")
    assert [each["number"] for each in found["decisions"]] == [2, 3, 4]
    assert [each["key"] for each in found["reports"]] == [kept]
    assert [each["number"] for each in document(pipeline, "trace", "--data", "eee")["decisions"]] == [3]
    assert first in told(pipeline, "trace", "--data", pipeline.digits().digest()).stdout


def test_the_decision_behind_a_shadows_answer_is_the_one_that_had_it_compete(pipeline: Pipeline, version: str) -> None:
    """Also where it has served before, and where it is the predecessor of a promoted one."""
    store, other = pipeline.store, pipeline.variant(nudged(0.1))
    told(pipeline, "challenge", other)
    record(Case.after(store, store.current()), Choice("promotion", other, "a test"))
    told(pipeline, "deploy", version)
    told(pipeline, "challenge", other)
    for role, by, decision, meant in (
        ("shadow", other, 2, [2]),
        ("champion", version, 2, [1]),
        ("shadow", version, 3, [3]),
        ("champion", other, 3, [3]),
        ("shadow", other, 5, [5]),
        ("champion", version, 5, [4]),
    ):
        request = f"{role}-{by}-{decision}"
        answered(pipeline.state, request, strokes(1), [1], role=role, version=by, decision=decision)
        (about,) = document(pipeline, "trace", request)["versions"]
        assert [each["number"] for each in about["decisions"]] == meant, request


def test_feedback_leads_forward_to_the_versions_that_learned_from_it(pipeline: Pipeline) -> None:
    digest = sha256(b"feedback")
    learned = pipeline.variant(nudged(0.1), data_version="f" * 64, dataset=f"embedded + 3 of feedback {digest[:12]}")
    answered(pipeline.state, "r-1", strokes(1), [1], version=learned)
    for given in (digest, digest[:8]):
        found = document(pipeline, "trace", "--data", given)
        assert [each["version"] for each in found["versions"]] == [learned]
        assert found["answers"]["count"] == 1
    assert told(pipeline, "trace", "--data", digest[:12] + "0" * 51).exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["nothing-like-it"], 4, "no request, version or digest"),
        (["--data", "abcdef"], 4, "no version and no report"),
        ([], 2, "not both"),
        (["r-1", "--data", "abc"], 2, "not both"),
        (["--data", "abc", "--night", "2026-01-05"], 2, "data has none"),
    ],
)
def test_what_cannot_be_traced_says_so(finished: Pipeline, arguments: list[str], code: int, word: str) -> None:
    result = told(finished, "trace", *arguments)
    assert result.exit_code == code
    assert word in " ".join(result.stderr.replace("│", " ").split())


def test_a_damaged_report_is_told_and_the_rest_is_shown(pipeline: Pipeline, version: str) -> None:
    flip_a_bit(pipeline.state / "models" / pipeline.value("model_evaluation"))
    found = document(pipeline, "trace", version, code=1)
    assert found["versions"][0]["reports"] == []
    assert "is not a report as it was stored" in found["problems"][0]


def test_only_the_newest_days_are_looked_at_unless_more_are_asked_for(pipeline: Pipeline, version: str) -> None:
    answered(pipeline.state, "old", strokes(1), [1], version=version, at=time.time() - DAY_S)
    today = next((pipeline.state / "prediction_log").iterdir())
    today.rename(today.with_name("2026-01-01"))  # a part lies under the day it was written on
    answered(pipeline.state, "new", strokes(1), [1], version=version)
    assert told(pipeline, "trace", "old", "--days", "1").exit_code == 4
    assert told(pipeline, "trace", "old", "--days", "2").exit_code == 0
    for date in ("2026-01-05", "2026-01-06"):
        night(pipeline.state, date, {"a.png": png(strokes(1)[0])}, version=version)
    digest = pipeline.digits().digest()
    forward = document(pipeline, "trace", "--data", digest, "--days", "1")
    assert (forward["nights"], forward["answers"]["count"]) == ({"2026-01-06": 1}, 1)
    assert forward["older"] == {"nights": 1, "days": 1}
    assert (
        "1 older nights, 1 older days of the log (--days)"
        in told(pipeline, "trace", "--data", digest, "--days", "1").stdout
    )
    assert document(pipeline, "trace", "--data", digest)["older"] == {"nights": 0, "days": 0}
    assert "not looked at" not in told(pipeline, "trace", "--data", digest).stdout


def test_settings_that_cannot_be_are_told(finished: Pipeline) -> None:
    assert told(finished, "trace", "r-1", MNIST_PIPELINE_ENV="staging").exit_code == 2
