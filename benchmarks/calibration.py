"""Whether confidence is honest after scaling, sets hold the truth as often as asked, and what corruptions cost: on the
real MNIST, a few seeds of the preset `fast` and one of `accurate`. SEEDS=1 and PRESETS=fast make it shorter.
"""

import os
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.common import Row, mnist, spread
from mnist_pipeline.ml.artifacts import version_files
from mnist_pipeline.ml.config import configure
from mnist_pipeline.ml.conformal import conform
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.predictor import Predictor
from mnist_pipeline.ml.report import measure
from mnist_pipeline.ml.training import train

SEEDS = {"fast": int(os.environ.get("SEEDS", 3)), "accurate": 1}
PRESETS = os.environ.get("PRESETS", "fast accurate").split()
COVERAGES = (0.9, 0.95, 0.99)
USEFUL = (0.99, 0.995, 0.999)


@dataclass(frozen=True)
class Measured:
    """One trained version. sets: coverage that was asked for -> what `PredictionSets.measured` tells of the test part,
    with the accuracy where there is one answer; seconds: of the report."""

    temperature: float
    report: dict[str, Any]
    sets: dict[float, dict[str, float]]
    seconds: float


def measured(data: DigitData, preset: str, seed: int) -> Measured:
    """Train, fit, evaluate."""
    trained = train(data["train"], data["validation"], 10, configure(preset, seed=seed))  # type: ignore[arg-type]
    predictor = Predictor.load(version_files(trained, data["validation"]))
    temperature = round(float(trained.network.temperature), 4)
    begun = time.perf_counter()
    report = measure(predictor, data, (), temperature)
    spent = time.perf_counter() - begun
    known, new = (predictor.predict(data[part].images).probabilities for part in ("validation", "test"))
    sets = {}
    for coverage in (*COVERAGES, *USEFUL):
        each = conform(known, data["validation"].labels, coverage)
        alone = each.among(new).sum(1) == 1
        right = new.argmax(1) == data["test"].labels
        sets[coverage] = {**each.measured(data["test"].labels, new), "accuracy_alone": float(right[alone].mean())}
    return Measured(temperature, report, sets, spent)


def run() -> list[Row]:
    """Two rows a preset; the coverage table and the corruption card go to stderr."""
    data = mnist()
    return [row for preset in PRESETS for row in _rows(preset, data)]


def _rows(preset: str, data: DigitData) -> list[Row]:
    each = [measured(data, preset, seed) for seed in range(SEEDS[preset])]
    _tell(preset, each)
    before, after = (
        [one.report["test"][name] for one in each] for name in ("calibration_error_before", "calibration_error")
    )
    gaps = [abs(one.sets[asked]["coverage"] - asked) for one in each for asked in COVERAGES]
    told, shown = (
        ", ".join(f"{100 * statistics.mean(one.sets[asked][name] for one in each):.2f} %" for asked in COVERAGES)
        for name in ("coverage", "coverage_shown")
    )
    return [
        Row(
            f"calibration error, `{preset}`",
            f"{spread(after, 4)} (temperature {spread([one.temperature for one in each], 2)})",
            f"{spread(before, 4)} before scaling",
            f"{statistics.mean(before) / statistics.mean(after):.0f}×",
            "≤ 0.01",
            max(after) <= 0.01,
        ),
        Row(
            f"coverage of sets on test, calibrated on validation, `{preset}`, asked 90, 95, 99 %",
            f"{told} (as given, never empty: {shown})",
            "–",
            f"off by at most {100 * max(gaps):.2f} points",
            "≤ 1 point",
            round(max(gaps), 6) <= 0.01,  # of whole images: 0.9 - 0.89 is above 0.01 in floating point
        ),
    ]


def _tell(preset: str, each: list[Measured]) -> None:
    """What is not a bar."""

    def mean(values: list[float]) -> str:
        return f"{100 * statistics.mean(values):.1f} %"

    say = [f"{preset}: report in {spread([one.seconds for one in each], 1, ' s')}"]
    say += [
        f"  asked {asked:.1%}: shown sets cover {mean([one.sets[asked]['coverage_shown'] for one in each])}, of one "
        f"class {mean([one.sets[asked]['singletons'] for one in each])}, these right "
        f"{100 * statistics.mean(one.sets[asked]['accuracy_alone'] for one in each):.2f} %"
        for asked in USEFUL
    ]
    cards = [one.report["corruptions"]["accuracy"] for one in each]
    say += [f"| {preset} | as it is | 1 | 2 | 3 | 4 |", "|---|---|---|---|---|---|"]
    say += [
        f"| {name} | {' | '.join(mean([card[name][i] for card in cards]) for i in range(5))} |" for name in cards[0]
    ]
    print("\n".join(say), file=sys.stderr)
