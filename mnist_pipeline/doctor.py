"""`make doctor`: whether everything is there that the pipeline needs to run by itself; each line ok, or what to do.

Looks through the same doors as the pipeline does. It leaves nothing behind but a probe that it removes again.
"""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dagster as dg
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.storage.runs import InMemoryRunStorage, SqliteRunStorage

from mnist_pipeline.alerts.doors import CURES, SlackAlerter
from mnist_pipeline.alerts.redaction import Redaction
from mnist_pipeline.changes import listing
from mnist_pipeline.environment import PROJECT, nightly_run, ray_jobs_address, state_folder, steps_on
from mnist_pipeline.storage.blobs import BlobExists
from mnist_pipeline.tracking import is_server, without_login

if TYPE_CHECKING:
    from dagster._core.scheduler.instigation import InstigatorState

DEFINITIONS = "mnist_pipeline.definitions"
LEAST_FREE = 2e9  # bytes; a night of 100,000 images and some versions fit in
PROBE = b"a probe of `make doctor`; it may be deleted"


class Ailing(Exception):
    """What is wrong, and what to do."""


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    what: str
    well: bool
    said: str

    def line(self) -> str:
        """For a terminal."""
        return f"  {'ok  ' if self.well else 'FAIL'}  {self.what:<13} {self.said}"


@dataclass(frozen=True)
class Patient:
    """What is examined: the environment, the definitions made from it, and Dagster's instance."""

    env: Mapping[str, str]
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    now: datetime

    def resource(self, name: str) -> Any:
        """With its secrets filled in, as a run gets it."""
        return (self.definitions.resources or {})[name].process_config_and_initialize()


def main() -> int:
    """Exit status 0 when all is well, 1 when something is not."""
    os.environ.setdefault("DAGSTER_HOME", str(PROJECT))
    os.environ.setdefault("MNIST_PIPELINE_STATE", str(state_folder()))
    findings = []
    for finding in examine(os.environ):
        print(finding.line(), flush=True)
        findings.append(finding)
    ailing = sum(not finding.well for finding in findings)
    print(f"\n  {f'{ailing} of {len(findings)} need a hand' if ailing else 'all is well'}")
    return 1 if ailing else 0


def examine(env: Mapping[str, str]) -> Iterator[Finding]:
    """A finding for each check; without valid settings or an instance there is nothing more to look at."""
    from mnist_pipeline.definitions import build_definitions

    try:
        definitions = build_definitions(env)
    except ValueError as error:
        yield Finding("environment", False, str(error))
        return
    yield Finding("environment", True, env.get("MNIST_PIPELINE_ENV") or "dev")
    try:
        instance = dg.DagsterInstance.get()
    except Exception as error:
        why = Redaction.of(env)(_first_line(_innermost(error)))
        home = env.get("DAGSTER_HOME", "")
        yield Finding(
            "Dagster", False, f"its storage cannot be opened ({why}): see dagster.yaml in DAGSTER_HOME={home}"
        )
        return
    with instance:
        patient = Patient(env, definitions, instance, datetime.now().astimezone())
        for what, look in CHECKS.items():
            yield _found(what, look, patient)


def _found(what: str, look: Callable[[Patient], str], patient: Patient) -> Finding:
    try:
        return Finding(what, True, look(patient))
    except Exception as error:  # whatever it is, it is the finding
        return Finding(what, False, Redaction.of(patient.env)(str(error) or type(error).__name__))


def _innermost(error: BaseException) -> BaseException:
    """What it all began with: Dagster says "too many retries", and below it stands which server refused."""
    while below := error.__cause__ or error.__context__:
        error = below
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _timezone(patient: Patient) -> str:
    nightly = nightly_run(patient.env)
    there = patient.now.astimezone(nightly.zone)
    return f"{nightly.timezone}, where it is {there:%H:%M}; the night is due at {nightly.hour:02}:{nightly.minute:02}"


def _disk(patient: Patient) -> str:
    state = state_folder(patient.env)
    state.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(state).free
    if free < LEAST_FREE:
        raise Ailing(f"{free / 1e9:.1f} GB free under {state}: less than {LEAST_FREE / 1e9:.0f} GB; free some")
    return f"{free / 1e9:.0f} GB free under {state}"


