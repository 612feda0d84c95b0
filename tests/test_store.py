"""The model store: what is stored comes back as it was or not at all, and the ledger cannot be fooled."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from memory_blobs import MemoryBlobs, environment

from mnist_pipeline.storage.blobs import BadKey, BlobExists, BlobMissing, BlobStore, DiskBlobs, StoreUnavailable
from mnist_pipeline.storage.s3 import S3Blobs
from mnist_pipeline.storage.sealed import canonical, read_canonical, seal, sha256
from mnist_pipeline.store import (
    Card,
    CorruptLedger,
    CorruptReport,
    CorruptVersion,
    Decision,
    LostRace,
    ModelStore,
    UnknownVersion,
)

FILES = {"weights.safetensors": b"w" * 1_000, "model.onnx": b"o" * 500, "golden.safetensors": b"g" * 20}
FACTS: dict[str, Any] = {
    "label": "digitcnn-16x32x64-adamw-b256-e2-acc9915",
    "metrics": {"accuracy": 0.9915, "loss": 0.03},
    "config": {"channels": [16, 32, 64], "optimizer": "adamw", "seed": 7},
    "class_names": list("0123456789"),
    "preparation": "ink",
    "dataset": "mnist",
    "data_version": "d" * 64,
    "code_version": "c1",
    "run_id": "run-1",
}
TRAVERSALS = ["../../x", "..", "", "a/b", "a\\b", ".hidden", "/etc/passwd"]


def add(store: ModelStore, files: dict[str, bytes] = FILES, **changed: Any) -> Card:
    return store.add_version(files, **{**FACTS, **changed})


def deploy(store: ModelStore, version: str, expected: int, **changed: Any) -> Decision:
    return store.decide(**{**proposal(version, expected), **changed})


def proposal(version: str | None, expected: int, outcome: str = "deployed") -> dict[str, Any]:
    return {
        "serves": version,
        "strategy": "quality",
        "outcome": outcome,
        "candidate": version,
        "reason": "99.15 % on test",
        "evidence": {"accuracy": 0.9915},
        "actor": "nightly run",
        "expected": expected,
    }


@pytest.fixture
def memory() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
def store(memory: MemoryBlobs) -> ModelStore:
    return ModelStore(memory)


@pytest.fixture(params=["disk", "S3"])
def kept_store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    """Where other processes find it too."""
    return ModelStore(
        S3Blobs(request.getfixturevalue("place")) if request.param == "S3" else DiskBlobs(tmp_path / "store")
    )


def flip(memory: MemoryBlobs, key: str, place: int = 0, bit: int = 0) -> None:
    data = bytearray(memory.held[key])
    data[place] ^= 1 << bit
    memory.held[key] = bytes(data)


# --- versions ---


def test_a_version_comes_back_as_it_was_stored(kept_store: ModelStore) -> None:
    card = add(kept_store)
    assert kept_store.versions() == [card.name]
    assert kept_store.card(card.name) == card
    assert kept_store.load(card.name) == FILES
    assert kept_store.read_file(card.name, "model.onnx") == FILES["model.onnx"]
    assert (card.config, card.metrics, card.run_id) == (FACTS["config"], FACTS["metrics"], "run-1")


def test_the_name_is_the_label_and_the_digest_of_the_files(store: ModelStore) -> None:
    card = add(store)
    lines = "\n".join(f"{name}:{sha256(FILES[name])}" for name in sorted(FILES))
    assert card.digest == sha256(lines.encode())
    assert card.name == f"digitcnn-16x32x64-adamw-b256-e2-acc9915-{card.digest[:12]}"
    assert add(store, {**FILES, "model.onnx": b"other"}).name != card.name


def test_the_same_content_again_is_the_same_version(store: ModelStore, memory: MemoryBlobs) -> None:
    first = add(store)
    held = dict(memory.held)
    assert add(store, dict(reversed(FILES.items())), run_id="run-2") == first
    assert memory.held == held


@pytest.mark.parametrize("label", ["", "-a", "Digit", "a b", "../x", "a/b", "a_b", "é", "a" * 152, "a..b"])
def test_a_label_outside_the_pattern_is_refused(store: ModelStore, memory: MemoryBlobs, label: str) -> None:
    with pytest.raises(ValueError, match=r"no label|no name"):
        add(store, label=label)
    assert memory.held == {}


@pytest.mark.parametrize("files", [{}, {"card.json": b"{}"}, {"../x": b""}, {"a/b": b""}, {".x": b""}])
def test_files_that_cannot_be_a_version_are_refused(
    store: ModelStore, memory: MemoryBlobs, files: dict[str, bytes]
) -> None:
    with pytest.raises(ValueError, match=r"at least one file|no name"):
        add(store, files)
    assert memory.held == {}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metrics": {"accuracy": 0.99, "loss": math.nan}}, "metrics.loss = nan"),
        ({"metrics": {"loss": -math.inf}}, "metrics.loss = -inf"),
        ({"config": {"schedule": [0.1, math.nan]}}, r"config.schedule\[1\] = nan"),
        ({"config": {"device": object()}}, "cannot be stored as JSON"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_name(
    store: ModelStore, memory: MemoryBlobs, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        add(store, **changed)
    assert memory.held == {}


class FailingBlobs(MemoryBlobs):
    """Storage that fails for good at its n-th write."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.writes_left = writes

    def create(self, key: str, data: bytes) -> None:
        if not self.writes_left:
            raise StoreUnavailable("the disk is full: free some space")
        self.writes_left -= 1
        super().create(key, data)


