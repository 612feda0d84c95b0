"""The real-time service by the clock and at saturation, beside MLflow's server; its reloads, start and memory.

Service, load generator and MLflow share two cores. Of several turns the median counts, and of ratios that of the
ratios within a turn: another process that wants a core for a second multiplies a p99 by ten.
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

TURNS, STARTS, ROLLBACKS = 7, 5, 3
RATE, SECONDS = 200, 5
SATURATING = {"raw": 10_000, "json": 6_000, "mlflow": 1_500, "generator": 20_000}  # requests a turn, 1 to 2 s
MANY, BOUNDED_MS = 256, 100.0  # connections, four times as many as requests may be at work
FLAT, PARTS = 100_000, 10  # requests over which memory has to be flat, and how often it is looked at
FLAT_MB = 5.0  # 50 bytes a request


def run() -> list[Row]:
    """Fourteen rows."""
    _two_cores()
    with two_versions() as served:
        started = [_start(served) for _ in range(STARTS + 1)][1:]  # the first one fills the page cache
        with service(served.env) as ours:
            rows = [_by_the_clock(ours, served), *_at_saturation(ours, served), *deployments(ours, served)]
            rows += [rollbacks(ours, served, ROLLBACKS), _overloaded(ours, served), _together(ours, served)]
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
    reports = [ask(ours, served, "png", RATE * SECONDS, rate=RATE, connections=16) for _ in range(TURNS)]
    p50, p99 = ([report[name] for report in reports] for name in ("p50_ms", "p99_ms"))
    return Row(
        f"`POST /predict`, one PNG, {RATE} requests/s by the clock",
        f"p50 {_middle(p50)}, p99 {_middle(p99)}{failures(reports)}",
        "–",
        "–",
        "p50 ≤ 3 ms, p99 ≤ 15 ms",
        statistics.median(p50) <= 3 and statistics.median(p99) <= 15 and not failures(reports),
    )


def _at_saturation(ours: Server, served: Served) -> list[Row]:
    """8 connections; in turns with MLflow's server."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SATURATING}
    with mlflow(served.graph()) as theirs, nothing() as idle:
        servers = {"raw": ours, "json": ours, "mlflow": theirs, "generator": idle}
        for turn in range(TURNS + 1):
            for name, server in servers.items():
                report = ask(server, served, name if name in KINDS else "raw", SATURATING[name])
                found[name] += [report] * (turn > 0)  # the first turn warms up
    raw, json, baseline, generator = found.values()
    return [
        _rate("raw pixels", raw, baseline, 4),
        _rate("JSON", json, baseline, 2),
        _tail("raw pixels", raw, baseline),
        _tail("JSON", json, baseline),
        _generator(generator, raw),
    ]


def _rate(what: str, ours: list[dict[str, Any]], baseline: list[dict[str, Any]], bar: int) -> Row:
    ratio = _ratio(ours, baseline, "rate")
    return Row(
        f"`POST /predict`, {what}, 8 connections at saturation",
        spread([each["rate"] for each in ours], 0, " requests/s") + failures(ours),
        spread([each["rate"] for each in baseline], 0, " requests/s (MLflow, JSON)") + failures(baseline),
        f"{ratio:.1f}×",
        f"≥ {bar}×",
        ratio >= bar and not failures([*ours, *baseline]),
    )


