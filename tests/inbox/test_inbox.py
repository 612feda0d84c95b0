"""A night of the inbox: every file is claimed once and answered for, and the tables are whole or as they were."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from digit_files import hugging_face, parquet, png, strokes
from hypothesis import given, settings
from hypothesis import strategies as st
from night_work import predict_night
from PIL import Image

import mnist_pipeline
from mnist_pipeline.inbox import mailbox, shards
from mnist_pipeline.inbox.mailbox import Inbox, Opened, Span, arrived
from mnist_pipeline.inbox.scoring import QUARANTINE, Scorer, schema_of, score
from mnist_pipeline.inbox.shards import Fetched, Shard, plan
from mnist_pipeline.ml import idx
from mnist_pipeline.ml.array_files import BadArray
from mnist_pipeline.ml.artifacts import pack
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.conformal import CONFORMAL, PredictionSets
from mnist_pipeline.ml.network import DigitCNN
from mnist_pipeline.ml.predictor import Predictor

NAMES = tuple(f"class {i}" for i in range(10))
NIGHT = "2026-01-05"
TABLES = (f"{NIGHT}.parquet", f"quarantine/{NIGHT}.parquet")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """A network that was never trained gives answers as good as any here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DigitCNN(ModelConfig(width_1=2, width_2=2, width_3=2), 10).eval()
    predictor = Predictor.load(pack(network, strokes(16)), threads=1)
    return Scorer(predictor, NAMES, "ink", "digitcnn-tiny", 7)


@pytest.fixture(scope="module")
def unsure(scorer: Scorer) -> Scorer:
    """The same with sets, the half of which have several classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DigitCNN(ModelConfig(width_1=2, width_2=2, width_3=2), 10).eval()
    shares = np.sort(scorer.predictor.predict(strokes(16)).probabilities, 1)
    sets = PredictionSets(0.9, float(np.median(shares[:, -2])), 100)
    files = pack(network, strokes(16)) | {CONFORMAL: sets.as_json()}
    return replace(scorer, predictor=Predictor.load(files, threads=1))


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    (tmp_path / "inbox").mkdir()
    return Inbox(tmp_path / "inbox", settle_s=0)


def drop(inbox: Inbox, name: str, content: bytes = b"content") -> Path:
    path = inbox.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def picture(image: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def run(inbox: Inbox, scorer: Scorer, out: Path, night: str = NIGHT) -> tuple[list[dict], list[dict]]:
    """The whole night, as the asset does it -> rows of both tables."""
    tally = predict_night(inbox.folder, inbox.claim(night, over=True), scorer, out, night)
    answered, refused = (pq.read_table(out / table).to_pylist() for table in TABLES)
    assert tally.sha256 == hashlib.sha256((out / TABLES[0]).read_bytes()).hexdigest()
    assert (tally.predictions, tally.quarantined) == (len(answered), len(refused))
    assert sum(tally.labels.values()) == len(answered)
    return answered, refused


# --- claiming ---


def test_claiming_moves_the_files_into_the_night(inbox: Inbox) -> None:
    drop(inbox, "b.png", b"b")
    drop(inbox, "a.png", b"a")
    assert not inbox.is_unused()
    assert inbox.claim(NIGHT, over=True) == ["a.png", "b.png"]
    assert inbox.waiting() == []
    assert [(inbox.night(NIGHT) / name).read_bytes() for name in ("a.png", "b.png")] == [b"a", b"b"]


def test_an_inbox_is_unused_until_something_is_dropped_or_was_claimed(inbox: Inbox) -> None:
    assert inbox.is_unused()
    assert inbox.claim(NIGHT, over=True) == []
    assert inbox.is_unused()
    drop(inbox, "a.png")
    assert not inbox.is_unused()
    inbox.claim("2026-01-06", over=True)
    assert not inbox.is_unused()


def test_a_folder_that_does_not_exist_yet_is_an_empty_inbox(tmp_path: Path) -> None:
    assert Inbox(tmp_path / "not" / "yet").claim(NIGHT, over=False) == []


def test_a_night_that_is_over_is_closed(inbox: Inbox) -> None:
    drop(inbox, "a.png")
    inbox.claim(NIGHT, over=True)
    drop(inbox, "late.png")
    assert inbox.claim(NIGHT, over=True) == ["a.png"]
    assert inbox.claim(NIGHT, over=False) == ["a.png"]
    assert [path.name for path in inbox.waiting()] == ["late.png"]
    assert inbox.claim("2026-01-06", over=True) == ["late.png"]


def test_a_night_that_is_not_over_takes_what_comes_later(inbox: Inbox) -> None:
    drop(inbox, "a.png")
    inbox.claim(NIGHT, over=False)
    drop(inbox, "late.png")
    assert inbox.claim(NIGHT, over=True) == ["a.png", "late.png"]


def test_a_claim_takes_what_came_in_its_span_and_leaves_the_rest(inbox: Inbox) -> None:
    for day, date in (("before", 99.9), ("first", 100), ("last", 199.9), ("after", 200)):
        os.utime(drop(inbox, f"{day}.png"), (date, date))
    assert inbox.claim(NIGHT, over=True, span=Span(100, 200)) == ["first.png", "last.png"]
    assert [path.name for path in inbox.waiting()] == ["after.png", "before.png"]
    assert inbox.claim("2026-01-06", over=True, span=Span(end=300)) == ["after.png", "before.png"]


def test_a_date_in_the_future_says_nothing(inbox: Inbox) -> None:
    path = drop(inbox, "wrong clock.png")
    os.utime(path, (time.time() + 1e9,) * 2)
    assert inbox.claim(NIGHT, over=True, span=Span(end=time.time() - 60)) == []
    assert inbox.claim("2026-01-06", over=True, span=Span(end=time.time() + 60)) == ["wrong clock.png"]


@pytest.mark.parametrize(
    ("changed", "status_changed", "came"),
    [(50, 70, 50), (100, 70, 100), (101, 70, 70), (101, 102, 102), (1e9, 1e9, 0)],
)
def test_when_a_file_came(changed: float, status_changed: float, came: float) -> None:
    """By its date; by the file system's where that is to come; 0 where both are far ahead of 100, which is now."""
    status = os.stat_result((0, 0, 0, 1, 0, 0, 0, 0, int(changed), int(status_changed)))
    assert arrived(status, 100) == came


