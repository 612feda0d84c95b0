"""`mnist-pipeline deploy`, `rollback`, `challenge`, `withdraw`, `decisions`: a decision by hand, and all there are."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from mnist_pipeline.cli.faults import end_with
from mnist_pipeline.cli.places import AsJson, answers, is_prod, known_versions, opened, where
from mnist_pipeline.cli.showing import moment, note, printable, show_json, show_table
from mnist_pipeline.deciding import Case, Choice, DecisionRefused, by_hand, check_choice, record
from mnist_pipeline.ledger import ByHand, Decision
from mnist_pipeline.storage.blobs import StoreUnreachable
from mnist_pipeline.store import CorruptLedger, LostRace, ModelStore
from mnist_pipeline.witnesses import Witness, contradictions, known_up_to, witnesses

DEPLOY_EXAMPLES = """Examples:

  mnist-pipeline deploy VERSION --reason "reads sevens better"

  mnist-pipeline deploy VERSION --force --reason "the gate compares with other data"

  mnist-pipeline deploy VERSION --dry-run

  mnist-pipeline deploy VERSION --expected 41 --yes --json
"""
ROLLBACK_EXAMPLES = """Examples:

  mnist-pipeline rollback

  mnist-pipeline rollback VERSION --reason "both newer ones are bad"
"""
CHALLENGE_EXAMPLES = """Examples:

  mnist-pipeline challenge VERSION --reason "trained with feedback"

  mnist-pipeline challenge VERSION --dry-run
"""
WITHDRAW_EXAMPLES = """Examples:

  mnist-pipeline withdraw

  mnist-pipeline withdraw --reason "seen enough" --json
"""
DECISIONS_EXAMPLES = """Examples:

  mnist-pipeline decisions --limit 5

  mnist-pipeline decisions --verify

  mnist-pipeline decisions --json | jq '.decisions[0].serves'
"""
Reason = Annotated[str, typer.Option(help="Why; it is kept in the ledger.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be decided.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="In prod: do not ask, this is meant.")]
Expected = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="The number of the newest decision as you know it: if there is a newer one, nothing is decided. "
        "Also the way past a newest decision that is damaged.",
    ),
]


def deploy(
    version: Annotated[str, typer.Argument(metavar="VERSION", autocompletion=known_versions)],
    reason: Reason = "",
    force: Annotated[
        bool, typer.Option("--force", help="Recorded as `force` instead of `manual`; needs --reason.")
    ] = False,
    dry_run: DryRun = False,
    expected: Expected = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Have VERSION serve from now on, past the gate but not past the digests: exactly one decision."""
    _by_hand("force" if force else "manual", version, reason, expected, dry_run=dry_run, yes=yes, as_json=as_json)


