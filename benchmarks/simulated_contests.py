"""How contests between champion and challenger end by the rules' defaults, and how soon: simulated answers of both.

Each contest is looked at after every answer, and the first test to be answered ends it. Not here: contests of real
models over a real service (`contest.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.common import Row
from mnist_pipeline.ml.contest import (
    ALIKE,
    AS_SURE,
    BETTER,
    BETTER_BESIDE,
    UNLIKE,
    UNSURE,
    WORSE,
    WORSE_BESIDE,
    Pairs,
    Rules,
    judged,
)

CONTESTS, ANSWERS = 200, 3_000
ERRORS = 0.02  # of the champion
WITHDRAWN_BY = (UNLIKE, UNSURE, WORSE, WORSE_BESIDE)


@dataclass(frozen=True)
class Kind:
    """errors, champion: shares of images that challenger and champion get wrong, half of those of the better one in
    common; surer: by how much the challenger is; corrected: the share of the champion's errors that people put right,
    None where every image has a label; gate: whether the gate has passed the challenger, and seen them differ so;
    apart: whether each answers half of the people, and not the challenger in the shadow of all."""

    errors: float
    surer: float = 0.0
    champion: float = ERRORS
    corrected: float | None = 0.5
    gate: bool = False
    apart: bool = False

    @property
    def rules(self) -> Rules:
        """The defaults."""
        return Rules(gate=self.gate, expected=self._only_one_right() if self.gate else 0.0)

    def played(self, rng: np.random.Generator) -> Pairs:
        """One contest."""
        hard, said = rng.random(ANSWERS) < self._shared(), rng.random(ANSWERS) < (self.corrected or 1.0)
        champion, challenger = (hard | (rng.random(ANSWERS) < own) for own in self._own())
        own = challenger[ANSWERS // 2 :] if self.apart else challenger[:0]  # on images that only it has seen
        ours = champion[: len(own)]
        if self.apart:
            champion, challenger, said = (each[: len(own)] for each in (champion, challenger, said))
        unlike = champion != challenger
        wins = (champion & said & ~challenger)[unlike]
        losses = ~wins if self.corrected is None else np.zeros(0, bool)
        surer = np.clip(self.surer + rng.normal(0, 0.05, len(unlike)) - 0.3 * (challenger & ~champion), -1, 1)
        return Pairs(unlike, surer, wins, losses, ~own[ours != own])

    def _shared(self) -> float:
        return min(self.errors, self.champion) / 2

    def _own(self) -> tuple[float, ...]:
        """Shares of errors on the images that are not hard for both, the champion's first."""
        shared = self._shared()
        return tuple((each - shared) / (1 - shared) for each in (self.champion, self.errors))

    def _only_one_right(self) -> float:
        ours, his = self._own()
        return (1 - self._shared()) * (ours * (1 - his) + his * (1 - ours))


EQUAL = Kind(ERRORS)
WORSE_BY = {"worse by a point": Kind(ERRORS + 0.01), "worse by 8 points": Kind(ERRORS + 0.08, -0.05)}
BAD = {"wrong on every fourth": Kind(0.25, -0.1), "guessing": Kind(0.9, -0.3)}


def rows() -> list[Row]:
    """False ends, bad challengers, good ones."""
    labelled = {name: replace(kind, corrected=None) for name, kind in {"equal": EQUAL, **WORSE_BY}.items()}
    return [
        _wrongly("every image has a label", labelled),
        _wrongly(
            "each answers half of the people", {name: replace(kind, apart=True) for name, kind in labelled.items()}
        ),
        _withdrawn({"worse by 8 points": WORSE_BY["worse by 8 points"], **BAD}),
        _promoted("half the errors, every image has a label", Kind(ERRORS / 2, corrected=None)),
        _promoted("half the errors, passed by the gate", Kind(ERRORS / 2, gate=True)),
        _promoted("1 % errors against 8 %, passed by the gate", Kind(0.01, champion=0.08, gate=True)),
    ]


def _wrongly(what: str, kinds: Mapping[str, Kind]) -> Row:
    """The first of them is equal, the others are worse."""
    ends = {name: _ends(kind) for name, kind in kinds.items()}
    promoted = {name: _share(each, "promotion") for name, each in ends.items()}
    withdrawn = _share(ends["equal"], "withdraw")
    said = "; ".join(f"{name} {share:.1%}" for name, share in promoted.items())
    return Row(
        f"contest: promoted where {what}, {CONTESTS} contests of {ANSWERS:,} answers",
        f"{said}; {withdrawn:.1%} of equal ones withdrawn",
        "–",
        "–",
        "≤ 5 %",
        max(*promoted.values(), withdrawn) <= 0.05,
    )


def _withdrawn(kinds: Mapping[str, Kind]) -> Row:
    late = {name: _after(_ends(kind), "withdraw") for name, kind in kinds.items()}
    return Row(
        "contest: a bad challenger is withdrawn after",
        "; ".join(f"{name}: {np.median(each):.0f} answers, at most {max(each):.0f}" for name, each in late.items()),
        "–",
        "–",
        "≤ 200",
        max(map(max, late.values())) <= 200,
    )


def _promoted(what: str, kind: Kind) -> Row:
    ends = _ends(kind)
    share, gone = _share(ends, "promotion"), _share(ends, "withdraw")
    said = f"{np.median(_after(ends, 'promotion')):.0f} answers, {share:.0%} of them; {gone:.1%} withdrawn"
    return Row(f"contest: a good one is promoted ({what}) after", said, "–", "–", "≥ 80 %", share >= 0.8)


def _ends(kind: Kind) -> list[tuple[str, float]]:
    """How each of CONTESTS ended, and after how many answers."""
    rng = np.random.default_rng([int(kind.errors * 1e4), int(-kind.surer * 1e4)])
    return [_end(kind.played(rng), kind.rules) for _ in range(CONTESTS)]


def _end(pairs: Pairs, rules: Rules) -> tuple[str, float]:
    tests = {each.name: each.answered_after for each in judged(pairs, rules).tests}
    differing = np.flatnonzero(pairs.unlike) + 1  # which answers those are that wins and losses are about
    every = ANSWERS / max(1, len(pairs.beside))  # answers, of which one tells both apart

    def after(name: str) -> float:
        count = tests[name]
        if count is None:
            return math.inf
        if name in (BETTER_BESIDE, WORSE_BESIDE):
            return count * every
        return float(differing[count - 1]) if name in (BETTER, WORSE) else float(count)

    alike = max(after(ALIKE), after(AS_SURE), rules.least) if rules.gate else math.inf
    promoted, withdrawn = min(after(BETTER), after(BETTER_BESIDE), alike), min(map(after, WITHDRAWN_BY))
    if math.inf == promoted == withdrawn:
        return "go_on", math.inf
    return ("promotion", promoted) if promoted <= withdrawn else ("withdraw", withdrawn)


def _share(ends: list[tuple[str, float]], act: str) -> float:
    return float(np.mean([each == act for each, _ in ends]))


def _after(ends: list[tuple[str, float]], act: str) -> list[float]:
    """Those that did not end so count as never."""
    return [after if each == act else math.inf for each, after in ends]