def test_a_file_that_is_still_being_written_waits_for_the_next_night(inbox: Inbox) -> None:
    settling = replace(inbox, settle_s=60)
    whole, young = drop(inbox, "whole.png"), drop(inbox, "young.png")
    os.utime(whole, (time.time() - 61,) * 2)
    assert settling.claim(NIGHT, over=True) == ["whole.png"]
    assert young.exists()
    os.utime(young, (time.time() - 61,) * 2)
    assert settling.claim(NIGHT, over=True) == ["whole.png"]
    assert settling.claim("2026-01-06", over=True) == ["young.png"]


@pytest.mark.parametrize(
    "name", ["a.png.part", "a.partial", "a.tmp", "a.png.crdownload", "a.swp", ".hidden.png", ".folder/a.png"]
)
def test_names_of_unfinished_and_hidden_files_wait(inbox: Inbox, name: str) -> None:
    path = drop(inbox, name)
    assert inbox.is_unused()
    assert inbox.claim(NIGHT, over=True) == []
    assert path.exists()
    finished = path.rename(inbox.folder / "finished.png")
    assert inbox.claim("2026-01-06", over=True) == [finished.name]


def test_a_file_that_is_claimed_takes_the_memory_of_its_name(inbox: Inbox) -> None:
    names = [f"{number:06}.png" for number in range(2_000)]
    for name in names:
        (inbox.folder / name).touch()
        os.utime(inbox.folder / name, (1.6e9, 1.6e9))
    tracemalloc.start()
    try:
        assert inbox.claim(NIGHT, over=True) == names
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 250 * len(names)


