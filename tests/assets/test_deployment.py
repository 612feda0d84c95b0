"""production_digit_classifier: what it decides, what it refuses, and what the ledger says afterwards."""

from __future__ import annotations

import getpass
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import torch
from pipelines import BARELY, Pipeline, flip_a_bit, metadata

from mnist_pipeline.assets.deployment import DeploymentConfig, DeploymentRefused, production_digit_classifier
from mnist_pipeline.assets.evaluation import model_evaluation
from mnist_pipeline.ledger import Decision
from mnist_pipeline.ml import custom_metrics
from mnist_pipeline.ml.artifacts import WEIGHTS
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.gate import WrongEvidence
from mnist_pipeline.ml.network import DigitCNN
from mnist_pipeline.ml.predictor import GOLDEN, ONNX, WrongAnswers
from mnist_pipeline.resources import Models
from mnist_pipeline.storage.blobs import BadKey, DiskBlobs
from mnist_pipeline.store import CorruptReport, CorruptVersion, LostRace, ModelStore, UnknownVersion


def decide(pipeline: Pipeline, **config: Any) -> Decision:
    """Materialize the deployment with this configuration; the decision that was recorded."""
    ran = pipeline.run("production_digit_classifier", production_digit_classifier=config)
    decision = pipeline.store.current()
    assert decision is not None
    assert metadata(ran, "production_digit_classifier")["decision"] == decision.number
    return decision


def decide_on(
    pipeline: Pipeline, candidate: str, report: str, data: DigitData | None = None, **config: Any
) -> Decision:
    """The asset called with values of other assets as the test wants them."""
    production_digit_classifier(
        dg.build_asset_context(),
        config=DeploymentConfig(**config),
        digit_classifier=candidate,
        model_evaluation=report,
        processed_mnist_data=data or pipeline.digits(),
        models=pipeline.models,
        tracking=pipeline.untracked,
        judging=pipeline.judging,
    )
    decision = pipeline.store.current()
    assert decision is not None
    return decision


def evaluated(pipeline: Pipeline, version: str) -> str:
    """The key of a report about that version."""
    made = model_evaluation(
        dg.build_asset_context(),
        version,
        pipeline.digits(),
        models=pipeline.models,
        pictures=pipeline.pictures,
        tracking=pipeline.untracked,
    )
    return str(made.value)


def nudge(by: float) -> Any:
    """Another network with the same answers."""

    def change(network: DigitCNN) -> None:
        network.classifier.bias.add_(by)

    return change


def mix_up(network: DigitCNN) -> None:
    """Every answer is one too high."""
    for each in (network.classifier.weight, network.classifier.bias):
        each.copy_(torch.roll(each, 1, 0))


def decisions(pipeline: Pipeline) -> int:
    assert pipeline.store.verify_chain() == []
    return len(pipeline.store.decisions())


# --- quality ---


def test_a_good_first_model_is_deployed(finished: Pipeline, result: dg.ExecuteInProcessResult) -> None:
    name, report = finished.value("digit_classifier"), finished.value("model_evaluation")
    (decision,) = finished.store.decisions()
    assert (decision.serves, decision.candidate, finished.store.production()) == (name, name, name)
    assert (decision.strategy, decision.outcome, decision.actor) == ("quality", "deployed", getpass.getuser())
    assert decision.evidence["report"] == report
    assert decision.evidence["minimums"] == {"accuracy": 0.95}
    assert decision.evidence["metrics"]["accuracy"] == finished.store.report(report)["test"]["accuracy"] > 0.95
    assert finished.value("production_digit_classifier") == name


def test_the_metadata_shows_decision_evidence_before_and_after(
    finished: Pipeline, result: dg.ExecuteInProcessResult
) -> None:
    said, name = metadata(result, "production_digit_classifier"), finished.value("digit_classifier")
    assert (said["decision"], said["outcome"], said["strategy"]) == (1, "deployed", "quality")
    assert (said["served_before"], said["serves_now"], said["candidate"]) == ("nothing", name, name)
    assert said["evidence"] == finished.store.decisions()[0].evidence
    assert "above 0.95" in said["reason"]
    assert said["actor"] == getpass.getuser()


