"""From a decision to the first answer with it: deployments under load, and rollbacks by command in a cold process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.common import Row, spread
from benchmarks.served import KINDS, Served
from benchmarks.servers import Server
from mnist_pipeline.environment import PROJECT

RELOADS, REQUESTS, RATE, EVERY_S = 20, 10_000, 250, 1.8
PATIENCE_S = 10.0
ROLLBACK = [sys.executable, "-m", "mnist_pipeline", "rollback", "--reason", "benchmark"]


def deployments(ours: Server, served: Served) -> list[Row]:
    """The two versions by turns, while requests go on: what became of those, and how long each took to be served."""
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(_requests, ours, served)
        time.sleep(1)
        began, numbers, spent = time.perf_counter(), [], []
        for i in range(RELOADS):
            time.sleep(max(0.0, began + i * EVERY_S - time.perf_counter()))
            decision, begun = served.deploy(served.versions[(i + 1) % 2])
            numbers.append(decision.number)
            spent.append(_served_after(ours, served, decision.number, begun))
        report = work.result()
    seen, failed = set(numbers) & set(report["decisions"]), report["failures"]
    names = set(report["versions"])
    return [
        Row(
            f"{RELOADS} reloads under load, {REQUESTS:,} requests",
            f"{sum(failed.values())} failed, {len(seen)} decisions and {len(names)} versions seen, "
            f"p99 {report['p99_ms']:.1f} ms",
            "–",
            "–",
            "0 failed, each names its version",
            not failed and len(seen) == RELOADS and names == set(served.versions),
        ),
        _at_most("deploy → served, under that load", spent, 2),
    ]


def _requests(ours: Server, served: Served) -> dict[str, Any]:
    options = {"total": REQUESTS, "rate": RATE, "connections": 16, "reads": True}
    return ours.load("/predict", served.bodies("raw"), kind=KINDS["raw"], **options)


def rollbacks(ours: Server, served: Served, times: int) -> Row:
    """Each is the command that a person gives, its start included."""
    spent = []
    for _ in range(times):
        current, begun = served.store.current(), time.perf_counter()
        subprocess.run(ROLLBACK, cwd=PROJECT, env={**os.environ, **served.env}, check=True, capture_output=True)
        spent.append(_served_after(ours, served, (current.number if current else 0) + 1, begun))
    return _at_most("rollback by command → served", spent, 3)


def _served_after(ours: Server, served: Served, number: int, begun: float) -> float:
    """Seconds from `begun` (`time.perf_counter`) to the first answer by decision `number`. Raises TimeoutError."""
    body = next(served.bodies("raw").iterdir()).read_bytes()
    while time.perf_counter() < begun + PATIENCE_S:
        status, answer = ours.ask("POST", "/predict", body, KINDS["raw"])
        if status == 200 and f'"decision":{number},' in answer.decode().replace(" ", ""):
            return time.perf_counter() - begun
        time.sleep(0.01)
    raise TimeoutError(f"decision {number} does not serve after {PATIENCE_S:.0f} s: {answer.decode()}")


def _at_most(what: str, spent: list[float], bar: float) -> Row:
    most = max(spent)
    return Row(what, f"{spread(spent, 2, ' s')}, at most {most:.2f} s", "–", "–", f"≤ {bar:.0f} s", most <= bar)