def test_names_are_in_the_order_of_paths(inbox: Inbox) -> None:
    names = ["a/b.png", "a/c/d.png", "a-b.png", "a.png", "a b/c.png", "b.png"]
    for name in names:
        drop(inbox, name, b"")
    claimed = inbox.claim(NIGHT, over=True)
    assert claimed == [str(path) for path in sorted(map(Path, names))]


def test_sub_folders_are_kept(inbox: Inbox) -> None:
    for name in ("a.png", "x/a.png", "x/y/a.png"):
        drop(inbox, name, name.encode())
    files = inbox.claim(NIGHT, over=True)
    assert files == ["a.png", "x/a.png", "x/y/a.png"]
    assert [(inbox.night(NIGHT) / name).read_text() for name in files] == files


@pytest.mark.parametrize("name", ["a.png", "x/train-images-idx3-ubyte", "images-ubyte.gz", "a.npy", "n" * 251 + ".png"])
def test_a_name_dropped_thrice_in_a_night_is_kept_thrice_and_of_its_kind(inbox: Inbox, name: str) -> None:
    for content in (b"1", b"2", b"3"):
        drop(inbox, name, content)
        files = inbox.claim(NIGHT, over=False)
    assert files == sorted([name, f"~2/{name}", f"~3/{name}"])
    assert sorted((inbox.night(NIGHT) / each).read_bytes() for each in files) == [b"1", b"2", b"3"]


def test_what_was_a_file_may_come_back_as_a_folder_and_the_other_way_round(inbox: Inbox) -> None:
    drop(inbox, "a", b"file")
    drop(inbox, "b/c.png", b"in folder")
    inbox.claim(NIGHT, over=False)
    (inbox.folder / "b").rmdir()
    drop(inbox, "a/c.png", b"in folder")
    drop(inbox, "b", b"file")
    assert inbox.claim(NIGHT, over=True) == ["a", "b/c.png", "~2/a/c.png", "~2/b"]


def test_links_are_left_alone(inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    secret = tmp_path / "elsewhere" / "secret.png"
    secret.write_bytes(b"not yours")
    links = {"file.png": secret, "folder": secret.parent, "nowhere.png": tmp_path / "nothing"}
    for name, target in links.items():
        (inbox.folder / name).symlink_to(target)
    assert inbox.claim(NIGHT, over=True) == []
    assert all((inbox.folder / name).is_symlink() for name in links)
    assert secret.exists()


CLAIMER = """
import sys
from pathlib import Path
from mnist_pipeline.inbox.mailbox import Inbox

inbox = Inbox(Path(sys.argv[1]), settle_s=0)
print("ready", flush=True)
sys.stdin.readline()
print(len(inbox.claim(sys.argv[2], over=False)), flush=True)
"""


def test_claimers_at_once_neither_lose_nor_double_a_file(inbox: Inbox) -> None:
    contents = [f"{i}".encode() for i in range(300)]
    for i, content in enumerate(contents):
        drop(inbox, f"{i % 7}/{i}.png", content)
    environment = {**os.environ, "PYTHONPATH": str(Path(mnist_pipeline.__file__).parents[1])}
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(inbox.folder), night],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for night in ("2026-01-05", "2026-01-06", "2026-01-05")
    ]
    assert [claimer.stdout.readline() for claimer in claimers if claimer.stdout] == ["ready\n"] * 3
    for claimer in claimers:
        if claimer.stdin:
            claimer.stdin.write("go\n")
            claimer.stdin.flush()
    counts = [int(claimer.communicate()[0]) for claimer in claimers]
    claimed = [path for night in ("2026-01-05", "2026-01-06") for path in inbox.night(night).rglob("*.png")]
    assert sorted(path.read_bytes() for path in claimed) == sorted(contents)
    assert inbox.waiting() == []
    assert {claimer.returncode for claimer in claimers} == {0}
    assert max(counts[0], counts[2]) + counts[1] == 300


