"""Which models serve: the newest decision within seconds, never one that is damaged, and never none without need."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pipelines import Pipeline, flip_a_bit
from processes import wait
from served import RAW, deploy, served
from starlette.testclient import TestClient

from mnist_pipeline.alerts.doors import AlertsUndelivered
from mnist_pipeline.alerts.kinds import Alert
from mnist_pipeline.deciding import Case, Choice, by_hand, record
from mnist_pipeline.service import roster, telling
from mnist_pipeline.service.roster import Roster


@dataclass
class Told:
    """An alerter that keeps what it is given; away: for how many sendings it is not there."""

    alerts: list[Alert] = field(default_factory=list)
    away: int = 0

    def send(self, alerts: Sequence[Alert]) -> None:
        if self.away:
            self.away -= 1
            raise AlertsUndelivered("Slack is away")
        self.alerts += alerts


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused, or did not get out, is tried again at once."""
    monkeypatch.setattr(roster, "AGAIN_S", 0.3)
    monkeypatch.setattr(telling, "AGAIN_S", 0.1)


@pytest.fixture
def other(pipeline: Pipeline) -> str:
    """A second version that is whole."""
    return pipeline.variant(lambda network: network.classifier.bias.add_(0.1))


def says(client: TestClient, version: str, decision: int) -> bool:
    answer = client.post("/predict", content=bytes(784), headers=RAW).json()
    return (answer["model_version"], answer["decision"]) == (version, decision)


def test_a_new_decision_serves_without_a_restart_and_a_rollback_too(pipeline: Pipeline, other: str) -> None:
    first = str(pipeline.store.production())
    with served(pipeline.state, log=False) as client:
        assert says(client, first, 1)
        deploy(pipeline.store, other)
        wait("the new one", lambda: says(client, other, 2), 5, every=0.05)
        deploy(pipeline.store, first, strategy="rollback")
        wait("the old one", lambda: says(client, first, 3), 5, every=0.05)


def test_a_decision_to_keep_is_followed_without_loading_anything(pipeline: Pipeline) -> None:
    first = str(pipeline.store.production())
    looked = Roster(pipeline.store, Told())
    looked.look()
    predictor = looked.standing.champion and looked.standing.champion.predictor
    deploy(pipeline.store, first, outcome="kept", candidate="worse")
    looked.look()
    assert looked.standing.champion
    assert looked.standing.champion.decision == 2
    assert looked.standing.champion.predictor is predictor