@pytest.mark.parametrize("writes", range(len(FILES) + 1))
def test_a_version_without_a_card_does_not_exist_and_is_completed_later(writes: int) -> None:
    failing = FailingBlobs(writes)
    store = ModelStore(failing)
    with pytest.raises(StoreUnavailable):
        add(store)
    assert store.versions() == []
    failing.writes_left = 100
    card = add(store)
    assert store.versions() == [card.name]
    assert store.load(card.name) == FILES


def test_left_overs_that_differ_are_not_built_upon(memory: MemoryBlobs) -> None:
    name = add(ModelStore(MemoryBlobs())).name
    memory.create(f"versions/{name}/model.onnx", b"other bytes")
    with pytest.raises(CorruptVersion, match=rf"{name}, model.onnx: .* other bytes; delete this blob"):
        add(ModelStore(memory))
    assert ModelStore(memory).versions() == []


@pytest.mark.parametrize("name", TRAVERSALS)
def test_a_name_from_outside_never_reaches_a_path(kept_store: ModelStore, name: str) -> None:
    card = add(kept_store)
    for door in (kept_store.card, kept_store.load, kept_store.reports):
        with pytest.raises(BadKey):
            door(name)
    with pytest.raises(BadKey):
        kept_store.read_file(name, "model.onnx")
    with pytest.raises(UnknownVersion):
        kept_store.read_file(card.name, name)


def test_an_unknown_version_names_the_known_ones(store: ModelStore) -> None:
    with pytest.raises(UnknownVersion, match="no version 'digitcnn'; the store has none yet: train one"):
        store.card("digitcnn")
    card = add(store)
    for door in (store.card, store.load, store.reports):
        with pytest.raises(UnknownVersion, match=card.name):
            door("digitcnn")
    with pytest.raises(UnknownVersion, match=r"no file 'x'; it has .*model.onnx"):
        store.read_file(card.name, "x")


@pytest.mark.parametrize("file", [*FILES, "card.json"])
def test_one_flipped_bit_in_any_file_is_noticed(tmp_path: Path, file: str) -> None:
    store = ModelStore(DiskBlobs(tmp_path))
    card = add(store)
    path = tmp_path / "versions" / card.name / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptVersion, match=rf"{card.name}, {file}: .* restore .* roll back"):
        store.load(card.name)
    with pytest.raises(CorruptVersion):
        add(store)
    with pytest.raises(CorruptVersion):
        deploy(store, card.name, 0)
    assert store.current() is None


