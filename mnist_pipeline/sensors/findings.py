"""From a finished run to what people should know about it.

Here: which events of a run matter, how they are read (one run, or a thousand at once), and the alerts they make.
Not here: when runs are looked at and what was told already (`watching.py`); the watchers' own health (`health.py`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster import DagsterEventType as Type

from mnist_pipeline.alerts.kinds import Alert, alert

MATTER = {
    *(Type.STEP_FAILURE, Type.RUN_FAILURE, Type.RUN_CANCELED, Type.RUN_CANCELING),
    *(Type.ASSET_CHECK_EVALUATION, Type.ASSET_MATERIALIZATION),
}
TELLING = (
    "raw_mnist_data",
    "production_digit_classifier",
    "batch_digit_predictions",
    "ab_report",
)  # whose metadata we read
REFUSED = "not deployed:"  # how the gate's reason begins; "kept:" is a model that serves already, or is no better
ENDED = {  # a contest, by strategy: kind and title
    "withdraw": ("challenger_withdrawn", "Challenger withdrawn"),
    "promotion": ("challenger_promoted", "Challenger promoted"),
    "automatic_rollback": ("rolled_back", "Rolled back to its predecessor"),
}
FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
PAGE = 1_000
ON_REQUEST = ("Sending run termination request.", "This run has been marked as canceled from outside")
FRAME = re.compile(r'File "([^"]+)", line (\d+)')
NOT_OURS = re.compile(r"site-packages|dist-packages|[/\\]lib[/\\]python3|^<")
Events = Sequence[dg.DagsterEvent]


def events_of(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord]) -> dict[str, Events]:
    """Run id -> its events that matter, from the log of each run: exact, some milliseconds a run."""
    runs = [record.dagster_run.run_id for record in records]
    logs = {run: instance.all_logs(run, of_type=MATTER) for run in runs}
    return {run: [entry.dagster_event for entry in log if entry.dagster_event] for run, log in logs.items()}


def events_of_many(
    instance: dg.DagsterInstance, records: Sequence[dg.RunRecord], checks: Iterable[dg.AssetCheckKey]
) -> dict[str, Events]:
    """The same for a backlog, from what Dagster indexes across runs: some seconds for thousands of runs.

    checks: those that are looked up; of several failed steps of a run only the first is seen.
    """
    found: dict[str, list[dg.DagsterEvent]] = {record.dagster_run.run_id: [] for record in records}
    since = min(record.create_timestamp for record in records).timestamp() - 1
    for run, event in (*_changes(instance, since), *_made(instance, since), *_checked(instance, since, checks)):
        if run in found:
            found[run].append(event)
    return dict(found)


def _changes(instance: dg.DagsterInstance, since: float) -> Iterator[tuple[str, dg.DagsterEvent]]:
    for kind in (Type.RUN_FAILURE, Type.RUN_CANCELED, Type.RUN_CANCELING):
        wanted = dg.RunStatusChangeRecordsFilter(kind, after_timestamp=since)
        cursor, more = None, True
        while more:
            page = instance.fetch_run_status_changes(wanted, limit=PAGE, cursor=cursor, ascending=True)
            yield from (
                (r.run_id, r.event_log_entry.dagster_event) for r in page.records if r.event_log_entry.dagster_event
            )
            cursor, more = page.cursor, page.has_more


def _made(instance: dg.DagsterInstance, since: float) -> Iterator[tuple[str, dg.DagsterEvent]]:
    for asset in TELLING:
        wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), after_timestamp=since)
        cursor, more = None, True
        while more:
            page = instance.fetch_materializations(wanted, limit=PAGE, cursor=cursor, ascending=True)
            yield from (
                (r.run_id, r.event_log_entry.dagster_event) for r in page.records if r.event_log_entry.dagster_event
            )
            cursor, more = page.cursor, page.has_more


def _checked(
    instance: dg.DagsterInstance, since: float, checks: Iterable[dg.AssetCheckKey]
) -> Iterator[tuple[str, dg.DagsterEvent]]:
    for check in checks:
        cursor: int | None = None
        while True:
            page = instance.event_log_storage.get_asset_check_execution_history(check, limit=PAGE, cursor=cursor)
            for row in page:
                if row.event and row.event.dagster_event and row.create_timestamp >= since:
                    yield row.run_id, row.event.dagster_event
            if len(page) < PAGE or page[-1].create_timestamp < since:
                break
            cursor = page[-1].id


# --- what they mean ---


def alerts_of(run: dg.DagsterRun, events: Events, ui_url: str) -> list[Alert]:
    """Everything that should be told about a finished run; each alert has the same id whenever it is found again."""
    about = {"job": job_label(run), "link": f"{ui_url}/runs/{run.run_id}"}
    made = [e.step_materialization_data.materialization for e in events if e.event_type == Type.ASSET_MATERIALIZATION]
    found = [*_failed_checks(run, events, about), *(a for each in made for a in _told_by(run, each, about))]
    found += [] if _only_checks_failed(events) else _run_itself(run, events, about)
    if any(each.kind == "fallback_data" for each in found):  # the check beside it says the same
        found = [each for each in found if "is_what_was_asked_for" not in each.title]
    return list({each.id: each for each in found}.values())


def job_label(run: dg.DagsterRun) -> str:
    """The job's name, or the assets of a run without one; with night and origin."""
    name = run.job_name
    if name.startswith("__"):
        chosen = sorted(key.to_user_string() for key in run.asset_selection or ())
        name = f"assets {', '.join(chosen)}" if chosen else "assets"
    more = [f"{what} {run.tags[tag]}" for tag, what in ORIGINS.items() if run.tags.get(tag)]
    return f"{name} ({', '.join(more)})" if more else name