def _model_store(patient: Patient) -> str:
    """A deployment stands and falls with a create that refuses to overwrite."""
    models = patient.resource("models")
    blobs, key = models.open().blobs, f"doctor/{uuid4().hex}"
    blobs.create(key, PROBE)
    try:
        blobs.create(key, PROBE[::-1])
    except BlobExists:
        pass
    else:
        raise Ailing(f"{models.location} lets a key be written twice: it has no conditional writes; use one that has")
    finally:
        blobs.delete(key)
    return f"{models.location}: writes once, refuses the second"


def _shelves(patient: Patient) -> str:
    """Values, pictures and predictions are replaced: each place has to take, give and forget a file."""
    shelves = (
        patient.resource("io_manager").shelf,
        patient.resource("pictures").open().shelf,
        patient.resource("mail").answers(),
    )
    for shelf in shelves:
        probe = f"doctor/{uuid4().hex}"
        shelf.put(probe, PROBE)
        shelf.get(probe)
        shelf.delete(probe)
    return ", ".join(shelf.where("doctor").removesuffix("/doctor") for shelf in shelves)


def _inbox(patient: Patient) -> str:
    inbox = patient.resource("mail").open()
    return f"{len(inbox.waiting()):,} files wait in {inbox.where()}"


def _data(patient: Patient) -> str:
    source = patient.resource("source")
    if not source.directory and source.dataset in ("images", "idx"):
        raise Ailing(f"MNIST_DATASET={source.dataset} needs MNIST_DATA_DIR, the folder to read")
    if source.dataset == "embedded":
        return "embedded: comes with scikit-learn"
    if not source.directory:
        return f"{source.dataset}: downloaded when it is asked for"
    files = listing(source.place())
    if not files:
        raise Ailing(f"{source.directory} is empty: put the data there, or mend MNIST_DATA_DIR")
    return f"{source.dataset}: {len(files):,} files in {source.directory}"


def _mlflow(patient: Patient) -> str:
    from urllib.request import urlopen

    tracking = patient.resource("tracking")
    if tracking.is_off():
        return "switched off"
    shown = without_login(tracking.uri)
    if is_server(tracking.uri):
        try:
            urlopen(f"{shown.rstrip('/')}/health", timeout=5).close()  # which MLflow tells without a login too
        except OSError as error:
            raise Ailing(
                f"{shown} does not answer ({error}): start it, or mend MLFLOW_TRACKING_URI; "
                "until then what runs record waits"
            ) from error
    waiting = sum(map(len, tracking.spool().runs().values()))
    return f"{shown}; {waiting:,} records wait to be sent"


def _slack(patient: Patient) -> str:
    """Whether a message would arrive, and none does: one is scheduled for in an hour, and taken back at once.

    Both need no more than `chat:write`, as alerts do.
    """
    alerts = patient.resource("alerts")
    if not alerts.token:
        return "no SLACK_BOT_TOKEN: alerts go to the log"
    alerter = alerts.open(logging.getLogger(__name__))
    known_as = alerter.check()
    probe = {"channel": alerts.channel, "post_at": int(patient.now.timestamp()) + 3600, "text": PROBE.decode()}
    scheduled = _told_slack(alerter, "chat.scheduleMessage", probe)
    taken_back = {name: scheduled[name] for name in ("channel", "scheduled_message_id")}
    _told_slack(alerter, "chat.deleteScheduledMessage", taken_back)
    return f"alerts go to {alerts.channel} as {known_as}; it takes messages from us"


def _told_slack(alerter: SlackAlerter, method: str, arguments: dict[str, Any]) -> Any:
    from slack_sdk.errors import SlackApiError

    try:
        return alerter.client.api_call(method, json=arguments)
    except SlackApiError as error:
        code = str(error.response.get("error", error.response.status_code))
        cure = CURES.get(code, "see the methods of its API").format(channel=alerter.channel)
        raise Ailing(f"{method} for SLACK_CHANNEL={alerter.channel} was refused ({code}): {cure}") from error


def _storage(patient: Patient) -> str:
    storage = patient.instance.run_storage
    patient.instance.get_runs_count()
    if patient.env.get("MNIST_PIPELINE_ENV") == "prod" and isinstance(storage, SqliteRunStorage | InMemoryRunStorage):
        raise Ailing(
            f"{type(storage).__name__}: prod needs Postgres, which several processes can write to and which outlives "
            f"this machine. Set DAGSTER_HOME={PROJECT / 'instances' / 'postgres'} and DAGSTER_POSTGRES_URL"
        )
    return type(storage).__name__