def test_any_flipped_bit_of_a_card_is_noticed(store: ModelStore, memory: MemoryBlobs) -> None:
    name = add(store).name
    key = f"versions/{name}/card.json"
    whole = memory.held[key]
    for place in range(len(whole)):
        flip(memory, key, place, place % 8)
        with pytest.raises(CorruptVersion):
            store.card(name)
        memory.held[key] = whole


def test_a_missing_file_is_a_corrupt_version(store: ModelStore, memory: MemoryBlobs) -> None:
    name = add(store).name
    memory.delete(f"versions/{name}/model.onnx")
    with pytest.raises(CorruptVersion, match=r"model.onnx: the file is missing"):
        store.load(name)


def test_a_card_under_another_name_is_refused(store: ModelStore, memory: MemoryBlobs) -> None:
    name = add(store).name
    other = "better-" + name
    for file in [*FILES, "card.json"]:
        memory.create(f"versions/{other}/{file}", memory.read(f"versions/{name}/{file}"))
    with pytest.raises(CorruptVersion, match=f"{other}, card.json: it is the card of {name}"):
        store.load(other)


def test_a_card_of_a_newer_release_is_read(store: ModelStore, memory: MemoryBlobs) -> None:
    card = add(store)
    key = f"versions/{card.name}/card.json"
    memory.held[key] = with_more(memory.held[key], {"temperature": 1.3})
    assert store.card(card.name) == card


def with_more(sealed: bytes, more: dict[str, Any]) -> bytes:
    """A sealed record as a newer release writes it."""
    record = {**json.loads(sealed), **more}
    del record["seal"]
    return canonical({**record, "seal": sha256(canonical(record))})


# --- reports ---


def report_on(card: Card, **more: Any) -> dict[str, Any]:
    return {"model_digest": card.digest, "data_digest": "d" * 64, "accuracy": 0.9915, **more}


def test_a_report_is_kept_with_its_version(store: ModelStore) -> None:
    card = add(store)
    report = report_on(card, f1={"0": 0.99})
    key = store.add_report(report)
    assert key.startswith(f"reports/{card.name}/")
    assert store.add_report(dict(reversed(report.items()))) == key
    other = store.add_report(report_on(card, accuracy=0.5))
    assert store.reports(card.name) == sorted([key, other])
    assert store.report(key) == report


def test_classes_that_are_numbers_do_not_break_a_report(store: ModelStore) -> None:
    key = store.add_report(report_on(add(store), f1=dict.fromkeys(range(12), 0.9)))
    assert store.report(key)["f1"] == {str(number): 0.9 for number in range(12)}


def test_a_report_needs_digests_and_a_version_it_fits(store: ModelStore) -> None:
    card = add(store)
    with pytest.raises(ValueError, match="needs the model_digest and the data_digest"):
        store.add_report({"model_digest": card.digest})
    with pytest.raises(ValueError, match=r"these are not: accuracy = nan"):
        store.add_report(report_on(card, accuracy=math.nan))
    other = add(store, {"weights": b"other"})
    for wrong in ({"model_digest": "0" * 64}, {"model_digest": card.digest[:12]}, {"version": other.name}):
        with pytest.raises(UnknownVersion, match="fits none"):
            store.add_report(report_on(card, **wrong))
    with pytest.raises(UnknownVersion, match=f"no version 'nope'; the store has .*{card.name}"):
        store.add_report(report_on(card, version="nope"))
    assert store.reports(card.name) == []


def test_of_two_versions_with_the_same_files_the_report_says_which(store: ModelStore) -> None:
    first, second = add(store), add(store, label="digitcnn-again")
    with pytest.raises(UnknownVersion, match=f"fits {first.name} and {second.name}: give"):
        store.add_report(report_on(first))
    key = store.add_report(report_on(second, version=second.name))
    assert store.reports(second.name) == [key]
    assert store.reports(first.name) == []


