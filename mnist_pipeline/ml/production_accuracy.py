"""How often production was right, as far as people said what was right: by version and by day, with its interval.

Right is counted among the answers that it gave. Beside them are counted those of which people said what they were and
that it gave no label to: it abstained, or saw no digit, which is a fault of the image or of the front door and not of
the network.

Values in, values and a picture out. Who said what of which answer is joined in `measured`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnist_pipeline.ml.drawing import GREY, labels, looks_of, message, panel, png
from mnist_pipeline.ml.metrics import wilson_interval

SAMPLED, REPORTED = "sampled", "reported"
ABSTAINED, NO_DIGIT = "abstained", "no digit"  # in the place of an answer
MEANING = {
    SAMPLED: "labels from CSV files: an estimate of production's accuracy, if the answers were drawn at random",
    REPORTED: "what people reported on the page, who mostly report mistakes: a lower bound, no estimate",
}
MISTAKES = 20


@dataclass(frozen=True)
class Told:
    """One answer and what it should have been. kind: sampled or reported. day: YYYY-MM-DD. answer: a class, or
    ABSTAINED, or NO_DIGIT."""

    kind: str
    version: str
    day: str
    answer: str
    truth: str

    @property
    def right(self) -> bool:
        """Whether the answer was what people say."""
        return self.answer == self.truth

    @property
    def answered(self) -> bool:
        """Whether it was a class at all."""
        return self.answer not in (ABSTAINED, NO_DIGIT)


def measure(told: Sequence[Told]) -> dict[str, Any]:
    """Ready for JSON: of each kind accuracy in all, by version, by version and day, and what was taken for what."""
    return {kind: _of_kind([each for each in told if each.kind == kind]) for kind in MEANING}


def _of_kind(told: Sequence[Told]) -> dict[str, Any]:
    versions = sorted({each.version for each in told})
    by_version = {name: [each for each in told if each.version == name] for name in versions}
    mistakes = Counter((each.truth, each.answer) for each in told if each.answered and not each.right)
    return {
        **_accuracy(told),
        "by_version": {name: _accuracy(each) for name, each in by_version.items()},
        "by_day": {name: _by_day(each) for name, each in by_version.items()},
        "mistakes": [{"truth": t, "answer": a, "count": n} for (t, a), n in mistakes.most_common(MISTAKES)],
    }


def _by_day(told: Sequence[Told]) -> dict[str, dict[str, Any]]:
    days = sorted({each.day for each in told})
    return {day: _accuracy([each for each in told if each.day == day]) for day in days}


def _accuracy(told: Sequence[Told]) -> dict[str, Any]:
    """Of the answers, with the 95 % interval of Wilson; without accuracy where none was given."""
    answered = [each for each in told if each.answered]
    counted = Counter(each.answer for each in told)
    found = {"labelled": len(told), "abstained": counted[ABSTAINED], "no_digit": counted[NO_DIGIT]}
    if not answered:
        return {**found, "answered": 0}
    right = sum(each.right for each in answered)
    low, high = wilson_interval(right, len(answered))
    shares = {"accuracy": right / len(answered), "low": low, "high": high}
    return {**found, "answered": len(answered), "right": right, **shares}


def picture(measured: Mapping[str, Any]) -> bytes:
    """Accuracy over days with intervals, a line a version: of the sampled labels, or else of those reported."""
    kind = SAMPLED if measured[SAMPLED]["answered"] else REPORTED
    by_day = _with_answers(measured[kind]["by_day"])
    if not by_day:
        return message("nobody has said yet what an answer should have been")
    days = sorted({day for each in by_day.values() for day in each})
    figure, axes = panel(7.5, 3.4)
    looks = looks_of(by_day)
    for number, (version, each) in enumerate(by_day.items()):
        at = [days.index(day) + (number - (len(by_day) - 1) / 2) * 0.12 for day in each]
        color, marker, line = looks[version]
        shares = [one["accuracy"] for one in each.values()]
        off = [[s - one["low"] for s, one in zip(shares, each.values(), strict=True)]]
        off.append([one["high"] - s for s, one in zip(shares, each.values(), strict=True)])
        (name,) = labels([version], 46)
        axes.errorbar(at, shares, yerr=off, color=color, marker=marker, ls=line, capsize=3, ms=5, label=name)
    _finish(axes, days, _counts(days, by_day.values()))
    axes.set_ylabel(f"right among {kind}")
    lowest = min(one["low"] for each in by_day.values() for one in each.values())
    axes.set_ylim(max(-0.03, lowest - (1 - lowest) * 0.2 - 0.001), min(1.03, 1 + (1 - lowest) * 0.1 + 0.001))
    figure.legend(loc="outside upper left", frameon=False, fontsize=8)
    return png(figure)


def _with_answers(by_day: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Versions and days of which there is an accuracy."""
    found = {name: {day: one for day, one in each.items() if one["answered"]} for name, each in by_day.items()}
    return {name: each for name, each in found.items() if each}


def _counts(days: Sequence[str], by_day: Iterable[Mapping[str, Any]]) -> list[str]:
    """Under each day how many answers were spoken of: an interval alone does not tell."""
    every = list(by_day)
    return [f"{day[5:]}\n{sum(each[day]['answered'] for each in every if day in each):,}" for day in days]


def _finish(axes: Any, days: Sequence[str], ticks: Sequence[str]) -> None:
    step = max(1, len(days) // 12)
    axes.set_xticks(range(0, len(days), step), ticks[::step], fontsize=8)
    axes.set_xlim(-0.5, len(days) - 0.5)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("day (UTC), and how many answers people spoke of", color=GREY, fontsize=8)
    axes.grid(axis="y", color="#e5e5e5")
