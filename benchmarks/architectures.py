"""Test accuracy, training time and latency of every architecture but DigitCNN, on the full MNIST, over three seeds.

Half an hour on two cores; python -m benchmarks.architectures resnet forest 1 takes some, and so many seeds.
"""

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.common import Row, mnist, spread
from mnist_pipeline.ml.artifacts import to_onnx
from mnist_pipeline.ml.config import CLASSICAL, Architecture, rival
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.ml.leaderboard import Speed, speed_of
from mnist_pipeline.ml.learning import learn
from mnist_pipeline.ml.predictor import Predictor

SEEDS = 3
RIVALS: tuple[Architecture, ...] = ("resnet", "vit", *CLASSICAL)
BARS = {"resnet": 0.996}


@dataclass(frozen=True)
class Measured:
    """One training: share right on the test part, its seconds, bytes of the graph and the seconds to make that."""

    accuracy: float
    seconds: float
    bytes: int
    graph_seconds: float
    speed: Speed


def measure(data: DigitData, architecture: Architecture, seed: int) -> Measured:
    """As digit_classifier trains it, and as the predictor answers."""
    trained = learn(data["train"], data["validation"], 10, rival(architecture, seed=seed))
    begun = time.perf_counter()
    graph = to_onnx(trained.network)
    graph_seconds = time.perf_counter() - begun
    predictor, test = Predictor(graph, threads=1), data["test"]
    right = predictor.predict(test.images).labels == test.labels
    speed = speed_of(predictor, test.images)
    return Measured(float(np.mean(right)), trained.history[-1].seconds, len(graph), graph_seconds, speed)


def row(architecture: Architecture, found: Sequence[Measured]) -> Row:
    """What came of all seeds."""
    size, graph = found[0].bytes / 1e6, statistics.mean(each.graph_seconds for each in found)
    speeds = [each.speed for each in found]
    latency = statistics.median(each.latency_ms for each in speeds)
    rate = statistics.median(each.images_per_second for each in speeds)
    bar = BARS.get(architecture)
    return Row(
        f"`{architecture}`, test accuracy",
        spread([100 * each.accuracy for each in found], 2, " %"),
        "–",
        f"{spread([each.seconds for each in found], 0, ' s')}, graph {size:,.1f} MB in {graph:,.0f} s, one image "
        f"{latency:.2f} ms, {rate:,.0f} images/s on one thread",
        f"≥ {bar:.1%}" if bar else "none",
        bar is None or statistics.mean(each.accuracy for each in found) >= bar,
    )


def run(architectures: Sequence[Architecture] = RIVALS, seeds: int = SEEDS) -> list[Row]:
    """A row an architecture."""
    data = mnist()
    return [row(each, [measure(data, each, seed) for seed in range(seeds)]) for each in architectures]


if __name__ == "__main__":
    names = [name for name in RIVALS if name in sys.argv] or list(RIVALS)
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    for line in run(names, *numbers[:1]):
        print(line.line(), flush=True)