def test_a_changed_report_is_refused(store: ModelStore, memory: MemoryBlobs) -> None:
    card = add(store)
    key = store.add_report(report_on(card))
    memory.held[key] = memory.held[key].replace(b"0.9915", b"0.9999")
    with pytest.raises(CorruptReport, match=f"{key} is not a report as it was stored"):
        store.report(key)
    with pytest.raises(CorruptReport):
        store.add_report(report_on(card))
    with pytest.raises(BlobMissing):
        store.report(key.replace(".json", "0.json"))
    with pytest.raises(CorruptReport):
        store.report(f"versions/{card.name}/card.json")


# --- decisions ---


def test_nothing_serves_before_the_first_decision(store: ModelStore) -> None:
    assert store.decisions() == []
    assert store.current() is None
    assert store.production() is None
    assert store.verify_chain() == []


def test_the_newest_decision_is_what_serves(kept_store: ModelStore) -> None:
    old, new = add(kept_store), add(kept_store, {"weights": b"new"})
    first = deploy(kept_store, old.name, 0)
    second = deploy(kept_store, new.name, 1)
    assert kept_store.production() == new.name
    third = deploy(kept_store, old.name, 2, strategy="rollback", reason="new is slow")
    assert kept_store.production() == old.name
    assert kept_store.current() == third
    assert kept_store.decisions() == [first, second, third]
    assert [decision.number for decision in (first, second, third)] == [1, 2, 3]
    assert first.previous == ""
    assert third.previous == sha256(kept_store.blobs.read("decisions/00000002.json"))
    assert kept_store.load_decided(third) == (old, FILES)
    assert kept_store.verify_chain() == []


def test_a_refusal_is_recorded_and_production_serves_on(store: ModelStore) -> None:
    refused = store.decide(**{**proposal(None, 0, "kept"), "candidate": "digitcnn-bad"})
    assert (refused.serves, refused.card_digest, store.production()) == (None, "", None)
    card = add(store)
    deployed = deploy(store, card.name, 1)
    kept = store.decide(**{**proposal(card.name, 2, "kept"), "candidate": "digitcnn-worse"})
    assert (kept.serves, kept.card_digest) == (card.name, deployed.card_digest)
    assert store.production() == card.name
    for wrong in (None, "digitcnn-worse"):
        with pytest.raises(ValueError, match="'kept' leaves production as it is"):
            store.decide(**proposal(wrong, 3, "kept"))
    with pytest.raises(UnknownVersion, match="nothing has been deployed yet: materialize"):
        store.load_decided(refused)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reason": " "}, "needs a reason"),
        ({"actor": ""}, "needs a reason and an actor"),
        ({"strategy": "hope"}, "unknown strategy 'hope': it is one of quality, manual, force, rollback, challenge"),
        ({"outcome": "maybe"}, "unknown outcome 'maybe': it is one of deployed, kept, challenged"),
        ({"serves": None}, "'deployed' needs the version"),
        ({"expected": 5}, "expected=5, but the newest decision is 0"),
        ({"expected": -1}, "expected=-1: it is the newest decision's number"),
        ({"evidence": {"p": math.nan}}, "evidence.p = nan"),
    ],
)
def test_a_decision_that_cannot_be_is_refused(store: ModelStore, changed: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, LostRace), match=said):
        deploy(store, **{"version": add(store).name, "expected": 0, **changed})
    assert store.decisions() == []


