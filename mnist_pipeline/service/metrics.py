"""What the service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mnist_pipeline.service.batching import Batcher
from mnist_pipeline.service.prediction_log import NoLog, PredictionLog
from mnist_pipeline.service.roster import Roster

BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
NO_DIGIT = "none"


class Metrics:
    """Counters of one application. What is known anyway is looked up when it is asked for, not counted twice."""

    def __init__(self, roster: Roster, batcher: Batcher, log: PredictionLog | NoLog) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "mnist_requests", "Requests by path and status", ["path", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "mnist_request_seconds", "From headers to answer", ["path"], buckets=BUCKETS, registry=self._registry
        )
        self.predictions = Counter(
            "mnist_predictions",
            "Images answered, by who answered and with what",
            ["role", "label"],
            registry=self._registry,
        )
        self.abstentions = Counter(
            "mnist_abstentions",
            "Of them, those that got no label since several were possible",
            ["role"],
            registry=self._registry,
        )
        self.shadow_dropped = Counter(
            "mnist_shadow_dropped", "Images that the challenger had no time for", registry=self._registry
        )
        self._registry.register(_Standing(roster, batcher, log))
        self._children: dict[tuple[Counter | Histogram | str, ...], Counter | Histogram] = {}

    def page(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """One request."""
        self._child(self.requests, path, str(status)).inc()  # type: ignore[union-attr]
        self._child(self.seconds, path).observe(seconds)  # type: ignore[union-attr]

    def predicted(self, role: str, label: str | None) -> None:
        """One image."""
        self._child(self.predictions, role, label or NO_DIGIT).inc()  # type: ignore[union-attr]

    def abstained(self, role: str, images: int) -> None:
        """That many images of one request."""
        self._child(self.abstentions, role).inc(images)  # type: ignore[union-attr]

    def _child(self, metric: Counter | Histogram, *labels: str) -> Counter | Histogram:
        """`labels()` takes a lock and twice the time of counting."""
        key = (metric, *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found


class _Standing:
    """What is known at the moment of asking."""

    def __init__(self, roster: Roster, batcher: Batcher, log: PredictionLog | NoLog) -> None:
        self._roster, self._batcher, self._log = roster, batcher, log

    def collect(self) -> Iterator[Metric]:
        standing = self._roster.standing
        who = GaugeMetricFamily("mnist_model", "The decision that a model serves by", labels=["role", "version"])
        for serving in (standing.champion, standing.challenger):
            if serving:
                who.add_metric([serving.role, serving.card.name], serving.decision)
        yield who
        refused = sum(each is not None for each in (standing.refused, standing.refused_challenger))
        yield GaugeMetricFamily("mnist_models_refused", "Decided on, and not served", value=refused)
        yield GaugeMetricFamily("mnist_store_reached", "Whether the ledger can be read", value=self._roster.reached)
        yield CounterMetricFamily("mnist_runs", "Runs of the network for small requests", value=self._batcher.runs)
        yield CounterMetricFamily("mnist_run_images", "Images in them", value=self._batcher.images)
        yield CounterMetricFamily("mnist_log_dropped", "Predictions that are not in the log", value=self._log.dropped)
