"""How a contest between champion and challenger ends, and how soon; and rollback end to end, with a real service.

Simulated, at the rules' defaults: each contest is looked at after every answer. Rollback: people have corrected the
promoted version; from the last of their records on, until the service answers with the predecessor.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import numpy as np

from benchmarks.common import Row, mnist, spread
from benchmarks.served import KINDS, Served, two_versions
from benchmarks.servers import Server, service
from mnist_pipeline.contests import contest_in, now, pairs_of
from mnist_pipeline.deciding import Case, Choice, record
from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.ml.artifacts import load_network, pack
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.contest import Pairs, Rules, judged
from mnist_pipeline.service.settings import Settings, doors
from mnist_pipeline.storage.locations import shelf_at
from mnist_pipeline.traffic import Traffic

CONTESTS, ANSWERS, TIMES, ASKED = 200, 3_000, 3, 60
FACTS = ("metrics", "class_names", "preparation", "dataset", "data_version", "code_version", "run_id")
ERRORS = 0.02  # of the champion
LABELLED = 0.5  # share of the champion's errors that people correct


def contest(rng: np.random.Generator, errors: float, surer: float, answers: int = ANSWERS) -> Pairs:
    """A challenger in the shadow with so many errors, half of those of the better one in common."""
    shared = min(errors, ERRORS) / 2
    hard = rng.random(answers) < shared
    champion = hard | (rng.random(answers) < (ERRORS - shared) / (1 - shared))
    challenger = hard | (rng.random(answers) < (errors - shared) / (1 - shared))
    unlike = champion != challenger
    said = champion & (rng.random(answers) < LABELLED)
    wins = (said & ~challenger)[unlike]
    confidence = np.clip(surer + rng.normal(0, 0.05, answers) - 0.3 * (challenger & ~champion), -1, 1)
    return Pairs(unlike, confidence, wins, np.zeros(0, bool), int(said.sum()))


def simulated() -> list[Row]:
    """Three rows: false promotions, bad challengers, and good ones."""
    ends = {
        "equal": _ends(ERRORS, 0.0),
        "worse by a point": _ends(ERRORS + 0.01, 0.0),
        "worse by 8 points": _ends(ERRORS + 0.08, -0.05),
        "wrong on every fourth": _ends(0.25, -0.1),
        "guessing": _ends(0.9, -0.3),
        "good, and passed by the gate": _ends(ERRORS / 2, 0.0, gate=True),
    }
    wrongly = {name: _share(ends[name], "promotion") for name in ("equal", "worse by a point", "worse by 8 points")}
    late = {name: _after(ends[name], "withdraw") for name in ("worse by 8 points", "wrong on every fourth", "guessing")}
    bad = max(max(each) for name, each in late.items() if name != "worse by 8 points")
    good = ends["good, and passed by the gate"]
    kept = f"{_share(ends['equal'], 'withdraw'):.1%} of equal ones withdrawn"
    return [
        Row(
            f"contest: promoted by people's corrections, {CONTESTS} contests of {ANSWERS:,} answers",
            "; ".join(f"{name} {share:.1%}" for name, share in wrongly.items()) + f"; {kept}",
            "–",
            "–",
            "≤ 5 %",
            max(wrongly.values()) <= 0.05 and _share(ends["equal"], "withdraw") <= 0.05,
        ),
        Row(
            "contest: a bad challenger is withdrawn after",
            "; ".join(f"{name}: {np.median(each):.0f} answers, at most {max(each):.0f}" for name, each in late.items()),
            "–",
            "–",
            "≤ 200 (wrong on every fourth, guessing)",
            bad <= 200,
        ),
        Row(
            "contest: a good one is promoted after",
            f"{np.median(_after(good, 'promotion')):.0f} answers, {_share(good, 'promotion'):.0%} of them",
            "–",
            "–",
            "≥ 80 %",
            _share(good, "promotion") >= 0.8,
        ),
    ]


def _ends(errors: float, surer: float, *, gate: bool = False) -> list[tuple[str, float]]:
    """How each of CONTESTS ended, and after how many answers at the latest."""
    rng, rules = np.random.default_rng([int(errors * 1e4), int(-surer * 1e4)]), Rules(gate=gate)
    found: list[tuple[str, float]] = []
    for _ in range(CONTESTS):
        finding = judged(contest(rng, errors, surer), rules)
        first = [each.answered_after for each in finding.tests[:3] if each.answered_after]
        both = [each.answered_after or ANSWERS for each in finding.tests[4:]]
        after = min(first) if finding.act == "withdraw" else max(both)
        found.append((finding.act, float(after)))
    return found


def _share(ends: list[tuple[str, float]], act: str) -> float:
    return float(np.mean([each == act for each, _ in ends]))


def _after(ends: list[tuple[str, float]], act: str) -> list[float]:
    """Those that did not end so count as never."""
    return [after if each == act else float("inf") for each, after in ends]


def rollback() -> Row:
    """Seconds from the last correction in the log to the first answer by the predecessor."""
    with two_versions() as served, service(served.env) as ours:
        good, bad = served.versions[0], _mixed_up(served)
        spent = [_rolled_back(served, ours, good, bad, attempt) for attempt in range(TIMES)]
    said = f"{spread(spent, 2, ' s')}, at most {max(spent):.2f} s"
    return Row("rollback: evidence in the log → predecessor answers", said, "–", "–", "≤ 5 s", max(spent) <= 5)


def _mixed_up(served: Served) -> str:
    """A version that takes every digit for the next one."""
    import torch

    store, good = served.store, served.store.card(served.versions[0])
    network = load_network(store.load(good.name), ModelConfig(**good.config), len(good.class_names))
    last = next(each for each in reversed(list(network.modules())) if isinstance(each, torch.nn.Linear))
    with torch.no_grad():
        for each in (last.weight, last.bias):
            each.copy_(torch.roll(each, 1, 0))
    same = {name: getattr(good, name) for name in FACTS}
    images = mnist()["validation"].images
    return store.add_version(pack(network, images), **{**same, "label": "mixed-up", "config": good.config}).name


def _rolled_back(served: Served, ours: Server, good: str, bad: str, attempt: int) -> float:
    definitions = build_definitions({**served.env, "MLFLOW_TRACKING_URI": "none"})
    job, instance = definitions.resolve_job_def("contest"), dg.DagsterInstance.ephemeral()
    for strategy in ("challenge", "promotion"):
        case = Case.after(served.store, served.store.current())
        record(case, Choice(strategy, bad, "benchmark"))
    _wait(lambda: _answer(ours, served, 0)["model_version"] == bad and _competes(ours) == good)
    _corrected(served, ours, attempt)
    begun = time.perf_counter()
    assert job.execute_in_process(instance=instance, run_config={"loggers": {"brief": {}}}).success
    _wait(lambda: _answer(ours, served, 0)["model_version"] == good)
    return time.perf_counter() - begun


def _corrected(served: Served, ours: Server, attempt: int) -> None:
    """People ask, and put right what they are told; until all of that is in the log."""
    for i in range(ASKED):
        answer = _answer(ours, served, i, f"{attempt}-{i}")
        image = base64.b64encode((served.bodies("png") / f"{i:03d}").read_bytes()).decode()
        truth = str((int(answer["label"]) - 1) % 10)
        said = {"image": image, "label": truth, "request_id": f"{attempt}-{i}"}
        status, told = ours.ask("POST", "/feedback", json.dumps(said).encode(), KINDS["json"])
        assert status < 300, told
    contest, traffic = contest_in(served.store), doors(Settings(), served.env)
    assert contest
    read = Traffic(shelf_at(str(served.state / "prediction_log"), ""), traffic.feedback.shelf)
    _wait(lambda: len(pairs_of(contest, read, now()).unlike) >= ASKED)


def _answer(ours: Server, served: Served, number: int, request: str = "") -> dict[str, Any]:
    body = (served.bodies("raw") / f"{number:03d}").read_bytes()
    _, answer = ours.ask("POST", "/predict", body, KINDS["raw"], request)
    found: dict[str, Any] = json.loads(answer)
    return found


def _competes(ours: Server) -> str:
    rival = json.loads(ours.ask("GET", "/model")[1])["challenger"]
    return str(rival and rival["version"])


def _wait(look: Callable[[], bool]) -> None:
    """Raises TimeoutError."""
    until = time.perf_counter() + 30
    while not look():
        if time.perf_counter() > until:
            raise TimeoutError("it did not happen within 30 s")
        time.sleep(0.02)


def run() -> list[Row]:
    """Four rows."""
    return [*simulated(), rollback()]