@pytest.mark.parametrize(("name", "error"), [("digitcnn", UnknownVersion), ("../../x", BadKey)])
def test_only_a_stored_version_can_be_deployed(store: ModelStore, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        deploy(store, name, 0)
    assert store.decisions() == []


def test_who_decides_on_an_old_view_is_told_who_won(store: ModelStore) -> None:
    one, two = add(store), add(store, {"weights": b"two"})
    deploy(store, one.name, 0)
    won = deploy(store, two.name, 1, strategy="manual", actor="Ada", reason="demo today")
    with pytest.raises(LostRace) as caught:
        deploy(store, one.name, 1)
    assert caught.value.winner == won
    assert str(caught.value) == (
        f"decision 2 was made first: manual by Ada, deployed, production serves {two.name} (demo today). "
        "Yours was not recorded; if it is still right after that, decide again with expected=2"
    )
    assert pickle.loads(pickle.dumps(caught.value)).winner == won
    assert store.production() == two.name


class OvertakenBlobs(MemoryBlobs):
    """Somebody else decides in the moment between a look at the ledger and the write."""

    def __init__(self, rival: Decision) -> None:
        super().__init__()
        self.rival = rival

    def create(self, key: str, data: bytes) -> None:
        if key == "decisions/00000001.json":
            super().create(key, seal(self.rival))
        super().create(key, data)


def test_the_last_moment_counts(store: ModelStore) -> None:
    card = add(store)
    late = ModelStore(OvertakenBlobs(deploy(store, card.name, 0, actor="Ada")))
    add(late)
    with pytest.raises(LostRace, match="by Ada"):
        deploy(late, card.name, 0)
    assert [decision.actor for decision in late.decisions()] == ["Ada"]


class ForgetfulBlobs(MemoryBlobs):
    """The network loses the answer to each write, and the repeated request finds the blob there."""

    def create(self, key: str, data: bytes) -> None:
        super().create(key, data)
        raise BlobExists(key)


def test_a_lost_answer_is_no_lost_race() -> None:
    store = ModelStore(ForgetfulBlobs())
    card = add(store)
    decision = deploy(store, card.name, 0)
    assert store.current() == decision
    assert store.report(store.add_report(report_on(card)))["accuracy"] == 0.9915


def test_the_same_request_that_decides_twice_at_once_gets_its_first_decision(store: ModelStore) -> None:
    """A worker that was taken for dead and goes on, beside the one that was started in its place."""
    one, other = add(store), add(store, {**FILES, "model.onnx": b"2"})
    first = deploy(store, one.name, 0, request="a run")
    assert deploy(store, other.name, 0, request="a run") == first == store.current()
    for request in ("another run", ""):
        with pytest.raises(LostRace, match="decision 1 was made first"):
            deploy(store, other.name, 0, request=request)
    assert store.ledger.changed_for("a run") == first
    assert store.ledger.changed_for("another run") is None
    assert store.verify_chain() == []


RACER = """
import pickle, sys
from mnist_pipeline.store import LostRace
store, proposal, rounds = pickle.load(sys.stdin.buffer)
print("ready", flush=True)
sys.stdin.buffer.read(1)
for number in range(rounds):
    try:
        store.decide(**proposal, expected=number)
        print("won")
    except LostRace as lost:
        print("lost to", lost.winner.actor)
"""


def test_of_two_processes_deciding_at_once_one_wins_and_the_other_is_told(kept_store: ModelStore) -> None:
    name, rounds = add(kept_store).name, 15
    racers = {}
    for actor in ("ada", "bob"):
        racers[actor] = subprocess.Popen(
            [sys.executable, "-c", RACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
        )
        wanted = {**proposal(name, 0), "actor": actor}
        del wanted["expected"]
        racers[actor].stdin.write(pickle.dumps((kept_store, wanted, rounds)))
        racers[actor].stdin.flush()
    assert {racer.stdout.readline() for racer in racers.values()} == {b"ready\n"}
    for racer in racers.values():
        racer.stdin.write(b"!")
        racer.stdin.flush()
    told = {actor: racer.communicate()[0].decode().splitlines() for actor, racer in racers.items()}
    decided = kept_store.decisions()
    assert [decision.number for decision in decided] == list(range(1, rounds + 1))
    for actor in racers:
        assert told[actor].count("won") == sum(decision.actor == actor for decision in decided)
        assert len(told[actor]) == rounds
    assert kept_store.verify_chain() == []


def test_a_card_changed_after_the_decision_is_not_served(store: ModelStore, memory: MemoryBlobs) -> None:
    card = add(store)
    decision = deploy(store, card.name, 0)
    forged = replace(card, metrics={"accuracy": 0.9999})
    memory.held[f"versions/{card.name}/card.json"] = seal(forged)
    with pytest.raises(CorruptVersion, match=r"card.json: it is not the card that decision 1 was made on"):
        store.load_decided(decision)
    # A refusal that is recorded afterwards does not make the forged card the accepted one.
    kept = store.decide(**proposal(card.name, 1, "kept"))
    with pytest.raises(CorruptVersion):
        store.load_decided(kept)
    assert store.verify_chain() == [f"{card.name}: card.json is not the one that decision 2 was made on"]


def test_a_decision_of_a_newer_release_is_read(store: ModelStore, memory: MemoryBlobs) -> None:
    decision = deploy(store, add(store).name, 0)
    key = "decisions/00000001.json"
    memory.held[key] = with_more(memory.held[key], {"approved_by": "a committee"})
    assert store.current() == decision
    assert store.verify_chain() == []


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"[]", b"{}\n", b'{\n  "number": NaN\n}\n', b"\xff"])
def test_a_corrupt_decision_is_said_and_can_be_overcome(store: ModelStore, memory: MemoryBlobs, damage: bytes) -> None:
    name = add(store).name
    deploy(store, name, 0)
    deploy(store, name, 1)
    memory.held["decisions/00000002.json"] = damage
    for door in (store.current, store.production, store.decisions):
        with pytest.raises(CorruptLedger, match=r"decisions/00000002.json cannot be trusted: .* expected=2"):
            door()
    assert deploy(store, name, 2, strategy="force").number == 3
    assert store.production() == name
    assert len(store.verify_chain()) == 1


