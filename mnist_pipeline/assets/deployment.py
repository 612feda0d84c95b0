"""Deciding what serves: every decision, also one not to deploy, is recorded in the ledger of the store."""

from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.assets import records
from mnist_pipeline.assets.causes import follows_only
from mnist_pipeline.assets.conditions import KEPT_UP_TO_DATE
from mnist_pipeline.assets.launchpad import choice
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.deciding import Case, Choice, DecisionRefused, by_hand, record
from mnist_pipeline.ledger import ROLLBACKS, ByHand, Decision, withdrawn_by
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.gate import Incomparable, Unopposed, Verdict
from mnist_pipeline.ml.paired import Comparison
from mnist_pipeline.resources import Judging, Models, Tracking
from mnist_pipeline.retries import retried
from mnist_pipeline.storage.sealed import canonical, sha256
from mnist_pipeline.store import CorruptVersion, ModelStore, UnknownVersion

ChosenStrategy: Any = choice(ByHand, "Strategy")

# Every retraining ends in a decision, also one to keep production. None for two weeks means that no new data comes or
# that it gets stuck on its way; after a month the model answers for a world that nobody has looked at since.
DECIDED_LATELY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=30), warn_window=timedelta(days=14))


class DeploymentConfig(dg.Config):
    """How to decide. Only `quality` passes the gate; the others say who wanted what, and why."""

    strategy: ChosenStrategy = Field(
        ChosenStrategy("quality"),
        description="quality: the gate decides; manual, force, rollback: you do; challenge, withdraw: "
        "a version competes with production, or does no longer",
    )
    version: str = Field(
        "",
        description="manual: the version to serve; rollback: empty is the one before; force, challenge: the newest",
    )
    reason: str = Field("", description="why; force demands it")
    min_accuracy: float = Field(0.95, ge=0, le=1, description="test accuracy that must be exceeded")
    minimums: dict[str, float] = Field({}, description="further test metrics that must be exceeded, yours too")
    margin: float | None = Field(
        None,
        ge=0,
        le=0.5,
        description="0: the candidate must be better than production beyond noise; 0.002: it is enough that it is "
        "shown to be worse by less than 0.2 points, so that a model of newer data replaces the old one; empty: "
        "MNIST_GATE_MARGIN",
    )


NAMED = 10  # classes in a sentence
ONCE = "what one request asks for is done once; to have it done again, launch a new run instead of re-executing one"


class DeploymentRefused(dg.DagsterError):
    """What was asked for cannot be decided; nothing was recorded."""


@dg.asset(
    group_name="deployment",
    kinds={"python"},
    code_version=code_version(
        *("ml/gate.py", "ml/paired.py", "ml/metrics.py", "ml/predictor.py", "deciding.py", "assets/deployment.py"),
    ),
    automation_condition=KEPT_UP_TO_DATE,
    freshness_policy=DECIDED_LATELY,
    metadata=follows_only("model_evaluation"),  # a rollback must not be undone because code has changed
    pool="deployment",
)
def production_digit_classifier(
    context: dg.AssetExecutionContext,
    config: DeploymentConfig,
    digit_classifier: str,
    model_evaluation: str,
    processed_mnist_data: DigitData,
    models: Models,
    tracking: Tracking,
    judging: Judging,
) -> dg.MaterializeResult[str | None]:
    """A decision about what serves from now on; the value is the version that does."""
    config = config.model_copy(update={} if config.margin is not None else {"margin": judging.margin})
    with retried(lambda: context.retry_number):
        store = models.open()
        before = store.current()  # first: whoever decides after this moment wins, an earlier attempt of ours too
        case = Case.after(store, before, _request(context, config, digit_classifier, model_evaluation))
        earlier = store.ledger.changed_for(case.request)
        if earlier:
            _check_it_holds(case, config, earlier)
        watched = judging.watch_deployments
        decision = earlier or _decide(case, config, digit_classifier, model_evaluation, processed_mnist_data, watched)
    serves = before.serves if earlier and before else decision.serves
    context.log.info(f"decision {decision.number}{', made before' if earlier else ''}: {decision.reason}")
    with tracking.open(context) as tracker:
        records.decided(tracker, decision)
    repeated = {"repeated": f"decided already by this request: {ONCE}"}
    served = {"served_before": (before and before.serves) or "nothing", "serves_now": serves or "nothing"}
    return dg.MaterializeResult(
        value=serves,
        data_version=dg.DataVersion(serves or "nothing"),
        metadata={**_shown(decision), **served, **(repeated if earlier else {}), **records.page(tracker)},
    )


def _decide(
    case: Case, config: DeploymentConfig, candidate: str, report_key: str, data: DigitData, watched: bool
) -> Decision:
    if config.strategy == "quality":
        return _by_quality(case, config, candidate, report_key, data, watched)
    try:
        choice = by_hand(case, config.strategy.value, config.version, config.reason, newest=candidate)
        new = choice.strategy == "challenge" and choice.version == candidate  # of others there is no report at hand
        gate = _gate(case, config, choice.version, report_key, data) if new else None
        return record(case, choice, gate.evidence if gate else None)
    except DecisionRefused as error:
        raise DeploymentRefused(str(error)) from error


