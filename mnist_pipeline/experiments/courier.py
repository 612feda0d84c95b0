"""The process that carries the spool to MLflow: its orders, its report, and how it is started.

It is a process of its own, because importing mlflow takes 2 to 4 s and 200 MB that neither a training nor the code
server should pay for; because a call into a dead server can then be ended; and because its settings (retries, time
limits) stay out of everybody's environment.
Not here: what it does (`sender.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

COMMAND = (sys.executable, "-m", "mnist_pipeline.experiments.sender")
PROJECT = Path(__file__).resolve().parents[2]  # from where the package is found, installed or not


class SendingFailed(RuntimeError):
    """Sending went wrong in a way that waiting does not cure; the message holds what the sender said."""


@dataclass(frozen=True)
class Order:
    """What to send, from where to where. seconds: how long this may take.

    folder: on this machine, for the lock and what a store that is no server keeps as files. ended: Dagster run ->
    (MLflow status, time in ms) of runs to close. models: location and endpoint of the model store that the registry
    mirrors; "" leaves the registry alone. follow: send this run only, until standard input ends.
    """

    uri: str
    experiment: str
    spool: str
    endpoint: str
    folder: str
    seconds: float
    ended: dict[str, tuple[str, int]] = field(default_factory=dict)
    models: tuple[str, str] = ("", "")
    follow: str = ""


@dataclass
class Report:
    """What came of it. away: why MLflow could not be reached; refused: records that it will never take, which were
    put aside; problems: what else could not be sent and why; damaged: versions of the store that cannot be registered.

    busy: another process was sending; unfinished: the time was over before everything was sent.
    """

    sent: int = 0
    refused: int = 0
    closed: int = 0
    registered: int = 0
    aliases: int = 0
    waiting: int = 0
    busy: bool = False
    unfinished: bool = False
    away: str = ""
    problems: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def send(order: Order) -> Report:
    """Send everything, in a process that is ended when it takes longer than it may. Raises SendingFailed."""
    try:
        done = subprocess.run(
            COMMAND,
            input=json.dumps(asdict(order)) + "\n",
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=order.seconds + 5,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Report(away=f"no answer within {order.seconds:.0f} s")
    if done.returncode:
        raise SendingFailed(f"sending to MLflow failed:\n{done.stderr.strip()[-4_000:]}")
    return Report(**json.loads(done.stdout.splitlines()[-1]))


def follow(order: Order) -> Callable[[], None]:
    """Begin to send what a run records, while it does; returns what tells the sender that nothing more comes.

    Nobody waits for it: it sends the rest and ends by itself, after `order.seconds` at the latest.
    """
    process = subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    words = process.stdin

    def stop() -> None:
        try:
            words.close()
        except BrokenPipeError:  # it has ended: MLflow was away, which it has noted in the spool
            return

    try:
        words.write(json.dumps(asdict(order)) + "\n")
        words.flush()
    except BrokenPipeError:
        pass
    threading.Thread(target=process.wait, name="mlflow-sender", daemon=True).start()
    return stop