# --- the proof ---


def chain(length: int) -> tuple[ModelStore, MemoryBlobs]:
    memory = MemoryBlobs()
    store = ModelStore(memory)
    names = [add(store, {"weights": bytes([n])}).name for n in range(2)]
    for number in range(length):
        deploy(store, names[number % 2], number, reason=f"reason {number}")
    return store, memory


def remove(memory: MemoryBlobs, number: int, _: int) -> None:
    memory.delete(f"decisions/{number:08d}.json")


def rewrite(memory: MemoryBlobs, number: int, _: int) -> None:
    """A forger who knows the seal."""
    key = f"decisions/{number:08d}.json"
    memory.held[key] = with_more(memory.held[key], {"reason": "forged"})


def swap(memory: MemoryBlobs, number: int, _: int) -> None:
    one, two = f"decisions/{number:08d}.json", f"decisions/{number + 1:08d}.json"
    memory.held[one], memory.held[two] = memory.held[two], memory.held[one]


def renumber(memory: MemoryBlobs, number: int, _: int) -> None:
    """Swapped by a forger who gives each the other's number and a fitting seal."""
    swap(memory, number, 0)
    for each in (number, number + 1):
        key = f"decisions/{each:08d}.json"
        memory.held[key] = with_more(memory.held[key], {"number": each})


def flip_somewhere(memory: MemoryBlobs, number: int, place: int) -> None:
    key = f"decisions/{number:08d}.json"
    flip(memory, key, place % len(memory.held[key]), place % 8)


def add_stranger(memory: MemoryBlobs, number: int, _: int) -> None:
    memory.create(f"decisions/{number:08d}.json.bak", b"")


def leave_a_gap(memory: MemoryBlobs, number: int, _: int) -> None:
    memory.create("decisions/99999999.json", memory.read(f"decisions/{number:08d}.json"))


TAMPERINGS = [remove, rewrite, swap, renumber, flip_somewhere, add_stranger, leave_a_gap]


