"""Champion and challenger on what people ask: which tests are made, and what follows from them.

Here: pairs of answers in, a verdict and its reasons out. Not here: the tests themselves (`sequential`), where the pairs
come from (`contests.py`), and the decision (`deciding.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mnist_pipeline.ml.sequential import Test, mean_above, mean_below, rate_above, rate_below

Act = Literal["go_on", "promotion", "withdraw", "automatic_rollback"]
BETTER, WORSE = "the challenger is right more often", "the challenger is wrong more often"
BETTER_BESIDE, WORSE_BESIDE = (f"{each}, each on requests of its own" for each in (BETTER, WORSE))
UNLIKE, ALIKE = "they disagree too often", "they disagree seldom enough"
MOST_UNLIKE = 0.99  # no test could show more than all
UNSURE, AS_SURE, SURER = "the challenger is less sure", "the challenger is as sure", "the predecessor is surer"


@dataclass(frozen=True)
class Pairs:
    """What both have answered, in order. On the same images, where the challenger was in the shadow:

    unlike: bool [N], whether the answers differ; surer: float [N], confidence of the challenger less the champion's.
    wins: bool [M], of the pairs where only one was right, whether it was the challenger; where people only correct,
    what nobody corrected counts for the champion, whose answer was shown. losses: bool [K], of those with a label by
    people, whether it was the champion, in the order in which the labels came.

    beside: bool [L], as wins, but each pair is of two images, as both answer people. Nobody knows which is harder, but
    neither is on average; and both answers were shown, so silence speaks for both. labels: how many images have one.
    """

    unlike: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    surer: np.ndarray = field(default_factory=lambda: np.zeros(0))
    wins: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    beside: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    labels: int = 0


@dataclass(frozen=True)
class Rules:
    """alpha: how often a contest may end wrongly, each way; disagreement: the share of differing answers that is
    tolerable beyond `expected`; less_sure: by how much the mean confidence may be lower; least: images before a
    promotion without labels.

    gate: whether the gate has found this challenger fit to take this champion's place. expected: the share of test
    images on which it then saw only one of the two right. So much disagreement is no surprise: a challenger that
    makes 1 % errors where the champion makes 8 % differs on 7 % at least. One that no gate has passed has to show that
    it answers like the champion, and one that differs by more than its evidence says is not what the gate has seen.
    """

    alpha: float = 0.05
    disagreement: float = 0.05
    less_sure: float = 0.02
    least: int = 500
    gate: bool = False
    expected: float = 0.0
    watches: bool = False

    @property
    def tolerable(self) -> float:
        """The share of differing answers above which the challenger leaves."""
        return min(MOST_UNLIKE, self.disagreement + self.expected)


@dataclass(frozen=True)
class Finding:
    """What is to be done, the sentence that says why, the tests, and the share of differing answers that was
    tolerable."""

    act: Act
    sentence: str
    tests: tuple[Test, ...]
    tolerable: float

    def evidence(self) -> dict[str, Any]:
        """For the ledger and the report: every number that a test ended with."""
        return {each.name: _facts(each) for each in self.tests}


def judged(pairs: Pairs, rules: Rules) -> Finding:
    """Promotion, withdrawal or rollback, where the evidence suffices. Evidence that people gave comes first."""
    tests = _watching(pairs, rules) if rules.watches else _competing(pairs, rules)
    act, why = _act({each.name: each for each in tests}, len(pairs.surer), rules)
    return Finding(act, f"{SAID[act, rules.watches]}: {why}", tests, rules.tolerable)


SAID = {
    ("go_on", False): "the contest goes on",
    ("go_on", True): "production holds its own against its predecessor",
    ("promotion", False): "the challenger takes production's place",
    ("withdraw", False): "the challenger is withdrawn",
    ("automatic_rollback", True): "production goes back to its predecessor",
}


def _competing(pairs: Pairs, rules: Rules) -> tuple[Test, ...]:
    """alpha is shared by the ways to be withdrawn, and by those to be promoted. A mistake of the champion may count in
    `wins` and once more in `beside`, so these are tests of their own: their sum bounds the error whatever they share.
    """
    third, half, quarter = rules.alpha / 3, rules.alpha / 2, rules.alpha / 4
    return (
        Test(UNLIKE, rate_above(pairs.unlike, rules.tolerable), third),
        Test(UNSURE, mean_below(pairs.surer, -rules.less_sure), third),
        Test(WORSE, rate_above(pairs.losses, 0.5), third / 2),
        Test(WORSE_BESIDE, rate_above(~pairs.beside, 0.5), third / 2),
        Test(BETTER, rate_above(pairs.wins, 0.5), half),
        Test(BETTER_BESIDE, rate_above(pairs.beside, 0.5), quarter),
        Test(ALIKE, rate_below(pairs.unlike, rules.tolerable), quarter),
        Test(AS_SURE, mean_above(pairs.surer, -rules.less_sure), quarter),
    )


def _watching(pairs: Pairs, rules: Rules) -> tuple[Test, ...]:
    """After a promotion: that answers differ does not say whose are wrong, so it is no reason to go back."""
    half = rules.alpha / 2
    return (
        Test(BETTER, rate_above(pairs.wins, 0.5), half),
        Test(SURER, mean_above(pairs.surer, rules.less_sure), half),
    )


def _act(tests: dict[str, Test], images: int, rules: Rules) -> tuple[Act, str]:
    if rules.watches:
        for name in (BETTER, SURER):
            if tests[name].answered:
                return "automatic_rollback", _because(
                    tests[name].name.replace("challenger", "predecessor"), tests[name]
                )
        return "go_on", f"after {images:,} answers nothing shows that the predecessor was better"
    for name in (BETTER, BETTER_BESIDE):
        if tests[name].answered:
            return "promotion", _because(name, tests[name])
    for name in (WORSE, WORSE_BESIDE, UNLIKE, UNSURE):
        if tests[name].answered:
            return "withdraw", _because(name, tests[name])
    if not (tests[ALIKE].answered and tests[AS_SURE].answered and images >= rules.least):
        return "go_on", f"after {images:,} answers neither side is shown to be better"
    if not rules.gate:
        return "go_on", f"{ALIKE} and {AS_SURE}, but neither people nor the gate have found it better"
    return "promotion", f"{ALIKE} and {AS_SURE} over {images:,} answers, and the gate has found it fit"


def _because(said: str, test: Test) -> str:
    return f"{said}, shown after {test.answered_after:,} observations (wrong in at most {test.alpha:.1%} of contests)"


def _facts(test: Test) -> dict[str, Any]:
    last = float(test.path[-1]) if len(test.path) else 0.0
    return {
        "observations": len(test.path),
        "log_e": max(last, -1e6),  # -inf cannot be stored
        "threshold": test.threshold,
        "alpha": test.alpha,
        "p": test.p,
        "answered_after": test.answered_after,
    }
