"""`mnist-pipeline models`: which versions there are, what is known about one, and in what two of them differ."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from mnist_pipeline.cli.faults import end_with
from mnist_pipeline.cli.places import AsJson, known_versions, opened
from mnist_pipeline.cli.showing import moment, share, show_facts, show_json, show_table
from mnist_pipeline.deciding import check_version
from mnist_pipeline.ledger import Decision
from mnist_pipeline.store import Card, CorruptLedger, CorruptVersion, ModelStore

LIST_EXAMPLES = """Examples:

  mnist-pipeline models list

  mnist-pipeline models list --json | jq -r '.versions[].name'
"""
SHOW_EXAMPLES = """Examples:

  mnist-pipeline models show

  mnist-pipeline models show VERSION --verify
"""
DIFF_EXAMPLES = """Examples:

  mnist-pipeline models diff VERSION OTHER_VERSION

  mnist-pipeline models diff VERSION OTHER_VERSION --json
"""
ACCURACY = "validation_accuracy"
ALWAYS_DIFFERENT = ("name", "digest", "created", "files")
Version = Annotated[str, typer.Argument(metavar="VERSION", autocompletion=known_versions)]


def list_versions(as_json: AsJson = False) -> None:
    """List the stored versions, the newest first, and which of them serves.

    A version or decision that is damaged is told on stderr, the others are listed; the exit code is then 1.
    """
    store, problems = opened(), list[str]()
    serving = _serving(store, problems)
    cards = sorted(_cards(store, problems), key=lambda card: card.created, reverse=True)
    if as_json:
        versions = [_line(card, serving) for card in cards]
        show_json({"production": serving and serving.serves, "versions": versions, "problems": problems})
    elif cards:
        show_table(
            ("version", "validation", "created (UTC)", "dataset", "serves"), [_row(card, serving) for card in cards]
        )
    elif not problems:
        typer.echo("no versions yet: train one with `make run`")
    end_with(problems)


def show_version(
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="Default: what serves.", autocompletion=known_versions)
    ] = "",
    verify: Annotated[bool, typer.Option("--verify", help="Read all files and replay the golden inputs too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is known about a version: card, reports on it, decisions that it served by."""
    from mnist_pipeline.production import load_production

    store = opened()
    card = store.card(version) if version else load_production(store).card
    if verify:
        check_version(store, card.name)
    reports = _reports(store, card.name)
    deployed = [each for each in store.decisions() if each.outcome == "deployed" and each.serves == card.name]
    if as_json:
        decisions = [asdict(each) for each in deployed]
        show_json({**asdict(card), "reports": reports, "decisions": decisions, "verified": verify or None})
    else:
        show_facts(_facts(card, reports, deployed, verify))


def diff_versions(version: Version, other: Version, as_json: AsJson = False) -> None:
    """Show in what two versions differ: settings, metrics, data, code, and the files themselves."""
    store = opened()
    one, two = (
        {**_flat(_told(card)), **_scores(store, card.name), **_files(card)}
        for card in map(store.card, (version, other))
    )
    differing = [name for name in {**one, **two} if one.get(name) != two.get(name)]
    if as_json:
        pairs = {name: [one.get(name), two.get(name)] for name in differing}
        show_json({"versions": [version, other], "differences": pairs})
    elif differing:
        rows = [(name, _written(one.get(name)), _written(two.get(name))) for name in differing]
        show_table(("", version, other), rows)
    else:
        typer.echo("they are the same version: their files are equal, byte for byte")


def _serving(store: ModelStore, problems: list[str]) -> Decision | None:
    """The newest decision; one that cannot be read is a problem, not the end: it is then that one wants the list."""
    try:
        return store.current()
    except CorruptLedger as error:
        problems.append(str(error))
        return None


def _cards(store: ModelStore, problems: list[str]) -> Iterator[Card]:
    for name in store.versions():
        try:
            yield store.card(name)
        except CorruptVersion as error:
            problems.append(str(error))


def _line(card: Card, serving: Decision | None) -> dict[str, Any]:
    serves = serving is not None and serving.serves == card.name
    said = {"name": card.name, "metrics": card.metrics, "created": card.created, "dataset": card.dataset}
    return {**said, "serves": serves, "decision": serving.number if serving and serves else None}


def _row(card: Card, serving: Decision | None) -> tuple[str, ...]:
    serves = f"decision {serving.number}" if serving and serving.serves == card.name else ""
    return card.name, share(card.metrics.get(ACCURACY)), moment(card.created), card.dataset, serves


def _reports(store: ModelStore, version: str) -> dict[str, dict[str, Any]]:
    """Key -> scores on the test part, and the data that it is about."""
    reports = {key: store.report(key) for key in store.reports(version)}
    return {
        key: {"data_digest": report["data_digest"], **_numbers(report.get("test", {}))}
        for key, report in reports.items()
    }


def _scores(store: ModelStore, version: str) -> dict[str, float]:
    """Test scores by the report on the data that the version was trained with."""
    data = store.card(version).data_version
    about = [each for each in _reports(store, version).values() if each["data_digest"] == data]
    return {f"test.{name}": value for name, value in _numbers(about[-1]).items()} if about else {}


def _files(card: Card) -> dict[str, str]:
    """The sha256 of each: trained in two runs, networks may have equal cards and other weights."""
    return {f"sha256 of {name}": digest for name, digest in card.files.items()}


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in record.items() if isinstance(value, int | float)}


def _facts(
    card: Card, reports: dict[str, dict[str, Any]], deployed: list[Decision], verified: bool
) -> Iterator[tuple[str, str]]:
    yield "version", card.name
    yield "created", f"{moment(card.created)} UTC"
    for name, value in _flat(_told(card)).items():
        yield name, _written(value)
    yield from _files(card).items()
    for key, report in reports.items():
        yield "report", f"{key}: test accuracy {share(report.get('accuracy'))}"
    for decision in deployed:
        yield f"decision {decision.number}", f"{decision.strategy} by {decision.actor}: {decision.reason}"
    if verified:
        yield "verified", "every file is as it was stored, and the golden inputs give their answers"


def _told(card: Card) -> dict[str, Any]:
    """What it is and what it was made from, the long list of settings last."""
    told = {name: value for name, value in asdict(card).items() if name not in ALWAYS_DIFFERENT}
    settings = told.pop("config")
    return {**told, "config": settings}


def _flat(record: dict[str, Any], at: str = "") -> dict[str, Any]:
    """Names of inner values as config.epochs."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= _flat(value, f"{at}{name}.") if isinstance(value, dict) else {f"{at}{name}": value}
    return found


def _written(value: Any) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
