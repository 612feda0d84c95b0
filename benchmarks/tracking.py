"""What MLflow costs a run: the whole graph by CLI without it, with its local store, a dead and a hanging server."""

import socket
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.common import Row, spread
from benchmarks.pipeline import materialize_all

TIMES = 3
WITHOUT = "no MLflow"


@contextmanager
def places() -> Iterator[dict[str, dict[str, str]]]:
    """What to call it -> the environment. The hanging server takes connections and never says a word."""
    with socket.socket() as dead, socket.create_server(("127.0.0.1", 0), backlog=100) as hanging:
        dead.bind(("127.0.0.1", 0))
        yield {
            WITHOUT: {"MLFLOW_TRACKING_URI": "none"},
            "its local store": {},
            "a server that is down": {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{dead.getsockname()[1]}"},
            "a server that never answers": {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{hanging.getsockname()[1]}"},
        }


def run() -> list[Row]:
    """A row for each place. They are timed in turns, because the machine is shared."""
    with places() as all_places:
        spent: dict[str, list[float]] = {name: [] for name in all_places}
        for _ in range(TIMES):
            for name, place in all_places.items():
                spent[name].append(materialize_all({"MNIST_DATASET": "embedded", **place})[0])
    plain = spent.pop(WITHOUT)
    return [_row(name, seconds, plain) for name, seconds in spent.items()]


def _row(name: str, seconds: list[float], plain: list[float]) -> Row:
    more = statistics.mean(seconds) - statistics.mean(plain)
    return Row(
        f"whole graph, embedded, experiments to {name}",
        spread(seconds, 1, " s"),
        spread(plain, 1, f" s ({WITHOUT})"),
        f"{more:+.1f} s",
        "≤ 5 s more",
        more <= 5,
    )
