"""The real-time service by the clock and at saturation, beside MLflow's server; its reloads, start and memory.

Service, load generator and MLflow share two cores.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.common import Row, spread
from benchmarks.reloading import deployments, rollbacks
from benchmarks.served import KINDS, Served, two_versions
from benchmarks.servers import Server, mlflow, nothing, service

TIMES, STARTS = 3, 5
RATE, SECONDS = 200, 10
AT_ONCE = 100_000  # requests, over which memory has to be flat
FLAT_MB = 5.0  # 50 bytes a request


def run() -> list[Row]:
    """Eleven rows."""
    _two_cores()
    with two_versions() as served:
        started = [_start(served) for _ in range(STARTS + 1)][1:]  # the first one fills the page cache
        with service(served.env) as ours:
            rows = [_by_the_clock(ours, served), *_at_saturation(ours, served), *deployments(ours, served)]
            rows.append(rollbacks(ours, served, TIMES))
        with service(served.env) as ours:
            memory = _memory(ours, served)
    start = Row("service, start to ready", spread(started, 2, " s"), "–", "–", "≤ 2 s", statistics.mean(started) <= 2)
    return [*rows, start, *memory]


def _two_cores() -> None:
    """For this process and its children, on a machine that has more."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def _start(served: Served) -> float:
    with service(served.env) as ours:
        return ours.ready_s


def ask(server: Server, served: Served, form: str, total: int, **options: float | bool) -> dict[str, Any]:
    """The report of so many requests of that form."""
    path = "/invocations" if form == "mlflow" else "/predict"
    return server.load(path, served.bodies(form), kind=KINDS[form], total=total, **options)


def _by_the_clock(ours: Server, served: Served) -> Row:
    ask(ours, served, "png", RATE, rate=RATE, connections=16)  # warms up
    reports = [ask(ours, served, "png", RATE * SECONDS, rate=RATE, connections=16) for _ in range(TIMES)]
    p50, p99 = ([report[name] for report in reports] for name in ("p50_ms", "p99_ms"))
    return Row(
        f"`POST /predict`, one PNG, {RATE} requests/s by the clock",
        f"p50 {spread(p50, 1, ' ms')}, p99 {spread(p99, 1, ' ms')}{failures(reports)}",
        "–",
        "–",
        "p50 ≤ 3 ms, p99 ≤ 15 ms",
        statistics.mean(p50) <= 3 and statistics.mean(p99) <= 15 and not failures(reports),
    )


def _at_saturation(ours: Server, served: Served) -> list[Row]:
    """In turns with MLflow's, because the machine is shared."""
    found: dict[str, list[dict[str, Any]]] = {"raw": [], "json": [], "mlflow": [], "generator": []}
    with mlflow(served.graph()) as theirs, nothing() as idle:
        servers = {
            "raw": (ours, 20_000),
            "json": (ours, 10_000),
            "mlflow": (theirs, 3_000),
            "generator": (idle, 40_000),
        }
        for turn in range(TIMES + 1):
            for name, (server, total) in servers.items():
                report = ask(server, served, name if name in KINDS else "raw", total)
                found[name] += [report] * (turn > 0)  # the first turn warms up
    raw, json, baseline, generator = found.values()
    return [
        _rate("raw pixels", raw, baseline, 4),
        _rate("JSON", json, baseline, 2),
        _tail({"raw": raw, "JSON": json}, baseline),
        _generator(generator, raw),
    ]


def _rate(what: str, ours: list[dict[str, Any]], baseline: list[dict[str, Any]], bar: int) -> Row:
    rates, theirs = ([report["rate"] for report in reports] for reports in (ours, baseline))
    ratio = statistics.mean(rates) / statistics.mean(theirs)
    return Row(
        f"`POST /predict`, {what}, 8 connections at saturation",
        spread(rates, 0, " requests/s") + failures(ours),
        spread(theirs, 0, " requests/s (MLflow, JSON)") + failures(baseline),
        f"{ratio:.1f}×",
        f"≥ {bar}×",
        ratio >= bar and not failures(ours),
    )


def _tail(ours: dict[str, list[dict[str, Any]]], baseline: list[dict[str, Any]]) -> Row:
    p99 = {name: [report["p99_ms"] for report in reports] for name, reports in ours.items()}
    theirs = [report["p99_ms"] for report in baseline]
    ratio = statistics.mean(theirs) / max(map(statistics.mean, p99.values()))
    return Row(
        "p99 at saturation",
        ", ".join(f"{name} {spread(each, 1, ' ms')}" for name, each in p99.items()),
        spread(theirs, 1, " ms (MLflow, JSON)"),
        f"1/{ratio:.1f}",
        "≤ 1/5",
        ratio >= 5,
    )


def _generator(alone: list[dict[str, Any]], ours: list[dict[str, Any]]) -> Row:
    """What the rates above would be if the service cost nothing."""
    rates, cost = [report["rate"] for report in alone], [report["cpu_us"] for report in alone]
    ratio = statistics.mean(rates) / statistics.mean([report["rate"] for report in ours])
    return Row(
        "the load generator, against a server that does nothing",
        f"{spread(rates, 0, ' requests/s')}, {spread(cost, 0, ' µs')} each",
        "–",
        f"{ratio:.0f}× the service",
        "≥ 10×",
        ratio >= 10,
    )


def _memory(ours: Server, served: Served) -> list[Row]:
    """After a warm-up with every form, and over the same forms in turn."""
    for form in ("raw", "json", "png"):
        ask(ours, served, form, 10_000)
    resident, reports = [ours.resident_mb()], []
    for form in ("raw", "json", "png", "raw"):
        reports.append(ask(ours, served, form, AT_ONCE // 4))
        resident.append(ours.resident_mb())
    growth = resident[-1] - resident[0]
    course = " → ".join(f"{each:.0f}" for each in resident)
    return [
        Row("service, resident memory", f"{max(resident):.0f} MB", "–", "–", "≤ 350 MB", max(resident) <= 350),
        Row(
            f"its growth over {AT_ONCE:,} requests",
            f"{growth:+.1f} MB ({course}){failures(reports)}",
            "–",
            "–",
            f"≤ {FLAT_MB:.0f} MB",
            growth <= FLAT_MB and not failures(reports),
        ),
    ]


def failures(reports: Sequence[dict[str, Any]]) -> str:
    """What went wrong, to be seen in the table; "" if nothing did."""
    found = [f"{count} × {why}" for report in reports for why, count in report["failures"].items()]
    return f" (FAILED: {', '.join(found)})" if found else ""