def _request(context: dg.AssetExecutionContext, config: DeploymentConfig, candidate: str, report: str) -> str:
    """The same for every attempt at one thing: a step that is tried again, a run that is, by Dagster or by a person.

    All these share the root run. What they ask for is told apart too: a re-execution may have another configuration,
    or another model to decide on.
    """
    run_id = context.op_execution_context.run_id
    run = context.instance.get_run_by_id(run_id)  # none where the asset is called as a function
    asked = {**config.model_dump(), "strategy": config.strategy.value}
    if config.strategy in ("quality", "force", "challenge"):  # the others do not look at what was trained last
        asked |= {"candidate": candidate, "report": report}
    return f"{(run and run.root_run_id) or run_id}/{sha256(canonical(asked))[:16]}"


def _check_it_holds(case: Case, config: DeploymentConfig, earlier: Decision) -> None:
    """A run that changes nothing must not look as if it had: raises DeploymentRefused where production has changed."""
    if config.strategy == "quality" or (case.serving, case.challenger) == (earlier.serves, earlier.challenger):
        return
    rival = f", challenged by {case.challenger}" if case.challenger else ""
    raise DeploymentRefused(
        f"decision {earlier.number} was made by this request already, and since decision {case.expected} "
        f"production serves {case.serving}{rival}. Nothing was decided: {ONCE}"
    )


def _by_quality(
    case: Case, config: DeploymentConfig, candidate: str, report_key: str, data: DigitData, watched: bool
) -> Decision:
    """The gate: evidence of this model on this data, minimums exceeded, better than production beyond noise. watched:
    whether it is, by its predecessor, where the two could be compared."""
    store = case.store
    verdict = _gate(case, config, candidate, report_key, data)
    if verdict.deploy and case.serving == candidate:
        verdict = Verdict(False, f"kept: {candidate} serves already and still passes the gate", verdict.evidence)
    elif verdict.deploy and (rollback := withdrawn_by(store.decisions(), candidate)):
        undone = "rolled back from it" if rollback.strategy in ROLLBACKS else "withdrew it"
        why = f"not deployed: decision {rollback.number} {undone} ({rollback.reason}); only manual or force"
        verdict = Verdict(False, f"{why} can bring it back", verdict.evidence)
    choice, watched = Choice("quality", candidate, verdict.reason), watched and "comparison" in verdict.evidence
    return record(case, choice, verdict.evidence, deploy=verdict.deploy, watched=watched)


def _gate(case: Case, config: DeploymentConfig, candidate: str, report_key: str, data: DigitData) -> Verdict:
    """What the gate says of a version. Its evidence names the report and whom the candidate was compared with."""
    from mnist_pipeline.ml.gate import check_evidence, judge
    from mnist_pipeline.ml.metrics import scalars

    report = case.store.report(report_key)
    check_evidence(report, case.store.card(candidate).digest, data.digest())
    minimums = {"accuracy": config.min_accuracy, **config.minimums}
    compared = _against(case.store, case.serving, candidate, data, config.margin or 0.0)
    verdict = judge(scalars(report["test"]), minimums, compared)
    about = {"report": report_key, "against": case.serving, "passed": verdict.deploy, "verdict": verdict.reason}
    return Verdict(verdict.deploy, verdict.reason, {**verdict.evidence, **about})


def _against(
    store: ModelStore, serving: str | None, candidate: str, data: DigitData, margin: float
) -> Comparison | Unopposed | Incomparable:
    """Both models on the same test images, or why they are not compared. What ails the candidate itself is raised."""
    from mnist_pipeline.ml.paired import compare
    from mnist_pipeline.ml.predictor import Predictor, WrongAnswers

    if serving is None or serving == candidate:
        return Unopposed("nothing was in production" if serving is None else "it serves already")
    newest = Predictor.load(store.load(candidate)).predict(data["test"].images).labels
    try:
        theirs, ours = store.card(serving).class_names, store.card(candidate).class_names
        if theirs != ours:
            return Incomparable(_of_other_classes(serving, theirs, candidate, ours))
        production = Predictor.load(store.load(serving)).predict(data["test"].images).labels
    except (CorruptVersion, UnknownVersion, WrongAnswers) as error:
        return Incomparable(
            f"production's model {serving} could not be compared, for it cannot be loaded ({error}). Restore it, or "
            f"roll back, and decide again; or go past the gate: {_by_force(candidate)}"
        )
    return compare(data["test"].labels, newest, production, margin)


def _of_other_classes(serving: str, theirs: list[str], candidate: str, ours: list[str]) -> str:
    return (
        f"production's model {serving} could not be compared, for it knows other classes ({_few(theirs)}) than "
        f"the candidate ({_few(ours)}). If that is meant: {_by_force(candidate)}"
    )


def _by_force(candidate: str) -> str:
    return f'mnist-pipeline deploy {candidate} --force --reason "…"'


def _few(names: list[str]) -> str:
    """So many that two data sets can be told apart."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _shown(decision: Decision) -> dict[str, Any]:
    return {
        "decision": decision.number,
        "outcome": decision.outcome,
        "strategy": decision.strategy,
        "reason": decision.reason,
        "candidate": decision.candidate,
        "challenger": decision.challenger or "nobody",
        "actor": decision.actor,
        "evidence": dg.MetadataValue.json(decision.evidence),
    }
