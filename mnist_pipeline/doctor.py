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
from typing import Any
from uuid import uuid4

import dagster as dg

from mnist_pipeline.blobs import BlobExists
from mnist_pipeline.changes import listing
from mnist_pipeline.resources import PROJECT, nightly_run, state_folder
from mnist_pipeline.tracking import is_server, without_login

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
        yield Finding("Dagster", False, f"its storage cannot be opened ({error}): see dagster.yaml in DAGSTER_HOME")
        return
    with instance:
        patient = Patient(env, definitions, instance, datetime.now().astimezone())
        for what, look in CHECKS.items():
            yield _found(what, look, patient)


def _found(what: str, look: Callable[[Patient], str], patient: Patient) -> Finding:
    try:
        return Finding(what, True, look(patient))
    except Exception as error:  # whatever it is, it is the finding
        return Finding(what, False, str(error) or type(error).__name__)


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
    if is_server(tracking.uri):
        try:
            urlopen(f"{tracking.uri.rstrip('/')}/health", timeout=5).close()
        except OSError as error:
            raise Ailing(
                f"{without_login(tracking.uri)} does not answer ({error}): start it, or mend MLFLOW_TRACKING_URI; "
                "until then what runs record waits"
            ) from error
    waiting = sum(tracking.spool().runs().values())
    return f"{without_login(tracking.uri)}; {waiting:,} records wait to be sent"


def _slack(patient: Patient) -> str:
    alerts = patient.resource("alerts")
    if not alerts.token:
        return "no SLACK_BOT_TOKEN: alerts go to the log"
    return f"alerts go to {alerts.channel} as {alerts.open(logging.getLogger(__name__)).check()}"


def _storage(patient: Patient) -> str:
    patient.instance.get_runs_count()
    return type(patient.instance.run_storage).__name__


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
    chosen = {state.instigator_name: state.is_running for state in patient.instance.all_instigator_state()}
    off = sorted(name for name, on in default.items() if not chosen.get(name, on))
    if off:
        raise Ailing(f"switched off: {', '.join(off)}; switch them on under Automation in the UI")
    return f"{len(default)} schedules and sensors are on"


def _heartbeat(patient: Patient) -> str:
    if not patient.env.get("MNIST_HEARTBEAT_URL"):
        return "MNIST_HEARTBEAT_URL is not set: nobody outside notices when everything is dead"
    return "sent with every round of the watch"


def _production(patient: Patient) -> str:
    from mnist_pipeline.production import NothingDeployed, load_production

    try:
        production = load_production(patient.resource("models").open())
    except NothingDeployed:
        return "nothing is deployed yet"
    return f"{production.card.name} by decision {production.decision.number}, verified"


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
    "daemon": _daemon,
    "switches": _switches,
    "heartbeat": _heartbeat,
    "production": _production,
}

if __name__ == "__main__":
    sys.exit(main())