def test_the_same_candidate_again_is_kept(pipeline: Pipeline) -> None:
    name = pipeline.value("digit_classifier")
    decision = decide(pipeline)
    assert (decision.number, decision.outcome, decision.serves) == (2, "kept", name)
    assert f"{name} serves already" in decision.reason


@pytest.mark.parametrize(
    ("demanded", "reason"),
    [
        ({"min_accuracy": 0.9999}, r"accuracy 0\.\d+ is not above 0.9999"),
        ({"minimums": {"top_2_accuracy": 1.0}}, r"top_2_accuracy 0\.\d+ is not above 1"),
        ({"minimums": {"top_3_accuracy": 0.1}}, r"top_3_accuracy is not in the report"),
        ({"minimums": {"accuracy": 1.0}}, r"accuracy 0\.\d+ is not above 1"),
    ],
)
def test_a_candidate_below_what_is_demanded_is_refused_and_production_keeps_serving(
    pipeline: Pipeline, demanded: dict[str, Any], reason: str
) -> None:
    serving = pipeline.value("digit_classifier")
    other = pipeline.variant(nudge(0.1))
    decision = decide_on(pipeline, other, evaluated(pipeline, other), **demanded)
    assert (decision.outcome, decision.serves, decision.candidate) == ("kept", serving, other)
    assert re.search(reason, decision.reason)
    assert decisions(pipeline) == 2


def test_a_first_model_that_is_refused_leaves_production_empty(pipeline: Pipeline) -> None:
    empty(pipeline)
    decision = decide(pipeline, min_accuracy=0.9999)
    assert (decision.number, decision.outcome, decision.serves) == (1, "kept", None)
    assert pipeline.store.production() is None
    assert pipeline.value("production_digit_classifier") is None


def test_a_model_that_is_worse_beyond_noise_is_refused(pipeline: Pipeline) -> None:
    serving = pipeline.value("digit_classifier")
    pipeline.run("digit_classifier", "model_evaluation", digit_classifier=BARELY)
    candidate = pipeline.value("digit_classifier")
    decision = decide(pipeline, min_accuracy=0.0)
    assert (decision.outcome, decision.serves, decision.candidate) == ("kept", serving, candidate)
    assert "worse than production beyond noise" in decision.reason
    assert decision.evidence["comparison"]["production_only"] > decision.evidence["comparison"]["candidate_only"]


def test_a_model_that_is_no_better_leaves_the_champion_in_place(pipeline: Pipeline) -> None:
    serving, other = pipeline.value("digit_classifier"), pipeline.variant(nudge(0.1))
    decision = decide_on(pipeline, other, evaluated(pipeline, other))
    assert (decision.outcome, decision.serves, decision.candidate) == ("kept", serving, other)
    assert decision.reason.startswith("kept: no better than production beyond noise, so production stays: +0.00% on")
    assert decision.evidence["comparison"]["p_better"] == 1.0


