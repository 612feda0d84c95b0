"""`mnist-pipeline trace`: from an answer back to what it came from, from data forward to what it has touched."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from mnist_pipeline.cli.faults import end_with
from mnist_pipeline.cli.places import AsJson, answers, opened
from mnist_pipeline.cli.showing import moment, share, show_facts, show_json
from mnist_pipeline.tracing import Tracer

EXAMPLES = """Examples:

  mnist-pipeline trace 1c577462d460785b

  mnist-pipeline trace photo.png --night 2026-01-05

  mnist-pipeline trace photo.png

  mnist-pipeline trace VERSION --json | jq -r '.versions[0].data_digest'

  mnist-pipeline trace --data 1a7e54b71d0f
"""
SHOWN = 10  # rows of an answer to many images
DAYS = 31


def trace(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A request id, a version, a sha256 or its beginning, a file on this disk; with --night, a file of it.",
        ),
    ] = "",
    night: Annotated[str, typer.Option(help="The night (YYYY-MM-DD) whose inbox had the file WHAT.")] = "",
    data: Annotated[str, typer.Option(help="Forward instead: the digest of data, or its beginning.")] = "",
    days: Annotated[
        int, typer.Option(min=1, help="How many days of the prediction log, and nights, are looked at.")
    ] = DAYS,
    as_json: AsJson = False,
) -> None:
    """Tell where an answer comes from: pixels, version, decision, report, data, code, run, and what people said.

    With --data: which versions, reports, decisions, nights and answers came of that data. What is damaged is told on
    stderr; the exit code is then 1.
    """
    if bool(what) == bool(data):
        raise typer.BadParameter("name WHAT, or --data and a digest, and not both")
    if night and data:
        raise typer.BadParameter("--night says which file WHAT is; data has none")
    tracer = _tracer(days)
    found = tracer.forward(data) if data else tracer.back(what if night else _digest_of_file(what), night)
    if as_json:
        show_json({**found, "days": days, "problems": tracer.problems})
    else:
        show_facts(_forward(found) if data else _back(found))
    end_with(tracer.problems)


def _tracer(days: int) -> Tracer:
    """Raises BadSettings."""
    store, problems = opened(), list[str]()
    nights, traffic = answers(problems.append)
    return Tracer(store, traffic, nights, days, problems)


def _digest_of_file(what: str) -> str:
    """Of a file that lies here its sha256, by which nights know it; else what was given."""
    path = Path(what)
    try:
        return sha256(path.read_bytes()).hexdigest() if path.is_file() else what
    except OSError:  # it cannot be read, so it is not what was meant
        return what


def _back(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield found["of"], found["what"]
    for row in found["answers"][:SHOWN]:
        yield "answer", _answer(row)
        yield "sha256", row["sha256"]
    if len(found["answers"]) > SHOWN:
        yield "answer", f"and {len(found['answers']) - SHOWN:,} more (--json has all)"
    for said in found["said"]:
        yield "people said", f"{said['label']} ({said['where']}{_at(said['time'])})"
    for each in found["versions"]:
        yield from _version(each)


def _forward(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "data", found["what"]
    for each in found["versions"]:
        yield "version", f"{each['version']} ({each['dataset']}{_at(each['created'])}, run {each['run_id']})"
    for report in found["reports"]:
        yield "report", _report(report)
    for decision in found["decisions"]:
        yield "decision", _decision(decision)
    for night, count in found["nights"].items():
        yield "night", f"{night}: {count:,} answers"
    answers = found["answers"]
    between = " to ".join(answers["looked_at"]) or "no day yet"
    yield "service", f"{answers['count']:,} answers ({between})"
    if any(found["older"].values()):
        older = found["older"]
        yield "not looked at", f"{older['nights']:,} older nights, {older['days']:,} older days of the log (--days)"


def _version(each: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "version", each["version"]
    for decision in each["decisions"]:
        yield "decision", _decision(decision)
    for report in each["reports"]:
        yield "report", _report(report)
    if "data_digest" in each:
        yield "data", f"{each['data_digest']} ({each['dataset']})"
        yield "source", each["source"] or "no report says it"
        yield "code", each["code_version"]
        yield "run", each["run_id"]
        yield "created", f"{moment(each['created'])} UTC"


def _answer(row: dict[str, Any]) -> str:
    from mnist_pipeline.measured import answer_in  # NumPy comes with it

    said = f"{answer_in(row)} ({share(row['confidence'])})"
    if "night" in row:
        return f"{said}, {row['file']} row {row['row']} of night {row['night']}, decision {row['decision']}"
    return (
        f"{said}, image {row['index']} by {row['role']} at {row['door']}{_at(row['time'])}, decision {row['decision']}"
    )


def _report(report: dict[str, Any]) -> str:
    return f"{report['key']}: test accuracy {share(report['test_accuracy'])}"


def _decision(each: dict[str, Any]) -> str:
    by = f"{each['outcome']}, {each['strategy']} by {each['actor']}{_at(each['time'])}"
    return f"{each['number']}: {by}: {each['reason']}"


def _at(time: str) -> str:
    return f", {moment(time)} UTC" if time else ""
