"""Champion and challenger on what people ask: the report, and the decision that follows from it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.assets.causes import follows_only
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.contests import Contest, contest_in, gate_passed, now, pairs_of
from mnist_pipeline.deciding import Case, Choice, record
from mnist_pipeline.ledger import Decision
from mnist_pipeline.resources import Models, Pictures, Served
from mnist_pipeline.retries import retrying
from mnist_pipeline.store import LostRace, ModelStore
from mnist_pipeline.traffic import Traffic

if TYPE_CHECKING:
    from mnist_pipeline.ml.contest import Finding, Pairs

NOBODY = "nobody competes: `mnist-pipeline challenge VERSION` begins a contest"


class ContestConfig(dg.Config):
    """When a contest is over, and whether the report may end it."""

    act: bool = Field(True, description="record the decision that the tests lead to; else only say it")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="how often a contest may end wrongly, each way")
    disagreement: float = Field(0.05, gt=0, lt=1, description="share of differing answers that is tolerable")
    less_sure: float = Field(0.02, ge=0, lt=1, description="by how much the challenger's mean confidence may be lower")
    least: int = Field(500, ge=1, description="images before a promotion that no labels of people speak for")
    only_corrections: bool = Field(
        True,
        description="people tell what was wrong and are silent about what was right, so silence counts for the answer "
        "that was shown; False where labels are of images that were drawn blindly",
    )


@dg.asset(
    group_name="monitoring",
    kinds={"python"},
    code_version=code_version("ml/contest.py", "ml/sequential.py", "contests.py", "assets/contest.py"),
    deps=["production_digit_classifier"],
    metadata=follows_only(),  # it decides, so it runs only when it is asked to
    pool="deployment",
)
@retrying
def ab_report(
    context: dg.AssetExecutionContext, config: ContestConfig, models: Models, served: Served, pictures: Pictures
) -> dg.MaterializeResult[dict[str, Any]]:
    """Who is better on what people ask, champion or challenger, and what follows: promotion, withdrawal, rollback."""
    from mnist_pipeline.ml.contest_pictures import evidence_over_answers

    store, request = models.open(), f"{context.op_execution_context.run_id}/ab_report"
    if earlier := store.ledger.changed_for(request):  # an attempt before this one got so far
        return _told({"sentence": f"decided by an earlier attempt: {earlier.reason}"}, earlier)
    contest = contest_in(store)
    if contest is None:
        return _told({"sentence": NOBODY}, None)
    pairs, finding = looked_at(
        store, contest, served.open(context.log.warning), now(), **config.model_dump(exclude={"act"})
    )
    report = _report(contest, pairs, finding)
    decision = None
    if config.act and finding.act != "go_on":
        decision, report["sentence"] = _decided(store, contest, finding, report, request)
    context.log.info(report["sentence"])
    shown = pictures.open().show("ab_report", "evidence", evidence_over_answers(finding.tests))
    return _told(report, decision, evidence=shown, tests=_table(finding))


def looked_at(
    store: ModelStore, contest: Contest, traffic: Traffic, at: datetime, *, only_corrections: bool = True, **rules: Any
) -> "tuple[Pairs, Finding]":
    """What both have answered, and what follows from it. rules: other than by default. Raises StoreUnavailable."""
    from mnist_pipeline.ml.contest import Rules, judged

    pairs = pairs_of(contest, traffic, at, only_corrections=only_corrections)
    gate = bool(gate_passed(store, contest))
    return pairs, judged(pairs, Rules(**rules, gate=gate, watches=contest.watches))


def _decided(
    store: ModelStore, contest: Contest, finding: "Finding", report: dict[str, Any], request: str
) -> tuple[Decision | None, str]:
    """What was recorded, and how to say it; nothing where somebody else has decided since the ledger was read."""
    if finding.act == "go_on":
        return None, finding.sentence
    case = Case.after(store, contest.newest, request)
    choice = Choice(finding.act, contest.challenger, finding.sentence)
    try:
        decision = record(case, choice, report)
    except LostRace as lost:
        return None, f"{finding.sentence}; but somebody decided meanwhile, and nothing was recorded: {lost}"
    return decision, f"decision {decision.number}: {decision.reason}"


def _report(contest: Contest, pairs: "Pairs", finding: "Finding") -> dict[str, Any]:
    """For the ledger and for people; JSON."""
    return {
        "champion": contest.champion,
        "challenger": contest.challenger,
        "watches": contest.watches,
        "since_decision": contest.began.number,
        "images": len(pairs.surer),
        "labels": pairs.labels,
        "differing_answers": float(pairs.unlike.mean()) if len(pairs.unlike) else None,
        "surer_by": float(pairs.surer.mean()) if len(pairs.surer) else None,
        "advice": finding.act,
        "sentence": finding.sentence,
        "tests": finding.evidence(),
    }


def _table(finding: "Finding") -> dg.TableMetadataValue:
    """A test a row."""
    rows = [
        {
            "question": each.name,
            "observations": len(each.path),
            "p at any time": round(each.p, 4),
            "alpha": round(each.alpha, 4),
            "answered after": each.answered_after or "open",
        }
        for each in finding.tests
    ]
    return dg.MetadataValue.table([dg.TableRecord({name: str(value) for name, value in row.items()}) for row in rows])


def _told(report: dict[str, Any], decision: Decision | None, **more: Any) -> dg.MaterializeResult[dict[str, Any]]:
    """more: metadata besides the plain facts of the report."""
    facts = {name: value for name, value in report.items() if name != "tests" and value is not None}
    decided = {"decision": decision.number, "strategy": decision.strategy} if decision else {}
    return dg.MaterializeResult(value={**report, **decided}, metadata={**facts, **decided, **more})