ORIGINS = {"dagster/partition": "of", "dagster/schedule_name": "by schedule", "dagster/sensor_name": "by sensor"}


def _run_itself(run: dg.DagsterRun, events: Events, about: Mapping[str, str]) -> list[Alert]:
    if run.status == dg.DagsterRunStatus.FAILURE:
        steps = _failed_steps(events)
        more = (
            f"\nand {len(steps) - 1} more failed: {', '.join(str(e.step_key) for e in steps[1:])}" if steps[1:] else ""
        )
        asset = str(steps[0].step_key) if steps else ""
        again = " (Dagster tries it again by itself)" if run.tags.get("dagster/will_retry") == "true" else ""
        title = (
            f"Run failed: {run.job_name.strip('_').lower() if run.job_name.startswith('__') else run.job_name}{again}"
        )
        return [
            alert(f"{run.run_id}:failed", "run_failed", title, _why_failed(steps, events) + more, asset=asset, **about)
        ]
    if run.status == dg.DagsterRunStatus.CANCELED and not _asked_for(events):
        said = [e.message or "" for e in events if e.event_type in (Type.RUN_CANCELING, Type.RUN_CANCELED)]
        title, cause = f"Run canceled: {about['job']}", "\n".join(filter(None, said)) or "no reason was given"
        return [alert(f"{run.run_id}:canceled", "run_canceled", title, cause, **about)]
    return []


def _failed_steps(events: Events) -> list[dg.DagsterEvent]:
    """Real failures first, those on failed checks behind them; without step events, what the run's end tells of it."""
    steps = [e for e in events if e.event_type == Type.STEP_FAILURE]
    if not steps:
        ends = [e.job_failure_data for e in events if e.event_type == Type.RUN_FAILURE and e.event_specific_data]
        steps = [end.first_step_failure_event for end in ends if end.first_step_failure_event]
    return sorted(steps, key=_failed_on_a_check)


def _error(event: dg.DagsterEvent) -> Any:
    return getattr(event.event_specific_data, "error", None)


def _failed_on_a_check(step: dg.DagsterEvent) -> bool:
    error = _error(step)
    return error is not None and error.cls_name == "DagsterAssetCheckFailedError"


def _only_checks_failed(events: Events) -> bool:
    """Then the failed checks are told, and "the run failed" would say it twice."""
    steps = _failed_steps(events)
    told = any(e.event_type == Type.ASSET_CHECK_EVALUATION and not _verdict(e).passed for e in events)
    return bool(steps) and told and all(map(_failed_on_a_check, steps))


def _asked_for(events: Events) -> bool:
    said = [e.message or "" for e in events if e.event_type in (Type.RUN_CANCELING, Type.RUN_CANCELED)]
    return bool(said) and said[0].startswith(ON_REQUEST)