def test_the_environment_says_by_how_much_it_may_be_worse_and_whether_its_predecessor_watches(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    serving, other = pipeline.value("digit_classifier"), pipeline.variant(nudge(0.1))
    told = pipeline.copy(tmp_path / "told", MNIST_GATE_MARGIN="0.05", MNIST_WATCH="deployments")
    assert decide_on(told, other, evaluated(told, other), margin=0.0).outcome == "kept"  # a run may say otherwise
    decision = decide_on(told, other, evaluated(told, other))
    assert (decision.outcome, decision.serves, decision.challenger) == ("deployed", other, serving)
    assert (decision.watches, decision.evidence["comparison"]["margin"]) == (True, 0.05)


def test_with_a_margin_a_model_that_is_not_worse_is_deployed(pipeline: Pipeline) -> None:
    serving, other = pipeline.value("digit_classifier"), pipeline.variant(nudge(0.1))
    decision = decide_on(pipeline, other, evaluated(pipeline, other), margin=0.05)
    assert (decision.outcome, decision.serves) == ("deployed", other)
    assert (decision.evidence["comparison"]["images"], decision.evidence["comparison"]["margin"]) == (360, 0.05)
    assert "not worse than production by 5.00% or more, and that was enough: +0.00% on the same" in decision.reason
    assert pipeline.store.decisions()[0].serves == serving


def test_a_better_model_replaces_a_bad_one(pipeline: Pipeline) -> None:
    good, bad = pipeline.value("digit_classifier"), pipeline.variant(mix_up)
    decide(pipeline, strategy="force", version=bad, reason="to be replaced")
    assert decide(pipeline).serves == good


# --- production cannot be compared: the gate stays closed, and says so ---


def lost(pipeline: Pipeline, version: str) -> None:
    """Somebody has pruned the version that serves."""
    for key in pipeline.store.blobs.list(f"versions/{version}/"):
        pipeline.store.blobs.delete(key)


def damaged(pipeline: Pipeline, version: str) -> None:
    flip_a_bit(pipeline.state / "models" / "versions" / version / ONNX)


def without_its_card(pipeline: Pipeline, version: str) -> None:
    flip_a_bit(pipeline.state / "models" / "versions" / version / "card.json")


@pytest.mark.parametrize("margin", [0.0, 0.05])
@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (damaged, f"{ONNX}: its sha256 is not the one on the card"),
        (without_its_card, "card.json: "),
        (lost, "there is no version"),
    ],
)
def test_a_champion_that_cannot_be_loaded_does_not_open_the_gate(
    pipeline: Pipeline, harm: Any, why: str, margin: float
) -> None:
    serving, other = pipeline.value("digit_classifier"), pipeline.variant(nudge(0.1))
    report = evaluated(pipeline, other)
    harm(pipeline, serving)
    decision = decide_on(pipeline, other, report, margin=margin)
    assert (decision.outcome, decision.serves, decision.candidate) == ("kept", serving, other)
    assert decision.reason.startswith(
        f"not deployed: production's model {serving} could not be compared, for it cannot"
    )
    assert why in decision.reason
    assert decision.reason.endswith(f'past the gate: mnist-pipeline deploy {other} --force --reason "…"')
    assert decision.reason == f"not deployed: {decision.evidence['not_compared']}"
    assert (decision.evidence["passed"], decision.evidence["against"]) == (False, serving)
    forced = decide(pipeline, strategy="force", version=other, reason="the old one is lost")
    assert (forced.outcome, forced.serves) == ("deployed", other)


def odd(pipeline: Pipeline) -> str:
    """A version whose files are as they were stored, but whose graph does not give the golden logits."""
    name, other = pipeline.value("digit_classifier"), pipeline.variant(mix_up)
    files = {**pipeline.store.load(name), ONNX: pipeline.store.load(other)[ONNX]}
    card = pipeline.store.card(name)
    facts = {key: getattr(card, key) for key in ("metrics", "config", "class_names", "preparation", "dataset")}
    return pipeline.store.add_version(files, label="odd", data_version="d", code_version="c", run_id="r", **facts).name


def test_a_champion_that_gives_other_answers_here_does_not_open_the_gate(pipeline: Pipeline) -> None:
    serving = odd(pipeline)
    said: dict[str, Any] = {"strategy": "force", "outcome": "deployed", "evidence": {}, "actor": "another machine"}
    pipeline.store.decide(serves=serving, candidate=serving, reason="fine there", expected=1, **said)
    decision = decide_on(pipeline, pipeline.value("digit_classifier"), pipeline.value("model_evaluation"))
    assert (decision.outcome, decision.serves) == ("kept", serving)
    assert re.search(r"^not deployed: production's model .* could not be compared.*golden inputs", decision.reason)