def rollback(
    version: Annotated[
        str,
        typer.Argument(metavar="VERSION", help="Default: the one that served before.", autocompletion=known_versions),
    ] = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    expected: Expected = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Go back to the version that served before, or to VERSION: exactly one decision. Twice goes two back."""
    _by_hand("rollback", version, reason, expected, dry_run=dry_run, yes=yes, as_json=as_json)


def challenge(
    version: Annotated[str, typer.Argument(metavar="VERSION", autocompletion=known_versions)],
    reason: Reason = "",
    dry_run: DryRun = False,
    expected: Expected = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Have VERSION compete with what serves: the service asks it too, and `ab_report` tells who is better."""
    _by_hand("challenge", version, reason, expected, dry_run=dry_run, yes=yes, as_json=as_json)


def withdraw(
    reason: Reason = "",
    dry_run: DryRun = False,
    expected: Expected = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End the contest: the challenger leaves, what serves serves on."""
    _by_hand("withdraw", "", reason, expected, dry_run=dry_run, yes=yes, as_json=as_json)


def decisions(
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Prove that no decision was changed or is missing, by the chain and by what was answered since.",
        ),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many are shown.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the decisions about production, the newest first.

    What is wrong with them is told on stderr; the exit code is then 1.
    """
    store = opened()
    numbers, problems, heard = store.ledger.numbers(), list[str](), list[Witness]()
    shown = list(_readable(store, numbers[: -limit - 1 : -1], problems))
    if verify:
        heard = witnesses(*answers(note))
        problems = store.verify_chain() or contradictions(store.ledger, heard)
    if as_json:
        listed = {"decisions": [asdict(each) for each in shown], "of": len(numbers)}
        show_json({**listed, "verified": verify, "problems": problems})
    elif shown:
        columns = ("no", "when (UTC)", "outcome", "strategy", "serves", "by", "reason", "challenger")
        show_table(columns, map(_row, shown))
    elif not numbers:
        typer.echo("no decisions yet")
    end_with(problems)
    if verify and not as_json:
        note(f"decisions in the ledger: {len(numbers)}, none changed, none missing between; {known_up_to(heard)}")


def _case(store: ModelStore, expected: int | None) -> Case:
    """What is decided on. Raises LostRace where a decision came after the one that was expected."""
    if expected is None:
        return Case.after(store, store.current())
    newest = max(store.ledger.numbers(), default=0)
    if newest > expected:
        raise LostRace(store.ledger.read(newest))
    if newest < expected:
        raise DecisionRefused(
            f"--expected {expected}, but the newest decision is {newest}: look at the decisions again"
        )
    try:
        return Case.after(store, store.current())
    except CorruptLedger:  # who names its number knows of it
        return Case(store, expected, None)


def _by_hand(strategy: ByHand, version: str, reason: str, expected: int | None, **how: bool) -> None:
    """What each of these commands does. how: see `_decide`."""
    case = _case(opened(), expected)
    _decide(case, by_hand(case, strategy, version, reason.strip()), **how)


def _decide(case: Case, choice: Choice, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    if dry_run:
        check_choice(case, choice)
        would = {"number": case.expected + 1, **_roles(case, choice), "strategy": choice.strategy}
        shown = {**would, "reason": choice.reason, "served_before": case.serving, "dry_run": True}
        return show_json(shown) if as_json else _say(shown, "would be made; nothing was recorded")
    _confirm(case, choice, yes)
    decision = _recorded(case, choice)
    shown = {**asdict(decision), "served_before": case.serving, "dry_run": False}
    return show_json(shown) if as_json else _say(shown, "was made")


def _roles(case: Case, choice: Choice) -> dict[str, str | None]:
    """Who would serve, and who would compete."""
    if choice.strategy in ("challenge", "withdraw"):
        return {"serves": case.serving, "challenger": choice.version if choice.strategy == "challenge" else None}
    return {"serves": choice.version, "challenger": None}


def _recorded(case: Case, choice: Choice) -> Decision:
    try:
        return record(case, choice)
    except StoreUnreachable as error:  # the answer to the write itself may be what is missing
        hint = "whether the decision was recorded is not known: see `mnist-pipeline decisions`"
        raise StoreUnreachable(f"{error}; {hint}") from error


def _confirm(case: Case, choice: Choice, yes: bool) -> None:
    """In prod. Raises DecisionRefused where nobody says yes."""
    if yes or not is_prod():
        return
    if not sys.stdin.isatty():
        raise DecisionRefused(f"this is {where()}, and there is nobody to ask: say --yes if it is meant")
    note(f"{where()} serves {case.serving or 'nothing'}")
    meant = {"challenge": f"have {choice.version} compete", "withdraw": f"have {choice.version} compete no longer"}
    if not _said_yes(f"{choice.strategy}: {meant.get(choice.strategy, f'serve {choice.version} from now on')}?"):
        raise DecisionRefused("not confirmed: nothing was recorded")


def _said_yes(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C, Ctrl-D
        note("")
        return False


def _say(shown: dict[str, Any], state: str) -> None:
    typer.echo(f"decision {shown['number']} {state}: {shown['strategy']}, {printable(shown['reason'])}")
    typer.echo(f"serves {shown['serves']}, before {shown['served_before'] or 'nothing'}")
    if shown["challenger"]:
        typer.echo(f"challenger {shown['challenger']}")
    note(f"in {where()}")


def _readable(store: ModelStore, numbers: list[int], problems: list[str]) -> Iterator[Decision]:
    for number in numbers:
        try:
            yield store.ledger.read(number)
        except CorruptLedger as error:
            problems.append(str(error))


def _row(each: Decision) -> tuple[str, ...]:
    serves = each.serves or "nothing"
    rival = each.challenger or ""
    return str(each.number), moment(each.time), each.outcome, each.strategy, serves, each.actor, each.reason, rival