def _tail(what: str, ours: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> Row:
    ratio = _ratio(baseline, ours, "p99_ms")
    return Row(
        f"p99 of that, {what}",
        _middle([each["p99_ms"] for each in ours]),
        _middle([each["p99_ms"] for each in baseline]) + " (MLflow, JSON)",
        f"1/{ratio:.1f}",
        "≤ 1/5",
        ratio >= 5,
    )


def _generator(alone: list[dict[str, Any]], ours: list[dict[str, Any]]) -> Row:
    """What the rates above would be if the service cost nothing."""
    ratio = _ratio(alone, ours, "rate")
    cost = spread([each["cpu_us"] for each in alone], 0, " µs")
    return Row(
        "the load generator, against a server that does nothing",
        spread([each["rate"] for each in alone], 0, f" requests/s, {cost} each"),
        "–",
        f"{ratio:.0f}× the service",
        "≥ 5×",
        ratio >= 5,
    )


def _overloaded(ours: Server, served: Served) -> Row:
    """More connections than requests may be at work. Those that are sent away cost little, and no accepted one waits
    for them."""
    reports = [ask(ours, served, "raw", SATURATING["raw"], connections=MANY) for _ in range(TURNS)]
    accepted = [each["p99_ms"] for each in reports]
    away = sum(each["failures"].pop("503", 0) for each in reports)
    return Row(
        f"`POST /predict`, raw pixels, {MANY} connections: p99 of those accepted",
        f"{_middle(accepted)}, {away / sum(each['requests'] for each in reports):.0%} sent away{failures(reports)}",
        "–",
        "–",
        f"≤ {BOUNDED_MS:.0f} ms, all others 503",
        statistics.median(accepted) <= BOUNDED_MS and away > 0 and not failures(reports),
    )


def _together(ours: Server, served: Served) -> Row:
    """What it brings that requests which arrive together are one run of the network."""
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "alone": []}
    with service({**served.env, "MNIST_SERVE_BATCH": "1"}) as alone:
        for turn in range(TURNS + 1):
            for name, server in {"ours": ours, "alone": alone}.items():
                report = ask(server, served, "raw", SATURATING["raw"], connections=32)
                found[name] += [report] * (turn > 0)  # the first turn warms up
    ratio = _ratio(found["ours"], found["alone"], "rate")
    rates = [spread([each["rate"] for each in reports], 0, " requests/s") for reports in found.values()]
    return Row(
        "requests in one run, raw pixels, 32 connections",
        rates[0] + failures(found["ours"]),
        f"{rates[1]} (`MNIST_SERVE_BATCH=1`){failures(found['alone'])}",
        f"{ratio:.2f}×",
        "> 1×",
        ratio > 1 and not failures([*found["ours"], *found["alone"]]),
    )


def _memory(ours: Server, served: Served) -> list[Row]:
    """After a warm-up with every form; the prediction log fills and begins parts all the while."""
    for form in ("raw", "json", "png"):
        ask(ours, served, form, FLAT // PARTS)
    resident, reports = [], []
    for i in range(PARTS):
        reports.append(ask(ours, served, ("raw", "json", "png")[i % 3], FLAT // PARTS))
        resident.append(ours.resident_mb())
    growth = statistics.median(resident[PARTS // 2 :]) - statistics.median(resident[: PARTS // 2])
    return [
        Row("service, resident memory", f"{max(resident):.0f} MB", "–", "–", "≤ 350 MB", max(resident) <= 350),
        Row(
            f"its growth over {FLAT:,} requests, second half to first",
            f"{growth:+.1f} MB ({resident[0]:.0f} to {resident[-1]:.0f} MB){failures(reports)}",
            "–",
            "–",
            f"≤ {FLAT_MB:.0f} MB",
            growth <= FLAT_MB and not failures(reports),
        ),
    ]


def _ratio(above: list[dict[str, Any]], below: list[dict[str, Any]], name: str) -> float:
    return statistics.median(a[name] / b[name] for a, b in zip(above, below, strict=True))


def _middle(milliseconds: list[float]) -> str:
    return f"{statistics.median(milliseconds):.1f} ms ({min(milliseconds):.1f} to {max(milliseconds):.1f})"


def failures(reports: Sequence[dict[str, Any]]) -> str:
    """What went wrong, to be seen in the table; "" if nothing did."""
    found = [f"{count} × {why}" for report in reports for why, count in report["failures"].items()]
    return f" (FAILED: {', '.join(found)})" if found else ""
