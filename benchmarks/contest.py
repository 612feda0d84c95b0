"""How a contest between champion and challenger ends with real models and a real service; and rollback end to end.

Rollback: people correct the promoted version; from the last of their records on, until the service answers with the
predecessor, while Dagster's daemon runs everything that it runs. Simulated contests are in `simulated_contests.py`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.common import Row, mnist, spread
from benchmarks.served import KINDS, Served, two_versions
from benchmarks.servers import Server, daemon, service
from benchmarks.simulated_contests import rows
from mnist_pipeline.assets.contest import decided, looked_at
from mnist_pipeline.contests import contest_in, now, pairs_of
from mnist_pipeline.deciding import Case, Choice, record
from mnist_pipeline.ml.artifacts import load_network, pack
from mnist_pipeline.ml.config import ModelConfig, configure
from mnist_pipeline.ml.contest import UNLIKE, UNSURE
from mnist_pipeline.ml.digits import LabeledImages
from mnist_pipeline.ml.predictor import Predictor
from mnist_pipeline.ml.training import train
from mnist_pipeline.resources import dev_resources
from mnist_pipeline.service.settings import Settings, doors
from mnist_pipeline.storage.locations import shelf_at
from mnist_pipeline.traffic import Traffic

TIMES, ASKED, ENOUGH = 8, 60, 9  # rollbacks; requests before each, and how many corrections of them suffice
MOST, FEW = 300, 2_000  # requests to a challenger; images that one has been trained with
FACTS = ("metrics", "class_names", "preparation", "dataset", "data_version", "code_version", "run_id")


def planted() -> Row:
    """Three bad challengers, each in the shadow of a real service: after how many requests their withdrawal is due."""
    with two_versions() as served, service(served.env) as ours:
        images = mnist()["test"]
        bad = {"mixed up": _mixed_up(served), "first layer blurred": _blurred(served), "undertrained": _hardly(served)}
        late = {name: _asked_until_withdrawn(served, ours, images, version) for name, version in bad.items()}
        right = {name: _right(served, version, images) for name, version in bad.items()}
    return Row(
        "contest: a bad challenger over a real service is withdrawn after",
        "; ".join(f"{name} ({right[name]:.0%} right): {after} requests" for name, after in late.items()),
        "–",
        "–",
        "≤ 200",
        max(late.values()) <= 200,
    )


def _asked_until_withdrawn(served: Served, ours: Server, images: LabeledImages, version: str) -> int:
    """Its withdrawal is recorded."""
    record(Case.after(served.store, served.store.current()), Choice("challenge", version, "benchmark"))
    _wait(lambda: _competes(ours) == version)
    contest = contest_in(served.store)
    assert contest
    for image in images.images[:MOST]:
        ours.ask("POST", "/predict", image.tobytes(), KINDS["raw"])
    read, rules = _traffic(served), dev_resources(served.env)["judging"].of_contests()
    _wait(lambda: len(pairs_of(contest, read, now()).unlike) >= MOST * 0.99)  # drawn twice, an image counts once
    pairs, finding = looked_at(served.store, contest, read, now(), **rules)
    decided(served.store, contest, pairs, finding, "")
    assert finding.act == "withdraw", finding.sentence
    return min(each.answered_after or MOST for each in finding.tests if each.name in (UNLIKE, UNSURE))


def _right(served: Served, version: str, images: LabeledImages) -> float:
    predicted = Predictor.load(served.store.load(version)).predict(images.images)
    return float((predicted.labels == images.labels).mean())


def rollback() -> Row:
    """Seconds from the correction that suffices, as people have made it, to the first answer by the predecessor."""
    with two_versions() as served, service(served.env) as ours, daemon(served.env):
        good, bad = served.versions[0], _mixed_up(served)
        spent = [_rolled_back(served, ours, good, bad, attempt) for attempt in range(TIMES)]
    said = f"{spread(spent, 2, ' s')}, at most {max(spent):.2f} s"
    return Row(
        "rollback: last correction → predecessor answers, by the daemon", said, "–", "–", "≤ 5 s", max(spent) <= 5
    )


def _mixed_up(served: Served) -> str:
    """A version that takes every digit for the next one."""
    import torch

    def rolled(network: Any) -> None:
        last = next(each for each in reversed(list(network.modules())) if isinstance(each, torch.nn.Linear))
        for each in (last.weight, last.bias):
            each.copy_(torch.roll(each, 1, 0))

    return _changed(served, "mixed-up", rolled)


def _blurred(served: Served) -> str:
    """A version whose first filters are averaged over their neighbours."""
    import torch

    def blurred(network: Any) -> None:
        first = next(each for each in network.modules() if isinstance(each, torch.nn.Conv2d))
        first.weight.copy_(torch.nn.functional.avg_pool2d(first.weight, 3, 1, 1))

    return _changed(served, "blurred", blurred)


def _hardly(served: Served) -> str:
    """A version that has seen few images, once."""
    data = mnist()
    config = configure("fast", epochs=1, min_steps=0)
    few = data["train"].take(np.arange(FEW))
    network = train(few, data["validation"], len(data.origin.class_names), config).network
    return _added(served, "undertrained", network, config.model_dump())


def _changed(served: Served, label: str, change: Callable[[Any], None]) -> str:
    import torch

    good = served.store.card(served.versions[0])
    network = load_network(served.store.load(good.name), ModelConfig(**good.config), len(good.class_names))
    with torch.no_grad():
        change(network)
    return _added(served, label, network, good.config)


def _added(served: Served, label: str, network: Any, config: Mapping[str, Any]) -> str:
    good = served.store.card(served.versions[0])
    same = {name: getattr(good, name) for name in FACTS}
    files = pack(network, mnist()["validation"].images)
    return served.store.add_version(files, **{**same, "label": label, "config": dict(config)}).name


def _rolled_back(served: Served, ours: Server, good: str, bad: str, attempt: int) -> float:
    """At some moment between two ticks of the sensor, as people do not know of them."""
    for strategy in ("challenge", "promotion"):
        case = Case.after(served.store, served.store.current())
        record(case, Choice(strategy, bad, "benchmark"))
    _wait(lambda: _answer(ours, served, 0)["model_version"] == bad and _competes(ours) == good)
    _asked(served, ours, attempt)
    newest = served.store.current()
    assert newest
    _wait(lambda: _reported(served, newest.number), 120)
    for i in range(ENOUGH - 1):
        _corrected(served, ours, attempt, i)
    time.sleep(5 + 5 * float(np.random.default_rng(attempt).random()))
    assert _answer(ours, served, 0)["model_version"] == bad
    _corrected(served, ours, attempt, ENOUGH - 1)
    begun = time.perf_counter()
    _wait(lambda: _answer(ours, served, 0)["model_version"] == good)
    return time.perf_counter() - begun


def _reported(served: Served, decision: int) -> bool:
    """Whether a run has told of the contest since that decision."""
    report = served.state / "assets" / "ab_report.json"
    return report.exists() and json.loads(report.read_text()).get("since_decision") == decision


def _asked(served: Served, ours: Server, attempt: int) -> None:
    """Until all is in the log."""
    for i in range(ASKED):
        _answer(ours, served, i, f"{attempt}-{i}")
    contest, read = contest_in(served.store), _traffic(served)
    assert contest
    _wait(lambda: len(pairs_of(contest, read, now()).unlike) >= ASKED)


def _corrected(served: Served, ours: Server, attempt: int, number: int) -> None:
    """People put right what they were told."""
    predecessor = Predictor.load(served.store.load(served.versions[0]))
    pixels = np.frombuffer((served.bodies("raw") / f"{number:03d}").read_bytes(), np.uint8).reshape(1, 28, 28)
    image = base64.b64encode((served.bodies("png") / f"{number:03d}").read_bytes()).decode()
    label = str(predecessor.predict(pixels).labels[0])
    said = {"image": image, "label": label, "request_id": f"{attempt}-{number}"}
    status, told = ours.ask("POST", "/feedback", json.dumps(said).encode(), KINDS["json"])
    assert status < 300, told


def _traffic(served: Served) -> Traffic:
    return Traffic(shelf_at(str(served.state / "prediction_log"), ""), doors(Settings(), served.env).feedback.shelf)


def _answer(ours: Server, served: Served, number: int, request: str = "") -> dict[str, Any]:
    body = (served.bodies("raw") / f"{number:03d}").read_bytes()
    _, answer = ours.ask("POST", "/predict", body, KINDS["raw"], request)
    found: dict[str, Any] = json.loads(answer)
    return found


def _competes(ours: Server) -> str:
    rival = json.loads(ours.ask("GET", "/model")[1])["challenger"]
    return str(rival and rival["version"])


def _wait(look: Callable[[], bool], seconds: float = 30) -> None:
    """Raises TimeoutError."""
    until = time.perf_counter() + seconds
    while not look():
        if time.perf_counter() > until:
            raise TimeoutError(f"it did not happen within {seconds:.0f} s")
        time.sleep(0.02)


def run() -> list[Row]:
    """Simulated, then real."""
    return [*rows(), planted(), rollback()]
