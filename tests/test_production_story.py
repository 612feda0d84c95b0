"""The whole story of a model in production, over a real service: it competes, is watched, learns, and goes back.

Each part is tested by itself elsewhere; here one state folder goes through all of them, in the order in which a team
would meet them.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from commands import document, told
from pipelines import BARELY, TINY, UP_TO_DEPLOYMENT, Pipeline, metadata, verdicts
from processes import wait
from served import People, service_at

from mnist_pipeline.assets.monitoring import ACCURACY_HOLDS, LOOKS_AS_IT_DID, SERVICE
from mnist_pipeline.ml.corruptions import corrupted
from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.sensors.retraining import BECAUSE, asked

pytestmark = pytest.mark.slow
AGAIN = ("digit_classifier", "model_evaluation", "production_digit_classifier")
HARDLY = {**TINY, "epochs": 1, "min_steps": 0}


def test_the_whole_story(tmp_path: Path) -> None:
    story = Pipeline(tmp_path / "state", MNIST_FEEDBACK="train", MNIST_GATE_MARGIN="0.1")

    # a first model is trained and deployed, for nothing serves yet
    story.run(*UP_TO_DEPLOYMENT, digit_classifier=BARELY, production_digit_classifier={"min_accuracy": 0.3})
    first = str(story.store.production())

    # a worse one is refused
    refused = metadata(
        story.run(*AGAIN, digit_classifier=HARDLY, production_digit_classifier={"min_accuracy": 0.05}), AGAIN[-1]
    )
    assert refused["serves_now"] == first
    assert refused["reason"].startswith("not deployed: worse than production beyond noise")

    # a better one becomes the challenger, answers in the shadow, and is promoted by what people say
    story.run(*AGAIN, digit_classifier=TINY, production_digit_classifier={"strategy": "challenge"})
    better, test = story.value("digit_classifier"), story.digits()["test"]
    with service_at(story.state, tmp_path / "service.log") as url:
        people = People(url)
        people.wait_for("champion", first)
        people.wait_for("challenger", better)
        answers = people.ask(test.images)
        assert {answer["served_by"] for answer in answers} == {"champion"}
        assert people.correct(test, answers) > 10
        wait("the shadow", lambda: logged(story, "shadow") == len(test.images), 20, every=0.2)
        promoted = metadata(story.run("ab_report"), "ab_report")
        assert (promoted["strategy"], promoted["challenger"]) == ("promotion", better)
        people.wait_for("champion", better)
        people.wait_for("challenger", first)  # its predecessor, as the yardstick

        # people hold their tablets askew: the day's report says so
        askew = LabeledImages(corrupted(test.images, "rotation", 4), test.labels)
        wrong = people.correct(askew, answers := people.ask(askew.images))
        wait("the log", lambda: logged(story, "champion") == 2 * len(test.images), 20, every=0.2)
        drifted = story.run(SERVICE, night=f"{datetime.now(timezone.utc):%Y-%m-%d}")
        assert not verdicts(drifted)[LOOKS_AS_IT_DID]
        assert not verdicts(drifted)[ACCURACY_HOLDS]  # estimated without labels, and so it is:
        assert wrong / len(askew) > 0.1

        # so it is trained again by itself, and what people put right is learned
        (request,) = asked(story.instance, NightlyRun("UTC", 2, 0), datetime.now(timezone.utc), None).run_requests or ()
        assert request.tags[BECAUSE].startswith(SERVICE)
        training = story.definitions.resolve_job_def("training")
        training.execute_in_process(
            run_config={"ops": {"digit_classifier": {"config": TINY}}}, instance=story.instance, tags=request.tags
        )
        learned = story.store.card(story.value("digit_classifier"))
        said, trained_on = story.digits("feedback_digits")["feedback"], story.digits()
        added = trained_on.origin.feedback.rows  # the newest, a tenth of all at most
        assert added > 100
        assert f"{added} of feedback" in learned.dataset
        learned_from = {image.tobytes() for image in trained_on["train"].images}
        assert {image.tobytes() for image in said.images[:added]} <= learned_from

        # as it is no worse than the margin allows, it serves: the gate decides by itself what the environment says
        decided = metadata(story.run(AGAIN[-1]), AGAIN[-1])
        assert (decided["strategy"], decided["serves_now"]) == ("quality", learned.name)
        assert decided["reason"].startswith("deployed: ")
        people.wait_for("champion", learned.name)

        # somebody does not like it, and goes back
        assert document(story, "rollback", "--yes")["serves"] == better
        people.wait_for("champion", better)

    # every answer leads back to where it came from, and the chain of decisions is whole
    traced = document(story, "trace", answers[0]["request_id"])
    assert {each["version"] for each in traced["versions"]} >= {better}
    strategies = [each.strategy for each in story.store.decisions()]
    assert strategies == ["quality", "quality", "challenge", "promotion", "quality", "rollback"]
    assert told(story, "decisions", "--verify").exit_code == 0
    forged = story.state / "models" / "decisions" / "00000004.json"
    forged.write_text(forged.read_text().replace("promotion", "challenge"))
    assert told(story, "decisions", "--verify").exit_code != 0


def logged(story: Pipeline, role: str) -> int:
    """Rows in the prediction log."""
    import pyarrow.parquet as pq

    parts = (story.state / "prediction_log").rglob("*.parquet")
    return sum(pq.read_table(part, columns=["role"])["role"].to_pylist().count(role) for part in parts)
