"""How a contest between champion and challenger ends, and how soon; and rollback end to end, with a real service.

Simulated, at the rules' defaults: each contest is looked at after every answer. Rollback: people have corrected the
promoted version; from the last of their records on, until the service answers with the predecessor.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np

from benchmarks.common import Row, spread
from mnist_pipeline.ml.contest import Pairs, Rules, judged

CONTESTS, ANSWERS, TIMES = 200, 3_000, 3
ERRORS = 0.02  # of the champion
LABELLED = 0.5  # share of the champion's errors that people correct


def contest(rng: np.random.Generator, errors: float, surer: float, answers: int = ANSWERS) -> Pairs:
    """A challenger in the shadow with so many errors, half of those of the better one in common."""
    shared = min(errors, ERRORS) / 2
    hard = rng.random(answers) < shared
    champion = hard | (rng.random(answers) < (ERRORS - shared) / (1 - shared))
    challenger = hard | (rng.random(answers) < (errors - shared) / (1 - shared))
    unlike = champion != challenger
    said = champion & (rng.random(answers) < LABELLED)
    wins = (said & ~challenger)[unlike]
    confidence = np.clip(surer + rng.normal(0, 0.05, answers) - 0.3 * (challenger & ~champion), -1, 1)
    return Pairs(unlike, confidence, wins, np.zeros(0, bool), int(said.sum()))


def simulated() -> list[Row]:
    """Three rows: false promotions, bad challengers, and good ones."""
    ends = {
        "equal": _ends(ERRORS, 0.0),
        "worse by a point": _ends(ERRORS + 0.01, 0.0),
        "worse by 8 points": _ends(ERRORS + 0.08, -0.05),
        "wrong on every fourth": _ends(0.25, -0.1),
        "guessing": _ends(0.9, -0.3),
        "good, and passed by the gate": _ends(ERRORS / 2, 0.0, gate=True),
    }
    wrongly = {name: _share(ends[name], "promotion") for name in ("equal", "worse by a point", "worse by 8 points")}
    late = {name: _after(ends[name], "withdraw") for name in ("worse by 8 points", "wrong on every fourth", "guessing")}
    bad = max(max(each) for name, each in late.items() if name != "worse by 8 points")
    good = ends["good, and passed by the gate"]
    kept = f"{_share(ends['equal'], 'withdraw'):.1%} of equal ones withdrawn"
    return [
        Row(
            f"contest: promoted by people's corrections, {CONTESTS} contests of {ANSWERS:,} answers",
            "; ".join(f"{name} {share:.1%}" for name, share in wrongly.items()) + f"; {kept}",
            "–",
            "–",
            "≤ 5 %",
            max(wrongly.values()) <= 0.05 and _share(ends["equal"], "withdraw") <= 0.05,
        ),
        Row(
            "contest: a bad challenger is withdrawn after",
            "; ".join(f"{name}: {np.median(each):.0f} answers, at most {max(each):.0f}" for name, each in late.items()),
            "–",
            "–",
            "≤ 200 (wrong on every fourth, guessing)",
            bad <= 200,
        ),
        Row(
            "contest: a good one is promoted after",
            f"{np.median(_after(good, 'promotion')):.0f} answers, {_share(good, 'promotion'):.0%} of them",
            "–",
            "–",
            "≥ 80 %",
            _share(good, "promotion") >= 0.8,
        ),
    ]


def _ends(errors: float, surer: float, *, gate: bool = False) -> list[tuple[str, float]]:
    """How each of CONTESTS ended, and after how many answers at the latest."""
    rng, rules = np.random.default_rng([int(errors * 1e4), int(-surer * 1e4)]), Rules(gate=gate)
    found = []
    for _ in range(CONTESTS):
        finding = judged(contest(rng, errors, surer), rules)
        first = [each.answered_after for each in finding.tests[:3] if each.answered_after]
        both = [each.answered_after or ANSWERS for each in finding.tests[4:]]
        after = min(first) if finding.act == "withdraw" else max(both)
        found.append((finding.act, float(after)))
    return found


def _share(ends: list[tuple[str, float]], act: str) -> float:
    return float(np.mean([each == act for each, _ in ends]))


def _after(ends: list[tuple[str, float]], act: str) -> list[float]:
    """Those that did not end so count as never."""
    return [after if each == act else float("inf") for each, after in ends]


def rollback() -> Row:
    """Seconds from the last correction to the first answer by the predecessor; the asset runs in this process."""
    spent = []
    for _ in range(TIMES):
        with tempfile.TemporaryDirectory() as folder:
            spent.append(_rolled_back(Path(folder)))
    most = max(spent)
    return Row(
        "rollback: evidence in the log → predecessor answers",
        f"{spread(spent, 2, ' s')}, at most {most:.2f} s",
        "–",
        "–",
        "≤ 5 s",
        most <= 5,
    )


def _rolled_back(folder: Path) -> float:
    from benchmarks.served import RAW, Served  # noqa: F401

    raise NotImplementedError


def run() -> list[Row]:
    """Four rows."""
    return [*simulated(), rollback()]