@pytest.mark.parametrize("file", ["model.onnx", "golden.safetensors", "card.json"])
def test_a_damaged_version_is_refused_the_old_one_serves_on_and_people_are_told(
    pipeline: Pipeline, other: str, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, told = str(pipeline.store.production()), Told(away=1)
    path = pipeline.state / "models" / "versions" / other / file
    with served(pipeline.state, told, log=False) as client:
        deploy(pipeline.store, other)
        whole = path.read_bytes()
        flip_a_bit(path)
        refused = wait("a refusal", lambda: client.get("/v2/health/ready").json()["refused"], 5, every=0.05)
        assert (refused["decision"], refused["version"]) == (2, other)
        assert file in refused["reason"]
        assert str(pipeline.state) not in str(refused)
        assert says(client, first, 1)
        assert client.get("/model").json()["refused"] == refused
        assert "mnist_models_refused 1.0" in client.get("/metrics").text
        wait("an alert, though Slack was away", lambda: told.alerts, 5, every=0.05)
        path.write_bytes(whole)  # restored from a backup
        wait("the new one", lambda: says(client, other, 2), 5, every=0.05)
        assert client.get("/v2/health/ready").json()["refused"] is None
    assert [each.kind for each in told.alerts] == ["not_served"]
    assert first in told.alerts[0].cause


def test_a_model_that_answers_otherwise_than_when_it_was_stored_is_refused(pipeline: Pipeline) -> None:
    from safetensors.numpy import load, save

    from mnist_pipeline.ml.predictor import GOLDEN

    store = pipeline.store
    card = store.card(str(store.production()))
    files = store.load(card.name)
    golden = load(files[GOLDEN])
    lied = store.add_version(
        {**files, GOLDEN: save({**golden, "logits": golden["logits"] + 1})},
        label="lied",
        **{name: getattr(card, name) for name in ("metrics", "config", "class_names", "preparation", "dataset")},
        data_version="d",
        code_version="c",
        run_id="r",
    )
    with served(pipeline.state, Told(), log=False) as client:
        deploy(store, lied.name)
        refused = wait("a refusal", lambda: client.get("/v2/health/ready").json()["refused"], 5, every=0.05)
        assert "golden inputs" in refused["reason"]
        assert says(client, card.name, 1)


def test_a_damaged_decision_is_told_and_the_next_one_counts(pipeline: Pipeline, other: str) -> None:
    first = str(pipeline.store.production())
    with served(pipeline.state, Told(), log=False) as client:
        (pipeline.state / "models" / "decisions" / "00000002.json").write_text("{}")
        refused = wait("a refusal", lambda: client.get("/v2/health/ready").json()["refused"], 5, every=0.05)
        assert refused["decision"] == 2
        assert says(client, first, 1)
        deploy(pipeline.store, other, past=2)
        wait("the next decision", lambda: says(client, other, 3), 5, every=0.05)


def test_a_store_that_is_away_takes_nothing_away(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = str(pipeline.store.production())
    decisions = pipeline.state / "models" / "decisions"
    monkeypatch.setattr(roster, "WHOLE_LOOK", 2)
    with served(pipeline.state, Told(), log=False) as client, caplog.at_level(logging.INFO, "mnist_pipeline"):
        decisions.rename(decisions.with_name("away"))
        decisions.write_text("a file where the folder was")
        wait("it to notice", lambda: not client.get("/v2/health/ready").json()["store_reached"], 40, every=0.1)
        assert says(client, first, 1)
        decisions.unlink()
        decisions.with_name("away").rename(decisions)
        wait("it to be back", lambda: client.get("/v2/health/ready").json()["store_reached"], 40, every=0.1)
    assert [each.levelname for each in caplog.records if "store" in each.message] == ["ERROR", "INFO"]


def test_a_ledger_that_was_begun_anew_is_followed_but_an_empty_one_takes_nothing_away(
    pipeline: Pipeline, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shutil import rmtree

    monkeypatch.setattr(roster, "WHOLE_LOOK", 2)
    store, first = pipeline.store, str(pipeline.store.production())
    deploy(store, other)
    looked = Roster(store, Told())
    looked.look()
    rmtree(pipeline.state / "models" / "decisions")
    for _ in range(3):
        looked.look()
    assert looked.standing.champion
    assert looked.standing.champion.card.name == other
    assert not looked.reached
    deploy(store, first)
    looked.look()
    assert (looked.standing.champion.card.name, looked.standing.champion.decision) == (first, 1)
    assert looked.reached


def test_looking_asks_for_one_key_and_lists_nothing(pipeline: Pipeline) -> None:
    asked: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> object:
            def call(key: str, *more: object) -> object:
                asked.append(f"{name} {key}")
                return getattr(pipeline.store.blobs, name)(key, *more)

            return call

    from mnist_pipeline.store import ModelStore

    looked = Roster(ModelStore(Counting()), Told())  # type: ignore[arg-type]
    looked.look()
    asked.clear()
    looked.look()
    assert asked == ["read decisions/00000002.json"]


def test_models_in_s3_serve_too(s3_endpoint: str, pipeline: Pipeline, tmp_path: Path) -> None:
    from pipelines import PROD
    from s3_server import new_bucket

    from mnist_pipeline.environment import model_store
    from mnist_pipeline.service.app import build
    from mnist_pipeline.service.settings import Settings, doors

    env = {
        **PROD,
        "MNIST_PIPELINE_ENV": "prod",
        "MNIST_S3_BUCKET": new_bucket(s3_endpoint),
        "S3_ENDPOINT_URL": s3_endpoint,
    }
    env.pop("SLACK_BOT_TOKEN")
    blobs = model_store(env).blobs
    for key in pipeline.store.blobs.list(""):
        blobs.create(key, pipeline.store.blobs.read(key))
    with TestClient(build(Settings(), doors(Settings(), env))) as client:
        assert says(client, str(pipeline.store.production()), 1)
        image = pipeline.digits()["test"].images[0].tobytes()
        assert client.post("/predict", content=image, headers=RAW).status_code == 200
    from mnist_pipeline.environment import places
    from mnist_pipeline.storage.locations import shelf_at

    assert len(shelf_at(places(env)("prediction_log"), s3_endpoint).list("")) == 1


def test_a_challenger_that_has_won_competes_with_itself_no_more(pipeline: Pipeline, other: str) -> None:
    first = str(pipeline.store.production())
    looked = Roster(pipeline.store, Told(), other)
    looked.look()
    assert looked.standing.challenger
    deploy(pipeline.store, other)
    looked.look()
    assert looked.standing.challenger is None
    deploy(pipeline.store, first, strategy="rollback")
    looked.look()
    assert looked.standing.challenger
    assert looked.standing.challenger.decision == 3


def test_a_challenger_of_other_classes_than_the_new_champion_stands_down(pipeline: Pipeline, other: str) -> None:
    store = pipeline.store
    card = store.card(other)
    renamed = [f"class {name}" for name in card.class_names]
    letters = pipeline.variant(lambda network: network.classifier.bias.add_(0.2), class_names=renamed)
    looked = Roster(store, Told(), other)
    looked.look()
    deploy(store, letters)
    looked.look()
    assert looked.standing.challenger is None
    assert looked.standing.refused_challenger
    assert "other classes" in looked.standing.refused_challenger.reason


def test_a_store_that_is_slow_delays_the_start_only_so_long(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "FIRST_S", 0.1)
    answers = threading.Event()

    class Slow(Roster):
        def look(self) -> None:
            answers.wait(20)
            super().look()

    looked = Slow(pipeline.store, Told())
    looked.start()
    assert looked.standing.champion is None
    answers.set()
    wait("the model", lambda: looked.standing.champion, 10, every=0.05)
    looked.stop()


@pytest.mark.parametrize("facts", [{"preparation": "sepia"}, {"class_names": ["no", "yes"]}])
def test_a_card_that_does_not_fit_its_model_is_refused_before_anyone_asks(
    pipeline: Pipeline, facts: dict[str, object]
) -> None:
    first = str(pipeline.store.production())
    odd = pipeline.variant(lambda network: network.classifier.bias.add_(0.2), **facts)
    with served(pipeline.state, Told(), log=False) as client:
        deploy(pipeline.store, odd)
        refused = wait("a refusal", lambda: client.get("/v2/health/ready").json()["refused"], 5, every=0.05)
        assert refused["version"] == odd
        assert says(client, first, 1)


class Hanging:
    """A door that takes as long as it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()

    def send(self, alerts: Sequence[Alert]) -> None:
        self.let.wait(30)


def test_a_slack_that_hangs_delays_no_decision(pipeline: Pipeline, other: str) -> None:
    first, door = str(pipeline.store.production()), Hanging()
    path = pipeline.state / "models" / "versions" / other / "model.onnx"
    with served(pipeline.state, door, log=False) as client:
        flip_a_bit(path)
        (pipeline.state / "models" / "decisions" / "00000002.json").write_text("{}")  # which is told
        wait("a refusal", lambda: client.get("/v2/health/ready").json()["refused"], 5, every=0.05)
        deploy(pipeline.store, first, past=2)
        wait("the next decision", lambda: says(client, first, 3), 5, every=0.05)
        door.let.set()


# --- the challenger of the ledger ---


def contest(pipeline: Pipeline, strategy: Any, version: str = "") -> None:
    case = Case.after(pipeline.store, pipeline.store.current())
    choice = Choice(strategy, version, "a test") if strategy == "promotion" else by_hand(case, strategy, version)
    record(case, choice)


def rival(client: TestClient) -> Any:
    return client.get("/model").json()["challenger"]


def test_the_challenger_of_the_ledger_is_followed_without_a_restart(pipeline: Pipeline, other: str) -> None:
    first = str(pipeline.store.production())
    with served(pipeline.state, log=False, share=1.0) as client:
        assert rival(client) is None
        contest(pipeline, "challenge", other)
        wait("the challenger", lambda: rival(client), 2, every=0.05)
        assert (rival(client)["version"], rival(client)["since_decision"]) == (other, 2)
        assert says(client, other, 2)  # with a share of 1 it answers everybody
        contest(pipeline, "promotion", other)
        wait("the predecessor", lambda: (rival(client) or {}).get("version") == first, 2, every=0.05)
        assert rival(client)["shadow_only"] is True
        assert says(client, other, 3)  # a predecessor answers nobody, whatever the share
        contest(pipeline, "withdraw")
        wait("nobody", lambda: rival(client) is None, 2, every=0.05)


def test_a_challenger_named_in_the_environment_wins_over_the_ledgers(pipeline: Pipeline, other: str) -> None:
    third = pipeline.variant(lambda network: network.classifier.bias.add_(0.3))
    contest(pipeline, "challenge", other)
    with served(pipeline.state, log=False, challenger=third) as client:
        assert (rival(client)["version"], rival(client)["since_decision"]) == (third, 0)


def test_a_damaged_challenger_takes_no_champion_along_and_the_next_one_does_not_wait(
    pipeline: Pipeline, other: str
) -> None:
    first, third = str(pipeline.store.production()), pipeline.variant(lambda network: network.classifier.bias.add_(0.3))
    contest(pipeline, "challenge", other)
    flip_a_bit(pipeline.state / "models" / "versions" / other / "model.onnx")
    looked = Roster(pipeline.store, Told())
    looked.look()
    assert looked.standing.champion
    assert looked.standing.champion.card.name == first
    assert looked.standing.refused_challenger
    contest(pipeline, "challenge", third)
    looked.look()
    assert looked.standing.refused_challenger is None
    assert looked.standing.challenger
    assert looked.standing.challenger.card.name == third


def test_a_challenger_whose_card_was_changed_since_the_decision_is_refused(pipeline: Pipeline, other: str) -> None:
    contest(pipeline, "challenge", other)
    card = pipeline.state / "models" / "versions" / other / "card.json"
    card.write_bytes(
        (pipeline.state / "models" / "versions" / str(pipeline.store.production()) / "card.json").read_bytes()
    )
    looked = Roster(pipeline.store, Told())
    looked.look()
    assert looked.standing.challenger is None
    assert looked.standing.refused_challenger
    assert other in pipeline.store.verify_chain()[0]
