"""When one configuration counts as better than another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mnist_pipeline.ml.tuning.problems import Advantage, Scored, judge
from mnist_pipeline.ml.tuning.spaces import Space


@dataclass(frozen=True)
class Told:
    """A problem whose advantage is told beforehand."""

    p: float
    space: Space = field(default_factory=dict)
    current: dict[str, Any] = field(default_factory=dict)
    measure: str = "accuracy"

    def score(self, settings: Mapping[str, Any], on_step: Callable[[int, float], None]) -> Scored:
        raise NotImplementedError

    def advantage(self, best: Scored, current: Scored) -> Advantage:
        return Advantage(self.p, "on 7 of 9")


BEST, TODAY = Scored(0.97, 0.1, None), Scored(0.95, 0.2, None)


def test_better_beyond_noise_is_better() -> None:
    verdict = judge(Told(0.001), BEST, TODAY, compared=10)
    assert verdict.better
    assert verdict.reason.startswith("better beyond noise: accuracy 0.9700, now 0.9500; on 7 of 9, p = 0.001")


def test_the_best_of_many_has_to_be_further_ahead() -> None:
    assert judge(Told(0.01), BEST, TODAY, compared=4).better
    verdict = judge(Told(0.01), BEST, TODAY, compared=5)
    assert not verdict.better
    assert "within noise" in verdict.reason
    assert "less than 0.01 is needed, being the best of 5" in verdict.reason


def test_as_high_is_not_better() -> None:
    assert not judge(Told(0.0), TODAY, TODAY, compared=3).better
    assert judge(Told(0.0), TODAY, TODAY, compared=0).reason == "none of 0 others has a higher accuracy than 0.9500"