@pytest.mark.parametrize("names", [[*"abcdefghij"], [*"012345678"], [*"0123456789", "ten", "eleven"]])
def test_a_champion_of_other_classes_is_replaced_by_force_only(pipeline: Pipeline, names: list[str]) -> None:
    """Another data set may be meant, or a folder of images may have got a class by mistake: a person knows."""
    candidate, serving = pipeline.value("digit_classifier"), pipeline.variant(nudge(0.1), class_names=names)
    decide(pipeline, strategy="manual", version=serving)
    decision = decide_on(pipeline, candidate, pipeline.value("model_evaluation"))
    assert (decision.outcome, decision.serves, decision.candidate) == ("kept", serving, candidate)
    theirs = ", ".join(names[:10]) + (" and 2 more" if len(names) > 10 else "")
    assert f"for it knows other classes ({theirs}) than the candidate (0, 1, 2, 3" in decision.reason
    assert decision.reason.endswith(f'If that is meant: mnist-pipeline deploy {candidate} --force --reason "…"')
    forced = decide(pipeline, strategy="force", version=candidate, reason="digits now")
    assert (forced.outcome, forced.serves) == ("deployed", candidate)


def test_the_first_deployment_and_what_serves_already_need_no_comparison(pipeline: Pipeline) -> None:
    name = pipeline.value("digit_classifier")
    (first,) = pipeline.store.decisions()
    assert (first.outcome, first.evidence["not_compared"]) == ("deployed", "nothing was in production")
    again = decide(pipeline)
    assert (again.outcome, again.serves, again.evidence["not_compared"]) == ("kept", name, "it serves already")


def test_after_a_refused_first_model_the_next_needs_no_comparison(pipeline: Pipeline) -> None:
    empty(pipeline)
    decide(pipeline, min_accuracy=0.9999)
    decision = decide(pipeline)
    assert (decision.number, decision.outcome) == (2, "deployed")
    assert decision.reason.endswith("nothing was in production")


# --- evidence ---


def broken(truth: Any, probabilities: Any) -> float:
    raise ZeroDivisionError("no such class")


def nowhere(truth: Any, probabilities: Any) -> float:
    return float("nan")


@pytest.mark.parametrize("metric", [broken, nowhere])
def test_a_metric_that_fails_leaves_production_as_it_is(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, metric: Any
) -> None:
    """The whole run, as it is launched: a better model, and nothing to decide on."""
    serving = pipeline.variant(mix_up)
    decide(pipeline, strategy="force", version=serving, reason="to be replaced")
    monkeypatch.setattr(custom_metrics, "METRICS", [metric])
    ran = pipeline.try_run("model_evaluation", "production_digit_classifier")
    assert not ran.success
    assert (decisions(pipeline), pipeline.store.production()) == (2, serving)


def test_a_number_that_the_report_lacks_refuses_a_better_model(pipeline: Pipeline) -> None:
    """It may be demanded of a report from before the metric was written."""
    serving = pipeline.variant(mix_up)
    decide(pipeline, strategy="force", version=serving, reason="to be replaced")
    decision = decide(pipeline, minimums={"sevens_found": 0.1})
    assert (decision.outcome, decision.serves) == ("kept", serving)
    assert decision.reason == "not deployed: sevens_found is not in the report"


def test_a_report_of_another_model_is_refused(pipeline: Pipeline) -> None:
    other = pipeline.variant(nudge(0.1))
    with pytest.raises(WrongEvidence, match=r"of another model.*materialize model_evaluation"):
        decide_on(pipeline, other, pipeline.value("model_evaluation"))
    assert decisions(pipeline) == 1


def test_a_report_on_other_data_is_refused(pipeline: Pipeline) -> None:
    """The data was split anew, and only the deployment was run after it."""
    pipeline.run("processed_mnist_data", processed_mnist_data={"seed": 1})
    with pytest.raises(WrongEvidence, match=r"of another data.*materialize model_evaluation"):
        decide(pipeline)
    assert decisions(pipeline) == 1


def test_a_new_model_that_nobody_evaluated_is_refused(pipeline: Pipeline) -> None:
    pipeline.run("digit_classifier", digit_classifier=BARELY)
    with pytest.raises(WrongEvidence, match="of another model"):
        decide(pipeline)
    assert decisions(pipeline) == 1


