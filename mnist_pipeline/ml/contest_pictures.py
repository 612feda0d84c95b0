"""The evidence of a contest as a picture: how it grew, answer by answer, and where it would have sufficed."""

from collections.abc import Sequence

import numpy as np

from mnist_pipeline.ml.drawing import PALE, looks_of, message, panel, png
from mnist_pipeline.ml.sequential import Test

FLOOR = (
    -3.0
)  # powers of ten: what speaks strongly against a question is drawn at the bottom, and strongly for it on top
MOST = 2_000  # points of a line


def evidence_over_answers(tests: Sequence[Test]) -> bytes:
    """A line a test, in powers of ten; the dashed line of its colour is where its question is answered."""
    looks = looks_of(test.name for test in tests)
    seen = [(test, looks[test.name]) for test in tests if len(test.path)]
    if not seen:
        return message("nobody has asked anything yet that both have answered")
    top = max([3.0, *(test.threshold / np.log(10) + 1 for test, _ in seen)])
    figure, axes = panel(8.5, 4.2)
    for test, (color, marker, style) in seen:
        every = np.unique(np.linspace(0, len(test.path) - 1, MOST).astype(int))
        height = np.clip(test.path[every] / np.log(10), FLOOR, top)
        axes.plot(every + 1, height, color=color, ls=style, label=test.name)
        axes.plot(every[-1] + 1, height[-1], marker, color=color, ms=5)
        axes.axhline(test.threshold / np.log(10), color=color, ls=(0, (2, 3)), lw=1)
    axes.axhline(0, color=PALE, lw=1, zorder=0)
    axes.set_ylim(FLOOR - 0.2, top + 0.2)
    axes.set_yticks(range(int(FLOOR), int(top) + 1), [_power(at) for at in range(int(FLOOR), int(top) + 1)])
    axes.set_xlim(0, None)
    axes.locator_params("x", integer=True)
    axes.set_xlabel("answers that the question is about")
    axes.set_ylabel("evidence (e-value)")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return png(figure)


def _power(of_ten: int) -> str:
    return f"{10**of_ten:,}" if of_ten >= 0 else f"1/{10**-of_ten:,}"