def _why_failed(steps: Sequence[dg.DagsterEvent], events: Events) -> str:
    ends = [e for e in events if e.event_type == Type.RUN_FAILURE]
    errors = [error for e in (*steps, *ends) if (error := _error(e))]
    if errors:
        return cause(errors[0])
    return ends[0].message or "no reason was given" if ends else "its process ended without a word: crashed, or killed"


def cause(error: Any) -> str:
    """The innermost exception with file and line of our code, then what it was turned into on its way out."""
    chain = [error]
    while chain[-1].cause is not None:
        chain.append(chain[-1].cause)
    root, theirs = chain[-1], [each for each in chain[:-1] if not _is_boundary(each)]
    where = next((place for each in reversed(chain) if (place := _place(each.stack))), "")
    lines = [_said(root) + (f"\n  at {where}" if where else "")]
    return "\n".join(lines + [f"raised as {_said(each)}" for each in reversed(theirs)])


def _is_boundary(error: Any) -> bool:
    """What Dagster wraps around every error of ours: "Error occurred while executing op"."""
    return bool(re.search(r"(?i)error occurred (while|during)", error.message))


def _said(error: Any) -> str:
    """Class: message, without the module that traceback puts before the class."""
    name, message = error.cls_name or "Error", error.message.strip()
    return (
        f"{name}: {message.partition(': ')[2]}"
        if re.match(rf"(?:[\w.]+\.)?{name}: ", message)
        else f"{name}: {message}"
    )


def _place(stack: Sequence[str]) -> str:
    """The last frame that is neither Python's nor a library's, as "folder/file.py:12"."""
    frames = [match for text in stack if (match := FRAME.search(text)) and not NOT_OURS.search(match[1])]
    return "/".join(frames[-1][1].replace("\\", "/").split("/")[-3:]) + f":{frames[-1][2]}" if frames else ""


# --- checks, and what assets say about themselves ---


def _verdict(event: dg.DagsterEvent) -> Any:
    return event.asset_check_evaluation_data


def _failed_checks(run: dg.DagsterRun, events: Events, about: Mapping[str, str]) -> Iterator[Alert]:
    for verdict in (_verdict(e) for e in events if e.event_type == Type.ASSET_CHECK_EVALUATION):
        if verdict.passed:
            continue
        kind = "check_failed" if verdict.severity == dg.AssetCheckSeverity.ERROR else "check_warned"
        asset = verdict.asset_key.to_user_string()
        values = ", ".join(f"{name} = {entry.value}" for name, entry in verdict.metadata.items())
        why = ". ".join(filter(None, [verdict.description or "", values])) or "the check gave no reason"
        title = f"Check {verdict.check_name} failed on {asset}"
        yield alert(f"{run.run_id}:check:{asset}:{verdict.check_name}", kind, title, why, asset=asset, **about)


def _told_by(run: dg.DagsterRun, made: dg.AssetMaterialization, about: Mapping[str, str]) -> Iterator[Alert]:
    asset, values = made.asset_key.to_user_string(), {name: entry.value for name, entry in made.metadata.items()}
    key = f"{run.run_id}:{asset}:{made.partition or ''}"
    refused = values.get("outcome") == "kept" and str(values.get("reason")).startswith(REFUSED)
    if asset == "production_digit_classifier" and refused:
        serves = values.get("candidate") == values.get("served_before")
        kind = "production_refused" if serves else "model_refused"
        title = f"{'In production, and refused by the gate' if serves else 'Not deployed'}: {values.get('candidate')}"
        yield alert(key, kind, title, str(values.get("reason")), asset=asset, **about)
    if asset == "ab_report" and values.get("strategy") in ENDED:
        kind, title = ENDED[str(values["strategy"])]
        who = values.get("champion" if kind == "rolled_back" else "challenger")
        yield alert(key, kind, f"{title}: {who}", str(values.get("sentence")), asset=asset, **about)
    if asset == "raw_mnist_data" and values.get("fallback") is True:
        why = f"MNIST could not be had; trained on {values.get('images')} images: {values.get('source')}"
        yield alert(key, "fallback_data", "Embedded digits instead of MNIST", why, asset=asset, **about)
    if asset == "batch_digit_predictions" and values.get("predictions") == 0:
        why = f"{values.get('files', 0)} files, {values.get('quarantined', 0)} quarantined, none predicted"
        title = f"Night {made.partition or '?'}: no predictions"
        yield alert(key, "empty_night", title, why, asset=asset, **about)