PARTS = st.one_of(
    st.sampled_from(["a", "b", "a.png", "b.npy", "x-ubyte", "~2", ".hidden", "a.part", "claimed", ".claimed"]),
    st.binary(min_size=1, max_size=12).filter(lambda part: not set(part) & set(b"/\0")).map(os.fsdecode),
)
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@settings(deadline=None, max_examples=60)
@given(rounds=st.lists(st.tuples(st.lists(PATHS, max_size=6), st.booleans()), min_size=1, max_size=3))
def test_no_file_is_lost_or_doubled_whatever_the_names(rounds: list[tuple[list[str], bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inbox, dropped = Inbox(Path(folder), settle_s=0), set()
        for number, (paths, over) in enumerate(rounds):
            for i, path in enumerate(paths):
                content = f"{number} {i}".encode()
                if is_ones_own(path) and could_drop(inbox, path, content):
                    dropped.add(content)
            files = inbox.claim(NIGHT, over=over)
            assert files == sorted(set(files), key=Path)
            planned = [name for shard in plan(files, Fetched(inbox, NIGHT)) for name in shard.files]
            assert sorted(planned) == sorted(files)
        kept = Counter(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())
        assert Counter({content: count for content, count in kept.items() if content}) == Counter(dropped)


def is_ones_own(path: str) -> bool:
    """Whether the path is below the inbox and not in the folder that the inbox keeps for itself."""
    parts = path.split("/")
    return not {".", "..", ""} & set(parts) and parts[0] != ".claimed"


def could_drop(inbox: Inbox, path: str, content: bytes) -> bool:
    """Whether the file system took it: not where a folder is, and not below a file."""
    try:
        if (inbox.folder / path).exists():
            return False
        drop(inbox, path, content)
    except OSError:
        return False
    return True


# --- scoring ---


def test_every_kind_of_image_and_array_is_answered(inbox: Inbox, scorer: Scorer, tmp_path: Path) -> None:
    image = strokes(1)[0]
    exact = {
        "a.png": png(image),
        "b.GIF": picture(image, "gif"),
        "c.bmp": picture(image, "bmp"),
        "d.tif": picture(image, "tiff"),
        "e.TIFF": picture(image, "tiff"),
        "f.webp": picture(image, "webp", lossless=True),
        "g.npy": npy(image[None]),
        "h-ubyte": idx.dump(image[None]),
        "i-ubyte.gz": gzip.compress(idx.dump(image[None])),
        "j.png": png(255 - image),
        "k.jpeg": picture(image, "jpeg", quality=100),
        "l.parquet": parquet(image=hugging_face([png(image)])),
    }
    for name, content in exact.items():
        drop(inbox, name, content)
    answered, refused = run(inbox, scorer, tmp_path)
    assert refused == []
    assert {row["file"]: row["sha256"] for row in answered} == {
        name: hashlib.sha256(content).hexdigest() for name, content in exact.items()
    }
    found = scorer.predictor.predict(image[None])
    for row in answered:
        near = 0.02 if row["file"] == "k.jpeg" else 1e-6
        assert row["label"] == NAMES[found.labels[0]]
        assert row["confidence"] == pytest.approx(float(found.confidence[0]), abs=near)
        assert [row[f"p_{name}"] for name in NAMES] == pytest.approx(found.probabilities[0].tolist(), abs=near)
        assert (row["row"], row["model_version"], row["decision"]) == (0, "digitcnn-tiny", 7)


REFUSED = {
    "text.png": (b"this is no picture", "PNG, JPEG"),
    "empty.png": (b"", "empty"),
    "cut.png": (png(strokes(1)[0])[:-30], "cut short or damaged"),
    "notes.txt": (b"call her back", r"the file type .txt is not read; drop .bmp, .gif, .*, .npy, IDX or Parquet files"),
    "noname": (b"?", r"the file type (none) is not read"),
    "a.npy": (b"\x93NUMPY", "not a whole .npy file"),
    "colours.npy": (npy(np.zeros((2, 28, 28, 3), np.uint8)), "it holds uint8 [2, 28, 28, 3]"),
    "none.npy": (npy(np.zeros((0, 28, 28), np.uint8)), "it holds uint8 [0, 28, 28]"),
    "cut-ubyte": (idx.dump(strokes(30))[:-1], "it states 23,520 bytes of images but holds 23,519"),
    "cut-ubyte.gz": (gzip.compress(idx.dump(strokes(30)))[:-1], "it cannot be unpacked"),
    "row.parquet": (parquet(image=hugging_face([b"no picture"])), "row 0: not a PNG"),
    "none.parquet": (parquet(label=pa.array([1])), "none of its columns can be it: label (int64)"),
    "labels-ubyte": (idx.dump(np.zeros(9, np.uint8)), "it holds uint8 [9]"),
}


def test_what_cannot_be_read_is_quarantined_with_the_reason(inbox: Inbox, scorer: Scorer, tmp_path: Path) -> None:
    for name, (content, _) in REFUSED.items():
        drop(inbox, name, content)
    drop(inbox, "good.png", png(strokes(1)[0]))
    answered, refused = run(inbox, scorer, tmp_path)
    assert [row["file"] for row in answered] == ["good.png"]
    assert sorted(row["file"] for row in refused) == sorted(REFUSED)
    for row in refused:
        content, reason = REFUSED[row["file"]]
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        for part in reason.split(", .*, "):
            assert part in row["reason"]


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user who may not read everything, and that user for the length of the test, also under root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        user, nobody = os.geteuid(), 65534
        if user == 0:
            os.seteuid(nobody)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("name", ["a.png", "a.txt", "a.npy", "a-ubyte"])
def test_a_file_that_may_not_be_read_does_not_stop_the_night(scorer: Scorer, unprivileged: Path, name: str) -> None:
    inbox = Inbox(unprivileged / "inbox", settle_s=0)
    drop(inbox, name, png(strokes(1)[0])).chmod(0)
    drop(inbox, "good.png", png(strokes(1)[0]))
    answered, refused = run(inbox, scorer, unprivileged)
    assert [row["file"] for row in answered] == ["good.png"]
    assert [(row["file"], row["sha256"]) for row in refused] == [(name, "")]
    assert "Permission denied" in refused[0]["reason"] or name == "a.txt"


def test_an_image_file_of_absurd_size_is_not_read(inbox: Inbox, scorer: Scorer, tmp_path: Path) -> None:
    path = drop(inbox, "huge.png", png(strokes(1)[0]))
    os.truncate(path, mailbox.LARGEST_FILE + 1)
    answered, (refused,) = run(inbox, scorer, tmp_path)
    assert answered == []
    assert "it has 268,435,457 bytes, more than 268,435,456: make the picture smaller" in refused["reason"]


def test_a_blank_image_is_a_row_without_a_label(inbox: Inbox, scorer: Scorer, tmp_path: Path) -> None:
    pages = np.stack([np.full((40, 40), 255, np.uint8), np.zeros((40, 40), np.uint8)])
    drop(inbox, "blank.png", png(pages[0]))
    drop(inbox, "blanks.npy", npy(pages))
    drop(inbox, "digit.png", png(strokes(1)[0]))
    answered, refused = run(inbox, scorer, tmp_path)
    assert refused == []
    by_name = {(row["file"], row["row"]): row for row in answered}
    assert by_name[("digit.png", 0)]["label"] in NAMES
    for key in (("blank.png", 0), ("blanks.npy", 0), ("blanks.npy", 1)):
        row = by_name[key]
        assert [row[column] for column in ("label", "confidence", *(f"p_{name}" for name in NAMES))] == [None] * 12
        assert (row["model_version"], row["decision"], len(row["sha256"])) == ("digitcnn-tiny", 7, 64)


@pytest.mark.parametrize("abstain", [False, True])
def test_each_row_has_the_set_of_what_it_may_be(inbox: Inbox, unsure: Scorer, tmp_path: Path, abstain: bool) -> None:
    images = np.concatenate([strokes(16), np.zeros((1, 28, 28), np.uint8)])
    drop(inbox, "many.npy", npy(images))
    drop(inbox, "blank.png", png(np.full((40, 40), 255, np.uint8)))
    scorer = replace(unsure, abstain=abstain)
    tally = predict_night(inbox.folder, inbox.claim(NIGHT, over=True), scorer, tmp_path, NIGHT)
    rows = pq.read_table(tmp_path / TABLES[0]).to_pylist()
    found = unsure.predictor.predict(images[:16]).probabilities
    sets = {row["row"]: row["prediction_set"] for row in rows if row["confidence"] is not None}
    assert sets == {i: unsure.predictor.sets.of(shares.tolist(), NAMES) for i, shares in enumerate(found)}
    assert [row["prediction_set"] for row in rows if row["confidence"] is None] == [None, None]
    several = sum(len(each) > 1 for each in sets.values())
    assert 0 < several < 16
    for row in rows:
        expected = row["prediction_set"]
        assert row["label"] == (None if expected is None or (abstain and len(expected) > 1) else expected[0])
    assert tally.uncertain == several
    assert (tally.labels["no digit"], tally.labels["abstained"]) == (2, several if abstain else 0)
    assert sum(tally.labels.values()) == tally.predictions == 18
    assert tally.mean_confidence == pytest.approx(float(found.max(1).mean()), abs=1e-5)


def test_a_version_without_sets_has_none_in_any_row(inbox: Inbox, scorer: Scorer, tmp_path: Path) -> None:
    drop(inbox, "many.npy", npy(strokes(3)))
    answered, _ = run(inbox, replace(scorer, abstain=True), tmp_path)
    assert [row["prediction_set"] for row in answered] == [None] * 3
    assert None not in {row["label"] for row in answered}


def test_names_that_are_no_text_are_told_by_their_bytes(inbox: Inbox, scorer: Scorer, tmp_path: Path) -> None:
    try:
        drop(inbox, os.fsdecode(b"caf\xe9.png"), png(strokes(1)[0]))
    except OSError:
        pytest.skip("this file system has no such names")
    drop(inbox, os.fsdecode(b"\xff.txt"))
    answered, refused = run(inbox, scorer, tmp_path)
    assert ([row["file"] for row in answered], [row["file"] for row in refused]) == (["caf\\xe9.png"], ["\\xff.txt"])


# --- shards ---


def planned(inbox: Inbox) -> list[Shard]:
    with closing(Fetched(inbox, NIGHT)) as fetched:
        return list(plan(inbox.claim(NIGHT, over=True), fetched))


def mixed(inbox: Inbox) -> None:
    """Seven images, one of them blank and one no image, and arrays of 11 and 5 rows, and one that is cut."""
    for i, image in enumerate(strokes(5)):
        drop(inbox, f"{i}.png", png(image))
    drop(inbox, "5.png", png(np.zeros((28, 28), np.uint8)))
    drop(inbox, "2b.png", b"no image")
    drop(inbox, "a.npy", npy(strokes(11, seed=1)))
    drop(inbox, "b-ubyte.gz", gzip.compress(idx.dump(strokes(5, seed=2))))
    drop(inbox, "c-ubyte", idx.dump(strokes(5, seed=2))[:-1])


def by_name(rows: Iterable[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: (row["file"], row.get("row", 0)))


def same(rows: list[dict], others: list[dict]) -> bool:
    """Whether two tables say the same; a logit may differ in its last bit with the size of the batch."""

    def rounded(row: dict) -> dict:
        return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}

    return [rounded(row) for row in rows] == [rounded(row) for row in others]


@pytest.mark.parametrize(
    ("files", "rows", "size"), [(1, 1, 1 << 26), (2, 3, 1 << 26), (3, 11, 1 << 26), (1_000, 10_000, 1), (7, 9, 4_000)]
)
def test_shards_are_bounded_and_their_size_changes_nothing(
    inbox: Inbox,
    scorer: Scorer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: int,
    rows: int,
    size: int,
) -> None:
    mixed(inbox)
    (tmp_path / "whole").mkdir()
    answered, refused = run(inbox, scorer, tmp_path / "whole")
    monkeypatch.setattr(shards, "FILES_A_SHARD", files)
    monkeypatch.setattr(shards, "ROWS_A_SHARD", rows)
    monkeypatch.setattr(shards, "BYTES_A_SHARD", size)
    for shard in planned(inbox):
        assert len(shard.files) <= files
        assert shard.end - shard.begin <= min(rows, max(1, size // 784))
    small = run(inbox, scorer, tmp_path)
    assert same(small[0], answered)
    assert small[1] == refused
    assert [row["file"] for row in refused] == ["2b.png", "c-ubyte"]


def test_rows_of_an_array_are_numbered_through_all_shards(
    inbox: Inbox, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = strokes(11)
    drop(inbox, "a.npy", npy(images))
    monkeypatch.setattr(shards, "ROWS_A_SHARD", 4)
    answered, _ = run(inbox, scorer, tmp_path)
    assert [row["row"] for row in answered] == list(range(11))
    expected = scorer.predictor.predict(images)
    assert [row["label"] for row in answered] == [NAMES[label] for label in expected.labels]
    assert [row["confidence"] for row in answered] == pytest.approx(expected.confidence.tolist(), abs=1e-5)


def test_large_images_make_shards_of_few_rows(inbox: Inbox) -> None:
    header = npy(np.zeros((8, 1, 1), np.uint8))[:-8].replace(b"(8, 1, 1), }    ", b"(8, 2900, 2900)}")
    os.truncate(drop(inbox, "large.npy", header), len(header) + 8 * 2_900**2)  # 67 MB of zeros that take no room
    assert [(shard.begin, shard.end, shard.fault) for shard in planned(inbox)] == [(0, 7, ""), (7, 8, "")]


def test_an_array_that_is_cut_after_it_was_planned_is_no_shard_to_score(inbox: Inbox, scorer: Scorer) -> None:
    drop(inbox, "a-ubyte", idx.dump(strokes(5)))
    (shard,) = planned(inbox)
    os.truncate(inbox.night(NIGHT) / "a-ubyte", 1_000)
    with pytest.raises(BadArray, match="ends before image 5"):
        score(Opened(inbox.night(NIGHT), ["a-ubyte"]), shard, scorer)


# --- tables ---


def test_an_empty_night_is_two_empty_tables_with_all_columns(inbox: Inbox, scorer: Scorer, tmp_path: Path) -> None:
    assert run(inbox, scorer, tmp_path) == ([], [])
    assert pq.read_schema(tmp_path / TABLES[0]).equals(schema_of(NAMES))
    assert pq.read_schema(tmp_path / TABLES[1]).equals(QUARANTINE)
    assert schema_of(NAMES).names == [
        *("file", "row", "sha256", "label", "confidence", "prediction_set"),
        *(f"p_{name}" for name in NAMES),
        *("ink", "contrast", "sharpness", "slant"),
        *("model_version", "decision"),
    ]


def test_a_rerun_gives_the_same_rows_in_the_same_bytes(inbox: Inbox, scorer: Scorer, tmp_path: Path) -> None:
    mixed(inbox)
    once = run(inbox, scorer, tmp_path)
    before = tables(tmp_path)
    drop(inbox, "late.png", png(strokes(1)[0]))
    assert run(inbox, scorer, tmp_path) == once
    assert tables(tmp_path) == before
    assert len({(row["file"], row["row"]) for row in once[0]}) == len(once[0]) == 6 + 11 + 5


def tables(folder: Path) -> dict[str, bytes]:
    """Everything in the folder but the inbox."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