def _steps(patient: Patient) -> str:
    """Steps on a cluster need it to answer, and a storage that they reach from every node."""
    chosen = steps_on(patient.env)
    if chosen != "ray":
        return "in the process of their run" if chosen == "process" else "each in a process of its own, on this machine"
    from mnist_pipeline.ray_jobs import jobs_at

    storage, address = patient.instance.run_storage, ray_jobs_address(patient.env)
    if isinstance(storage, SqliteRunStorage | InMemoryRunStorage):
        raise Ailing(
            f"MNIST_STEPS_ON=ray with {type(storage).__name__}, which lies on this machine: a step on another node "
            f"would tell nobody how it ended. Set DAGSTER_HOME={PROJECT / 'instances' / 'postgres'} here, and "
            "DAGSTER_POSTGRES_URL here and on every node"
        )
    jobs_at(address)
    return f"on Ray, which takes jobs at {address}"


def _daemon(patient: Patient) -> str:
    statuses = patient.instance.get_daemon_statuses()
    silent = sorted(name for name, status in statuses.items() if status.required and not status.healthy)
    if silent:
        raise Ailing(f"not alive: {', '.join(silent)}; start it with `make dev`, or dagster-daemon in production")
    return "alive"


def _switches(patient: Patient) -> str:
    repository = patient.definitions.get_repository_def()
    default: dict[str, bool] = {each.name: each.default_status.value == "RUNNING" for each in repository.schedule_defs}
    default |= {each.name: each.default_status.value == "RUNNING" for each in repository.sensor_defs}
    running: set[str] = set()
    stopped: set[str] = set()
    for state in filter(_is_of_this_code, patient.instance.all_instigator_state()):
        (running if state.is_running else stopped).add(state.instigator_name)
    off = sorted(name for name, on in default.items() if on and name in stopped and name not in running)
    if off:
        raise Ailing(f"switched off: {', '.join(off)}; switch them on under Automation in the UI")
    return f"{len(default)} schedules and sensors are on"


def _is_of_this_code(state: "InstigatorState") -> bool:
    """Sensors of other code locations may bear the same names. Of a code server in a container no module is known."""
    where = state.origin.repository_origin.code_location_origin
    if not isinstance(where, ManagedGrpcPythonEnvCodeLocationOrigin):
        return True
    return where.loadable_target_origin.module_name in (None, DEFINITIONS)


def _heartbeat(patient: Patient) -> str:
    if not patient.env.get("MNIST_HEARTBEAT_URL"):
        return "MNIST_HEARTBEAT_URL is not set: nobody outside notices when everything is dead"
    return "sent with every round of the watch"


def _production(patient: Patient) -> str:
    from mnist_pipeline.night_tables import NightTables
    from mnist_pipeline.production import NothingDeployed, load_production
    from mnist_pipeline.witnesses import contradictions, witnesses

    store, unread = patient.resource("models").open(), list[str]()
    answers = NightTables(patient.resource("mail").answers()), patient.resource("served").open(unread.append)
    if problems := store.verify_chain() or contradictions(store.ledger, witnesses(*answers)):
        more = f" and {len(problems) - 3:,} more" * (len(problems) > 3)
        raise Ailing(f"the ledger was changed: {'; '.join(problems[:3])}{more}. Restore decisions/ from a backup")
    try:
        production = load_production(store)
    except NothingDeployed:
        return "nothing is deployed yet"
    rival = f"; {production.decision.challenger} competes" if production.decision.challenger else ""
    lost = f"; {unread[0]}" if unread else ""
    return f"{production.card.name} by decision {production.decision.number}, verified with all before it{rival}{lost}"


CHECKS: dict[str, Callable[[Patient], str]] = {
    "timezone": _timezone,
    "disk": _disk,
    "model store": _model_store,
    "shelves": _shelves,
    "data": _data,
    "inbox": _inbox,
    "MLflow": _mlflow,
    "Slack": _slack,
    "Dagster": _storage,
    "steps": _steps,
    "daemon": _daemon,
    "switches": _switches,
    "heartbeat": _heartbeat,
    "production": _production,
}

if __name__ == "__main__":
    sys.exit(main())
