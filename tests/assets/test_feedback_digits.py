"""feedback_digits and what becomes of it: off it changes nothing, on it is trained with and a version says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digit_files import strokes
from people import in_a_file, on_the_page
from pipelines import DATA, TINY, Pipeline, data_version, metadata, verdicts

from mnist_pipeline.assets.causes import Target
from mnist_pipeline.refreshing.standings import Observer

STAGES = ("feedback_digits", "processed_mnist_data")


@pytest.fixture
def learning(pipeline: Pipeline, tmp_path: Path) -> Pipeline:
    """A pipeline that learns from feedback."""
    return pipeline.copy(tmp_path / "learning", MNIST_FEEDBACK="train")


def said_by_people(state: Path) -> np.ndarray:
    """Three that count, a contradiction, and one that is of no class."""
    images = strokes(4, seed=5)
    for image, label in zip(images[[0, 1, 2, 0, 3]], ["1", "2", "3", "7", "eleven"], strict=True):
        on_the_page(state, image, label, request_id="r-1")
    return images


def test_off_changes_nothing(pipeline: Pipeline) -> None:
    before = pipeline.digits().digest()
    said_by_people(pipeline.state)
    result = pipeline.run(*DATA)
    assert metadata(result, "feedback_digits")["use"] == "off"
    assert metadata(result, "feedback_digits")["images"] == 0
    assert metadata(result, "processed_mnist_data")["feedback_images"] == 0
    assert data_version(result, "processed_mnist_data") == before


def test_on_it_is_in_the_training_part_and_says_where_it_comes_from(learning: Pipeline) -> None:
    before = learning.digits()
    images = said_by_people(learning.state)
    in_a_file(learning.state, "a.csv", "request_id,label", "unknown,3")
    result = learning.run(*STAGES)
    said, after = metadata(result, "feedback_digits"), learning.digits()
    assert (said["images"], said["by_origin"], said["by_class"]) == (3, {"page": 3}, {"2": 1, "3": 1, "7": 1})
    assert said["left_out"] == 3
    assert said["oldest"] < said["newest"]
    assert (learning.state / "pictures" / "feedback_digits" / "samples.png").exists()
    assert len(after["train"]) == len(before["train"]) + 3
    assert {each.tobytes() for each in after["train"].images[-3:]} == {each.tobytes() for each in images[:3]}
    for part in ("validation", "test"):
        assert after[part].images.tobytes() == before[part].images.tobytes()
    assert all(verdicts(result).values())
    assert metadata(result, "processed_mnist_data")["feedback_sha256"] == after.origin.feedback.digest


def test_the_share_is_read(learning: Pipeline) -> None:
    said_by_people(learning.state)
    result = learning.run(*STAGES, processed_mnist_data={"feedback_share": 0.001})
    assert metadata(result, "processed_mnist_data")["feedback_images"] == 1


def test_a_flood_of_one_class_leaves_the_checks_standing(learning: Pipeline) -> None:
    for image in strokes(200, seed=3):
        on_the_page(learning.state, image, "7")
    result = learning.run(*STAGES)
    assert metadata(result, "processed_mnist_data")["feedback_images"] == 127  # a tenth
    assert all(verdicts(result).values())


def test_a_picture_of_the_test_part_is_not_learned(learning: Pipeline) -> None:
    on_the_page(learning.state, learning.digits()["test"].images[0], "3")
    result = learning.run(*STAGES)
    assert metadata(result, "feedback_digits")["images"] == 0
    assert "test part" in str(metadata(result, "feedback_digits")["left_out_because"])


def test_a_version_says_what_feedback_it_has_learned_from(learning: Pipeline) -> None:
    said_by_people(learning.state)
    learning.run(*STAGES, "digit_classifier", digit_classifier=TINY)
    card = learning.store.card(learning.value("digit_classifier"))
    assert card.dataset == f"embedded + 3 of feedback {learning.digits().origin.feedback.digest[:12]}"
    assert card.data_version == learning.digits().digest()


def test_what_was_said_again_runs_nothing_and_other_feedback_is_seen(learning: Pipeline) -> None:
    images = said_by_people(learning.state)
    learning.run(*DATA)
    assert why(learning) == ()
    first = learning.digits().digest()
    on_the_page(learning.state, images[2], "3", request_id="r-2")  # once more
    assert why(learning) == ("its source has changed",)
    result = learning.run(*STAGES)
    assert data_version(result, "processed_mnist_data") == first
    on_the_page(learning.state, strokes(1, seed=77)[0], "3")
    assert why(learning) == ("its source has changed",)


def test_off_is_up_to_date_whatever_people_say(pipeline: Pipeline) -> None:
    pipeline.run(*DATA)
    said_by_people(pipeline.state)
    assert why(pipeline) == ()


def test_an_unknown_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MNIST_FEEDBACK='yes': it is one of off, train"):
        Pipeline(tmp_path, MNIST_FEEDBACK="yes")


def why(pipeline: Pipeline) -> tuple[str, ...]:
    """Why feedback_digits is out of date."""
    import dagster as dg

    resources: dict[str, Any] = dict(pipeline.definitions.resources or {})
    observer = Observer(pipeline.definitions.get_repository_def(), pipeline.instance, resources)
    return observer.look(())[Target(dg.AssetKey("feedback_digits"))].causes
