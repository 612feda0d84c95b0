"""Champion and challenger on what people ask: the report, and the decision that follows from it."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.assets.causes import follows_only
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.contests import Contest, contest_by, contest_in, gate_of, now, pairs_of
from mnist_pipeline.deciding import Case, Choice, record
from mnist_pipeline.ledger import Decision
from mnist_pipeline.pictures import PictureBook
from mnist_pipeline.resources import Judging, Models, Pictures, Served
from mnist_pipeline.retries import retrying
from mnist_pipeline.store import LostRace, ModelStore
from mnist_pipeline.traffic import Traffic

if TYPE_CHECKING:
    from mnist_pipeline.ml.contest import Finding, Pairs

ASKED_AS = "mnist_pipeline/contest"  # tag of a run: the request by which the sensor has decided, to be told of
NOBODY = "nobody competes: `mnist-pipeline challenge VERSION` begins a contest"


class ContestConfig(dg.Config):
    """Whether the report may end the contest, and what counts here instead of what the environment says."""

    act: bool = Field(True, description="record the decision that the tests lead to; else only say it")
    alpha: float | None = Field(
        None, gt=0, lt=0.5, description="how often a contest may end wrongly, each way; empty: MNIST_CONTEST_ALPHA"
    )
    disagreement: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of differing answers that is tolerable beyond what the gate's evidence lets expect; empty: "
        "MNIST_CONTEST_DISAGREEMENT",
    )
    less_sure: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="by how much the challenger's mean confidence may be lower; empty: MNIST_CONTEST_LESS_SURE",
    )
    least: int | None = Field(
        None,
        ge=1,
        description="images before a promotion that no labels of people speak for; empty: MNIST_CONTEST_LEAST_IMAGES",
    )
    only_corrections: bool | None = Field(
        None,
        description="people tell what was wrong and are silent about what was right, so silence counts for the answer "
        "that was shown; False where labels are of images that were drawn blindly; empty: MNIST_CONTEST_LABELS",
    )


@dg.asset(
    group_name="monitoring",
    kinds={"python"},
    code_version=code_version(
        "ml/contest.py", "ml/sequential.py", "contests.py", "corrections.py", "assets/contest.py"
    ),
    deps=["production_digit_classifier"],
    metadata=follows_only(),  # it decides, so it runs only when it is asked to
    pool="deployment",
)
@retrying
def ab_report(
    context: dg.AssetExecutionContext,
    config: ContestConfig,
    models: Models,
    served: Served,
    pictures: Pictures,
    judging: Judging,
) -> dg.MaterializeResult[dict[str, Any]]:
    """Who is better on what people ask, champion or challenger, and what follows: promotion, withdrawal, rollback."""
    store, rules = models.open(), judging.of_contests(config.model_dump(exclude={"act"}))
    request = context.run.tags.get(ASKED_AS) or f"{context.run.run_id}/ab_report"
    traffic, book = served.open(context.log.warning), pictures.open()
    if earlier := store.ledger.changed_for(request):  # by the sensor, or by an attempt before this one
        return _told_of(store, earlier, traffic, rules, book)
    contest = contest_in(store)
    if contest is None:
        return _told({"sentence": NOBODY}, None)
    pairs, finding = looked_at(store, contest, traffic, now(), **rules)
    report, decision = report_of(contest, pairs, finding), None
    if config.act and finding.act != "go_on":
        try:
            decision = decided(store, contest, pairs, finding, request)
            report["sentence"] = f"decision {decision.number}: {decision.reason}"
        except LostRace as lost:
            why = "but somebody decided meanwhile, and nothing was recorded"
            report["sentence"] = f"{finding.sentence}; {why}: {lost}"
    context.log.info(report["sentence"])
    return _told(report, decision, **_shown(finding, book))


def looked_at(
    store: ModelStore,
    contest: Contest,
    traffic: Traffic,
    at: datetime,
    *,
    only_corrections: bool,
    alpha: float,
    **rules: Any,
) -> "tuple[Pairs, Finding]":
    """What both have answered, and what follows from it. rules: see `Rules`. Raises StoreUnavailable.

    Each week of watching a promoted version is a test of its own, for which less of alpha is left than for the one
    before: over all weeks an equal predecessor comes back with probability alpha at most.
    """
    from mnist_pipeline.ml.contest import Rules, judged
    from mnist_pipeline.ml.sequential import spent

    pairs = pairs_of(contest, traffic, at, only_corrections=only_corrections)
    if contest.watches:  # what the gate has found is no matter here, and all decisions would have to be read for it
        return pairs, judged(pairs, Rules(alpha=spent(alpha, contest.week(at)), watches=True, **rules))
    gate = gate_of(store, contest)
    return pairs, judged(pairs, Rules(alpha=alpha, gate=gate.passed, expected=gate.expected, **rules))


def decided(store: ModelStore, contest: Contest, pairs: "Pairs", finding: "Finding", request: str) -> Decision:
    """What follows from a finding that suffices, recorded with all that speaks for it. Raises LostRace where somebody
    has decided since the ledger was read, and what `record` raises."""
    assert finding.act != "go_on"
    case = Case.after(store, contest.newest, request)
    choice = Choice(finding.act, contest.challenger, finding.sentence)
    return record(case, choice, report_of(contest, pairs, finding))


def _told_of(
    store: ModelStore, earlier: Decision, traffic: Traffic, rules: dict[str, Any], book: PictureBook
) -> dg.MaterializeResult[dict[str, Any]]:
    """A decision that stands, with what it was made on, and the evidence as it was then."""
    report = {**earlier.evidence, "sentence": f"decision {earlier.number}: {earlier.reason}"}
    contest = contest_by(store, store.ledger.read(earlier.number - 1))
    if contest is None:
        return _told(report, earlier)
    _, finding = looked_at(store, contest, traffic, datetime.fromisoformat(earlier.time), **rules)
    return _told(report, earlier, **_shown(finding, book))


def _shown(finding: "Finding", book: PictureBook) -> dict[str, Any]:
    from mnist_pipeline.ml.contest_pictures import evidence_over_answers

    evidence = evidence_over_answers(finding.tests)
    return {"evidence": book.show("ab_report", "evidence", evidence), "tests": _table(finding)}


def report_of(contest: Contest, pairs: "Pairs", finding: "Finding") -> dict[str, Any]:
    """For the ledger and for people; JSON."""
    return {
        "champion": contest.champion,
        "challenger": contest.challenger,
        "watches": contest.watches,
        "since_decision": contest.began.number,
        "images": len(pairs.surer),
        "labels": pairs.labels,
        "differing_answers": float(pairs.unlike.mean()) if len(pairs.unlike) else None,
        "tolerable": finding.tolerable,
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