# --- manual and force ---


def test_a_version_can_be_named(pipeline: Pipeline) -> None:
    other = pipeline.variant(mix_up)
    decision = decide(pipeline, strategy="manual", version=other)
    assert (decision.serves, decision.strategy, decision.outcome) == (other, "manual", "deployed")
    assert decision.reason == "chosen by hand"
    assert decide(pipeline, strategy="manual", version=other, reason="again").reason == "again"


def test_an_unknown_version_is_refused_and_the_known_ones_are_named(pipeline: Pipeline) -> None:
    name, other = pipeline.value("digit_classifier"), pipeline.variant(nudge(0.1))
    with pytest.raises(UnknownVersion, match=f"no version 'digitcnn-9'.*{name}, {other}"):
        decide(pipeline, strategy="manual", version="digitcnn-9")
    assert decisions(pipeline) == 1


def test_manual_without_a_version_says_which_there_are(pipeline: Pipeline) -> None:
    with pytest.raises(DeploymentRefused, match=f"manual needs `version`.*{pipeline.value('digit_classifier')}"):
        decide(pipeline, strategy="manual")
    assert decisions(pipeline) == 1


@pytest.mark.parametrize("strategy", ["manual", "force", "rollback"])
@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/../b", ".."])
def test_a_name_that_leads_elsewhere_is_refused(pipeline: Pipeline, strategy: str, name: str) -> None:
    with pytest.raises(BadKey, match="is no name for the store"):
        decide(pipeline, strategy=strategy, version=name, reason="why not")
    assert decisions(pipeline) == 1


@pytest.mark.parametrize("reason", ["", "  "])
def test_force_needs_a_reason(pipeline: Pipeline, reason: str) -> None:
    with pytest.raises(DeploymentRefused, match="it needs a `reason`"):
        decide(pipeline, strategy="force", reason=reason)
    assert decisions(pipeline) == 1


def test_force_goes_past_the_gate_and_its_reason_is_kept(pipeline: Pipeline) -> None:
    pipeline.run("digit_classifier", digit_classifier=BARELY)  # not even evaluated
    decision = decide(pipeline, strategy="force", reason="the old one cannot read sevens", min_accuracy=1.0)
    assert decision.serves == pipeline.value("digit_classifier")
    assert (decision.strategy, decision.outcome) == ("force", "deployed")
    assert decision.reason == "the old one cannot read sevens"


# --- rollback ---


def test_rollback_goes_back_to_the_version_before_and_twice_goes_two_back(pipeline: Pipeline) -> None:
    first = pipeline.value("digit_classifier")
    second, third = pipeline.variant(nudge(0.1)), pipeline.variant(nudge(0.2))
    for version in (second, third):
        decide(pipeline, strategy="manual", version=version)
    decide(pipeline, min_accuracy=1.0)  # kept: not a step to go back to
    assert decide(pipeline, strategy="rollback").serves == second
    decision = decide(pipeline, strategy="rollback")
    assert (decision.serves, decision.strategy, decision.outcome) == (first, "rollback", "deployed")
    assert decision.reason == f"rolled back from {second}"
    with pytest.raises(DeploymentRefused, match="nothing to roll back to"):
        decide(pipeline, strategy="rollback")
    assert decisions(pipeline) == 6


def test_what_was_rolled_back_from_comes_back_only_by_hand(pipeline: Pipeline) -> None:
    """New evidence about an unchanged version, after an upgrade say, must not undo what a person decided."""
    first, second = pipeline.value("digit_classifier"), pipeline.variant(nudge(0.1))
    decide(pipeline, strategy="manual", version=second)
    decide(pipeline, strategy="manual", version=first)
    assert decide(pipeline, strategy="rollback").serves == second
    kept = decide(pipeline, margin=0.05)
    assert (kept.outcome, kept.serves, kept.candidate) == ("kept", second, first)
    assert "decision 4 rolled back from it" in kept.reason
    assert decide(pipeline, strategy="manual", version=first).serves == first
    decide(pipeline, strategy="manual", version=second)
    assert decide(pipeline, margin=0.05).serves == first