@given(st.integers(2, 6), st.data(), st.sampled_from(TAMPERINGS), st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_whatever_is_tampered_with_before_the_newest_decision_is_found(
    length: int, data: st.DataObject, tamper: Callable[[MemoryBlobs, int, int], None], place: int
) -> None:
    store, memory = chain(length)
    assert store.verify_chain() == []
    tamper(memory, data.draw(st.integers(1, length - 1)), place)
    assert store.verify_chain() != []


def test_a_flipped_bit_in_the_newest_decision_is_found(store: ModelStore) -> None:
    store, memory = chain(3)
    for place in range(len(memory.held["decisions/00000003.json"])):
        flip_somewhere(memory, 3, place)
        assert len(store.verify_chain()) == 1
        flip_somewhere(memory, 3, place)
    assert store.verify_chain() == []


def test_the_problems_are_named() -> None:
    store, memory = chain(6)
    for number in (2, 3, 5):
        memory.delete(f"decisions/{number:08d}.json")
    memory.create("decisions/notes.txt", b"")
    assert store.verify_chain() == [
        "decisions/notes.txt is no decision",
        "missing: decisions/00000002.json to decisions/00000003.json",
        "missing: decisions/00000005.json",
    ]
    store, memory = chain(3)
    rewrite(memory, 1, 0)
    assert store.verify_chain() == [
        "decisions/00000002.json does not follow decisions/00000001.json: one of them was replaced"
    ]


def test_an_old_version_may_be_pruned_but_not_the_one_that_serves() -> None:
    store, memory = chain(2)
    old, serving = (decision.serves for decision in store.decisions())
    memory.delete(f"versions/{old}/card.json")
    assert store.verify_chain() == []
    memory.delete(f"versions/{serving}/card.json")
    assert store.verify_chain() == [f"there is no version {serving!r}; the store has none yet: train one first"]


class LedgerMachine(RuleBasedStateMachine):
    """Any sequence of deciding, refusing and being late, against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.store = ModelStore(MemoryBlobs())
        self.names: list[str] = []
        self.served: list[str | None] = []

    @rule(content=st.binary(max_size=3))
    def add(self, content: bytes) -> None:
        name = add(self.store, {"weights": content}).name
        self.names = sorted({*self.names, name})

    @precondition(lambda self: self.names)
    @rule(data=st.data(), strategy=st.sampled_from(["quality", "manual", "force", "rollback"]))
    def deploy(self, data: st.DataObject, strategy: str) -> None:
        name = data.draw(st.sampled_from(self.names))
        deploy(self.store, name, len(self.served), strategy=strategy)
        self.served.append(name)

    @rule()
    def keep(self) -> None:
        serving = self.served[-1] if self.served else None
        self.store.decide(**proposal(serving, len(self.served), "kept"))
        self.served.append(serving)

    @precondition(lambda self: self.names and self.served)
    @rule(data=st.data())
    def be_late(self, data: st.DataObject) -> None:
        with pytest.raises(LostRace):
            deploy(self.store, self.names[0], data.draw(st.integers(0, len(self.served) - 1)))

    @invariant()
    def holds_what_was_decided(self) -> None:
        assert [decision.serves for decision in self.store.decisions()] == self.served
        assert self.store.production() == (self.served[-1] if self.served else None)
        assert self.store.versions() == self.names
        assert self.store.verify_chain() == []


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_the_same_values_in_other_bytes_are_not_what_was_written() -> None:
    whole = canonical({"a": 1, "b": "é"})
    for data in [whole.rstrip(), whole.replace(b" ", b""), whole.replace("é".encode(), b"\\u00e9")]:
        assert json.loads(data) == json.loads(whole)
        with pytest.raises(ValueError, match="not JSON as it was written"):
            read_canonical(data)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_evidence_is_kept_as_it_was_or_refused(evidence: dict[str, Any]) -> None:
    try:
        data = canonical(evidence)
    except ValueError as error:  # half of a surrogate pair has no UTF-8
        assert "cannot be stored" in str(error)  # noqa: PT017
        return
    assert read_canonical(data) == evidence
    assert canonical(read_canonical(data)) == data


def test_a_store_is_one_of_many_backends(store: ModelStore, kept_store: ModelStore) -> None:
    def story(on: ModelStore) -> list[str]:
        deploy(on, add(on).name, 0)
        on.add_report(report_on(add(on)))
        return on.blobs.list("")

    assert story(store) == story(kept_store)
    backend: BlobStore = store.blobs
    assert isinstance(backend, MemoryBlobs)
