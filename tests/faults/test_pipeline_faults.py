"""The pipeline under kill -9, two deployments at once and damaged files: nothing lost, nothing double, nothing half."""

from __future__ import annotations

import random
import signal
import time

import dagster as dg
import pytest
from children import Start, deploy_and_predict, deploy_on_command, tonight
from fault_table import Tried
from pipelines import NIGHT, Pipeline, flip_a_bit
from places import place_of
from witness import Witness

from mnist_pipeline.files import NotMaterialized
from mnist_pipeline.ml.gate import WrongEvidence
from mnist_pipeline.production import load_production

ROUNDS = 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at_place", "kills", "images"),
    [pytest.param("disk", 60, 20, id="disk"), pytest.param("s3", 40, 10, id="s3")],
    indirect=["at_place"],
)
def test_kill_at_random_moments_of_deployment_and_batch(
    at_place: Pipeline, versions: list[str], start: Start, kills: int, images: int, tried: Tried
) -> None:
    """images: dropped before each kill."""
    witness, chance = Witness(at_place, versions), random.Random(3)
    witness.drop(images)
    child, said = start(deploy_and_predict, at_place.env, versions)
    begun = time.monotonic()
    assert [said.poll(120) and said.recv() for _ in range(2)] == ["deployed", "predicted"]
    both_s = time.monotonic() - begun  # with nobody killing it, on this machine and in this place
    child.kill()
    for number in range(kills):
        witness.drop(images)
        child, said = start(deploy_and_predict, at_place.env, versions[:: 1 if number % 2 else -1])
        time.sleep(chance.uniform(0, 1.3 * both_s))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        witness.look()
    assert witness.decisions > kills / 4  # the children came far enough for it to mean something
    at_place.run("production_digit_classifier", production_digit_classifier={"strategy": "rollback"})
    at_place.run("batch_digit_predictions", night=tonight())
    witness.look_at_the_end()
    remark = f"{witness.decisions} decisions, {sum(witness.dropped.values())} images"
    tried(f"kill -9 at random moments over deployment and batch, {place_of(at_place)}", kills, remark=remark)


@pytest.mark.slow
@pytest.mark.parametrize("at_place", ["disk", "s3"], indirect=True)
def test_of_two_deployments_at_once_each_is_recorded_or_told(
    at_place: Pipeline, versions: list[str], start: Start, tried: Tried
) -> None:
    racers = [start(deploy_on_command, at_place.env, version)[1] for version in versions]
    answers: list[str] = []
    for _ in range(ROUNDS):
        for racer in racers:
            racer.send("go")
        answers += [racer.recv() for racer in racers]
    recorded = answers.count("deployed")
    assert recorded >= ROUNDS  # of two, at least one wins
    assert all("was made first: manual by" in answer for answer in answers if answer != "deployed")
    assert at_place.store.verify_chain() == []
    assert [each.number for each in at_place.store.decisions()] == list(range(1, recorded + 2))
    assert load_production(at_place.store).card.name in versions
    remark = f"{recorded} recorded, {len(answers) - recorded} told that they lost the race"
    tried(f"two deployments at once, {place_of(at_place)}", ROUNDS, remark=remark)
    for racer in racers:
        racer.send("stop")


# --- files that are missing or damaged ---


@pytest.mark.parametrize(
    ("missing", "asset"),
    [
        ("processed_mnist_data.safetensors", "digit_classifier"),
        ("digit_classifier.json", "model_evaluation"),
        ("model_evaluation.json", "production_digit_classifier"),
    ],
)
def test_a_value_that_is_not_there_is_named_with_what_to_do(pipeline: Pipeline, missing: str, asset: str) -> None:
    stored = pipeline.stored()
    (pipeline.state / "assets" / missing).unlink()
    with pytest.raises(NotMaterialized, match=f"{missing.split('.')[0]} has no value yet.*materialize it first"):
        pipeline.run(asset)
    assert pipeline.stored() == stored


@pytest.mark.parametrize("keep", [0, 4, 1_000, -1])
@pytest.mark.parametrize(
    ("damaged", "asset"),
    [("processed_mnist_data.safetensors", "digit_classifier"), ("digit_classifier.json", "model_evaluation")],
)
def test_a_value_that_was_cut_short_is_named_and_nothing_is_made_of_it(
    pipeline: Pipeline, damaged: str, asset: str, keep: int
) -> None:
    stored, path = pipeline.stored(), pipeline.state / "assets" / damaged
    path.write_bytes(path.read_bytes()[: min(keep, path.stat().st_size - 1)])
    with pytest.raises(dg.DagsterError, match=rf"{path}.*is damaged.*materialize {path.stem} again"):
        pipeline.run(asset)
    assert pipeline.stored() == stored


def test_data_with_a_flipped_bit_deploys_nothing(pipeline: Pipeline) -> None:
    flip_a_bit(pipeline.state / "assets" / "processed_mnist_data.safetensors")
    with pytest.raises(WrongEvidence, match="of another data"):
        pipeline.run("production_digit_classifier")
    assert len(pipeline.store.decisions()) == 1


def test_a_decision_that_was_changed_stops_deployment_and_prediction(pipeline: Pipeline) -> None:
    flip_a_bit(pipeline.state / "models" / "decisions" / "00000001.json")
    for asset, night in (("production_digit_classifier", None), ("batch_digit_predictions", NIGHT)):
        with pytest.raises(Exception, match=r"decisions/00000001\.json cannot be trusted.*Restore it from a backup"):
            pipeline.run(asset, night=night)