def test_rollback_can_name_its_version(pipeline: Pipeline) -> None:
    first = pipeline.value("digit_classifier")
    for by in (0.1, 0.2):
        decide(pipeline, strategy="manual", version=pipeline.variant(nudge(by)))
    assert decide(pipeline, strategy="rollback", version=first, reason="both are bad").serves == first


def test_with_one_deployment_there_is_nothing_to_roll_back_to(pipeline: Pipeline) -> None:
    with pytest.raises(DeploymentRefused, match="nothing to roll back to"):
        decide(pipeline, strategy="rollback")
    assert decisions(pipeline) == 1


# --- races and damage ---


class Overtaken(DiskBlobs):
    """A store in which somebody else decides in the moment before each decision is written."""

    def create(self, key: str, data: bytes) -> None:
        if key.startswith("decisions/"):
            rival = ModelStore(DiskBlobs(self.root))
            newest = rival.decisions()[-1]
            rival.decide(
                serves=newest.serves,
                strategy="force",
                outcome="deployed",
                candidate=newest.serves,
                reason="I was first",
                evidence={},
                actor="rival",
                expected=newest.number,
            )
        super().create(key, data)


class OvertakenModels(Models):
    """The resource over such a store."""

    def open(self) -> ModelStore:
        return ModelStore(Overtaken(Path(self.location)))


def test_who_loses_a_race_is_told_who_won(pipeline: Pipeline) -> None:
    other = pipeline.variant(nudge(0.1))
    with pytest.raises(
        LostRace, match=r"decision 2 was made first: force by rival.*I was first.*Yours was not recorded"
    ):
        production_digit_classifier(
            dg.build_asset_context(),
            config=DeploymentConfig(strategy="manual", version=other),
            digit_classifier=other,
            model_evaluation=pipeline.value("model_evaluation"),
            processed_mnist_data=pipeline.digits(),
            models=OvertakenModels(location=str(pipeline.state / "models")),
            tracking=pipeline.untracked,
            judging=pipeline.judging,
        )
    assert decisions(pipeline) == 2
    assert pipeline.store.production() == pipeline.value("digit_classifier")


@pytest.mark.parametrize("file", [WEIGHTS, ONNX, GOLDEN, "card.json"])
@pytest.mark.parametrize("strategy", ["quality", "manual", "force", "rollback"])
def test_a_model_with_a_flipped_bit_is_never_deployed(pipeline: Pipeline, file: str, strategy: str) -> None:
    other = pipeline.variant(nudge(0.1))
    report = evaluated(pipeline, other)
    flip_a_bit(pipeline.state / "models" / "versions" / other / file)
    with pytest.raises(CorruptVersion, match=f"{other}, {file}: .*Do not serve it"):
        decide_on(pipeline, other, report, strategy=strategy, version=other, reason="why not")
    assert decisions(pipeline) == 1


def test_a_model_that_gives_other_answers_than_it_was_stored_with_is_never_deployed(pipeline: Pipeline) -> None:
    name = odd(pipeline)
    with pytest.raises(WrongAnswers, match="golden inputs"):
        decide(pipeline, strategy="manual", version=name)
    assert decisions(pipeline) == 1


def test_a_report_that_was_changed_is_no_evidence(pipeline: Pipeline) -> None:
    report = pipeline.state / "models" / pipeline.value("model_evaluation")
    report.write_text(report.read_text().replace('"accuracy": 0.9', '"accuracy": 0.8', 1))
    with pytest.raises(CorruptReport, match="not a report as it was stored"):
        decide(pipeline)
    assert decisions(pipeline) == 1


def empty(pipeline: Pipeline) -> None:
    """A store in which nothing was ever decided."""
    for number in pipeline.store.ledger.numbers():
        pipeline.store.blobs.delete(f"decisions/{number:08d}.json")
