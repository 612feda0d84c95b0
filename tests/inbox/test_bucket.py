"""The inbox in S3: every object is claimed once and answered for, whatever its name, whoever is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from memory_blobs import environment
from s3_server import Answer, Proxy, Request, put_long_ago

from mnist_pipeline.inbox.bucket import KEPT_JOURNALS, LONGEST_NAME, S3Inbox, inbox_at
from mnist_pipeline.inbox.mailbox import Inbox, Span
from mnist_pipeline.ml.images import UnreadableImage
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.storage.s3_requests import Place

NIGHT, NEXT_NIGHT = "2026-01-05", "2026-01-06"


@pytest.fixture
def inbox(place: Place) -> S3Inbox:
    return S3Inbox(place, settle_s=0)


def drop(inbox: S3Inbox, *names: str) -> None:
    """Each with its name as its content."""
    for name in names:
        inbox.place.put(name, name.encode())


def contents(inbox: S3Inbox, night: str, files: list[str]) -> list[bytes]:
    with inbox.opened(night, files) as opened:
        assert [opened.names[file] for file in opened.files] == files
        return [(opened.folder / file).read_bytes() for file in opened.files]


def kept(inbox: S3Inbox) -> Counter[bytes]:
    """Content of everything in the inbox, claimed or not, but journals and marks."""
    names = [entry.name for entry in inbox.place.entries("") if "/.journal/" not in entry.name]
    return Counter(inbox.place.get(name) for name in names if not name.endswith(".closed"))


def test_the_location_decides() -> None:
    assert inbox_at(Path("/drops"), 3.0) == Inbox(Path("/drops"), 3.0)
    assert inbox_at(Place("bucket", "drops"), 3.0) == S3Inbox(Place("bucket", "drops"), 3.0)
    assert inbox_at(Place("bucket", "drops"), 3.0).where() == "s3://bucket/drops"


def test_claiming_moves_the_objects_into_the_night(inbox: S3Inbox) -> None:
    drop(inbox, "b.png", "a.png", "x/y/a.png")
    assert not inbox.is_unused()
    assert inbox.claim(NIGHT, over=True) == ["a.png", "b.png", "x/y/a.png"]
    assert inbox.waiting() == []
    assert contents(inbox, NIGHT, ["a.png", "b.png", "x/y/a.png"]) == [b"a.png", b"b.png", b"x/y/a.png"]
    assert inbox.place.get(f".claimed/{NIGHT}/a.png") == b"a.png"


def test_an_inbox_is_unused_until_something_is_dropped_or_was_claimed(inbox: S3Inbox) -> None:
    assert inbox.is_unused()
    assert inbox.claim(NIGHT, over=False) == []
    assert inbox.is_unused()
    drop(inbox, "a.png")
    assert not inbox.is_unused()
    inbox.claim(NIGHT, over=False)
    assert not inbox.is_unused()


def test_a_night_that_is_over_is_closed(inbox: S3Inbox) -> None:
    drop(inbox, "a.png")
    assert inbox.claim(NIGHT, over=True) == ["a.png"]
    drop(inbox, "late.png")
    assert inbox.claim(NIGHT, over=True) == inbox.claim(NIGHT, over=False) == ["a.png"]
    assert [path.name for path in inbox.waiting()] == ["late.png"]
    assert inbox.claim(NEXT_NIGHT, over=True) == ["late.png"]


def test_a_night_that_is_not_over_takes_what_comes_later(inbox: S3Inbox) -> None:
    drop(inbox, "a.png")
    inbox.claim(NIGHT, over=False)
    drop(inbox, "late.png")
    assert inbox.claim(NIGHT, over=True) == ["a.png", "late.png"]


def test_a_claim_takes_what_came_in_its_span_by_the_clock_of_the_server(inbox: S3Inbox) -> None:
    drop(inbox, "today.png", "yesterday.png", "before.png")
    put_long_ago(inbox.place, 1, "yesterday.png")
    put_long_ago(inbox.place, 2, "before.png")
    now = inbox.place.now()
    day = Span(now - 1.5 * 86_400, now - 0.5 * 86_400)
    assert inbox.claim(NIGHT, over=True, span=day) == ["yesterday.png"]
    assert [path.name for path in inbox.waiting()] == ["before.png", "today.png"]
    assert inbox.claim(NEXT_NIGHT, over=True, span=Span(end=day.end)) == ["before.png"]


def test_an_object_that_was_just_put_waits(inbox: S3Inbox) -> None:
    drop(inbox, "young.png")
    assert replace(inbox, settle_s=60).claim(NIGHT, over=True) == []
    assert [path.name for path in inbox.waiting()] == ["young.png"]
    assert replace(inbox, settle_s=0).claim(NEXT_NIGHT, over=True) == ["young.png"]


@pytest.mark.parametrize(
    "name", ["a.png.part", "a.partial", "a.tmp", "a.png.crdownload", "a.swp", ".hidden.png", ".folder/a.png", "x/"]
)
def test_names_of_unfinished_and_hidden_objects_and_folder_markers_wait(inbox: S3Inbox, name: str) -> None:
    drop(inbox, name)
    assert inbox.waiting() == []
    assert inbox.claim(NIGHT, over=True) == []
    assert inbox.place.get(name) == name.encode()


@pytest.mark.parametrize("name", ["a.png", "x/train-images-idx3-ubyte", "images-ubyte.gz", "a.npy"])
def test_a_name_dropped_thrice_in_a_night_is_kept_thrice_and_of_its_kind(inbox: S3Inbox, name: str) -> None:
    for content in (b"1", b"2", b"3"):
        inbox.place.put(name, content)
        files = inbox.claim(NIGHT, over=False)
    assert files == sorted([name, f"~2/{name}", f"~3/{name}"])
    assert sorted(contents(inbox, NIGHT, files)) == [b"1", b"2", b"3"]
    with inbox.opened(NIGHT, files) as opened:
        assert len({file[8:] for file in opened.files}) == 1
        assert name.endswith(opened.files[0][8:])


ODD = [
    *["a b.png", "ü.png", "a+b%20.png", "a//b.png", "../up.png", "x/..png", "a&b<c>.png", "-", "~2/a", "no suffix"],
    *["A.png", "a.png", "a", "a/b.png", "n" * 300 + ".png", "s." + "s" * 300, "!first.png", "$.png", "/lead.png"],
]


def test_no_name_whatever_is_lost_or_leads_outside(inbox: S3Inbox, tmp_path: Path) -> None:
    odd = [name for name in ODD if not name.startswith("../") and "/.." not in name]
    drop(inbox, *odd)
    files = inbox.claim(NIGHT, over=True)
    assert sorted(files) == sorted(odd)
    assert contents(inbox, NIGHT, files) == [name.encode() for name in files]
    with inbox.opened(NIGHT, files) as opened:
        assert sorted(path.name for path in opened.folder.iterdir()) == sorted(opened.files)


def test_a_name_too_long_for_the_night_is_told_by_its_digest(inbox: S3Inbox) -> None:
    name = "/".join(["n" * 150] * 6) + ".png"
    assert len(name) > LONGEST_NAME
    drop(inbox, name)
    (file,) = inbox.claim(NIGHT, over=True)
    assert file.startswith("~long/")
    assert file.endswith(".png")
    assert contents(inbox, NIGHT, [file]) == [name.encode()]


def test_what_nights_before_have_claimed_is_not_listed_again(inbox: S3Inbox, proxy: Proxy) -> None:
    drop(inbox, *(f"{i}.png" for i in range(30)))
    inbox.claim(NIGHT, over=True)
    drop(inbox, "-first.png", "z.png")
    far = replace(inbox, place=replace(inbox.place, endpoint=proxy.endpoint))
    assert [path.name for path in far.waiting()] == ["-first.png", "z.png"]
    assert len(proxy.asked) == 2


# --- killed, and two at once ---


def is_copy(request: Request) -> bool:
    return "x-amz-copy-source" in {name.lower() for name in request.headers}


def is_delete(request: Request) -> bool:
    return request.method == "DELETE"


@pytest.mark.slow
@pytest.mark.parametrize("at", [is_copy, is_delete])
@pytest.mark.parametrize("after", [0, 1, 4])
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("then", [NIGHT, NEXT_NIGHT])
def test_a_claim_that_broke_off_anywhere_is_completed_by_the_next(
    inbox: S3Inbox, proxy: Proxy, at: object, after: int, told: bool, then: str
) -> None:
    names = [f"{i}.png" for i in range(6)]
    drop(inbox, *names)
    broken = replace(inbox, place=replace(inbox.place, endpoint=proxy.endpoint, attempts=1))
    seen = iter(range(1_000))
    denied = Answer(403, "AccessDenied", told=told)
    proxy.fault = lambda request: denied if at(request) and next(seen) >= after else None  # type: ignore[operator]
    with pytest.raises(StoreUnavailable, match="AccessDenied"):
        broken.claim(NIGHT, over=True)
    drop(inbox, "late.png")
    assert inbox.claim(then, over=True) == (["late.png"] if then == NEXT_NIGHT else names)
    assert inbox.claim(NIGHT, over=True) == names
    assert kept(inbox) == Counter(name.encode() for name in [*names, "late.png"])


def test_what_its_owner_took_back_or_changed_meanwhile_is_not_claimed(inbox: S3Inbox, proxy: Proxy) -> None:
    drop(inbox, "back.png", "changed.png", "stays.png")

    def meddle(request: Request) -> Answer | None:
        """Once all is listed; moto copies without looking at the condition, which S3 answers so."""
        if not is_copy(request):
            return None
        assert "x-amz-copy-source-if-match" in {name.lower() for name in request.headers}
        if not meddled:
            meddled.append(request)
            inbox.place.delete("back.png")
            inbox.place.put("changed.png", b"new")
        return Answer(412, "PreconditionFailed") if request.path.endswith("changed.png") else None

    meddled: list[Request] = []
    proxy.fault = meddle
    far = replace(inbox, place=replace(inbox.place, endpoint=proxy.endpoint))
    claimed = far.claim(NIGHT, over=False)
    assert {"stays.png"} <= set(claimed) <= {"stays.png", "back.png"}
    assert [path.name for path in inbox.waiting()] == ["changed.png"]
    assert kept(inbox)[b"new"] == 1
    assert inbox.claim(NIGHT, over=True).count("stays.png") == 1


CLAIMER = """
import sys
from mnist_pipeline.inbox.bucket import S3Inbox
from mnist_pipeline.storage.s3_requests import Place

inbox = S3Inbox(Place(*sys.argv[2:5]), settle_s=0)
print("ready", flush=True)
sys.stdin.readline()
print(len(inbox.claim(sys.argv[1], over=False)), flush=True)
"""


@pytest.mark.slow
def test_claimers_at_once_neither_lose_nor_double_an_object(inbox: S3Inbox) -> None:
    names, place = [f"{i % 7}/{i}.png" for i in range(120)], inbox.place
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: drop(inbox, name), names))
    nights = (NIGHT, NEXT_NIGHT, NIGHT)
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, night, place.bucket, place.prefix, place.endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        for night in nights
    ]
    assert [claimer.stdout.readline() for claimer in claimers if claimer.stdout] == ["ready\n"] * 3
    for claimer in claimers:
        if claimer.stdin:
            claimer.stdin.write("go\n")
            claimer.stdin.flush()
    for claimer in claimers:
        claimer.communicate()
    assert {claimer.returncode for claimer in claimers} == {0}
    assert sum(len(inbox.claim(night, over=True)) for night in (NIGHT, NEXT_NIGHT)) == 120
    assert kept(inbox) == Counter(name.encode() for name in names)
    assert inbox.waiting() == []


def test_old_journals_are_deleted(inbox: S3Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT_JOURNALS >= 100
    monkeypatch.setattr("mnist_pipeline.inbox.bucket.KEPT_JOURNALS", 2)
    for i in range(6):
        drop(inbox, f"{i}.png")
        inbox.claim(NIGHT, over=False)
    numbers = [entry.name[-8:] for entry in inbox.place.entries(".claimed/.journal/")]
    assert numbers == ["004.json", "005.json", "006.json"]


# --- fetching and filling ---


def test_a_night_that_cannot_be_fetched_is_an_error_and_leaves_no_folder(
    inbox: S3Inbox, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    drop(inbox, "a.png", "b.png")
    files = inbox.claim(NIGHT, over=True)
    far = replace(inbox, place=replace(inbox.place, endpoint=proxy.endpoint, attempts=1))
    proxy.fault = lambda request: Answer(403, "AccessDenied") if request.path.endswith("/b.png") else None
    with (
        pytest.raises(StoreUnavailable, match=rf"cannot read s3://.*/.claimed/{NIGHT}/b.png"),
        far.opened(NIGHT, files),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_accepted_can_be_claimed_at_once(place: Place) -> None:
    inbox, begun = S3Inbox(place, settle_s=1), time.time()

    def write(folder: Path) -> None:
        (folder / "sub").mkdir()
        for name in ("a.png", "sub/b.png"):
            (folder / name).write_bytes(b"")

    inbox.accept(write)
    assert time.time() - begun >= 1
    assert inbox.claim(NIGHT, over=False) == ["a.png", "sub/b.png"]


# --- arrivals: what is predicted as soon as it comes ---


def test_whole_images_are_arrivals_oldest_first_and_arrays_are_not(inbox: S3Inbox) -> None:
    drop(inbox, "b.png", "a.npy", ".hidden.png", "c.png.part", "folder/a.JPG", "notes.txt")
    assert set(inbox.arrivals()) == {"b.png", "folder/a.JPG"}
    assert replace(inbox, settle_s=60).arrivals() == {}


LARGE = 6 * 1024**2  # bytes: more than a part


@pytest.fixture(params=["in one", "in parts"])
def large(inbox: S3Inbox, request: pytest.FixtureRequest) -> S3Inbox:
    """An inbox that large images are put into, in one request or in parts, which gives another kind of etag."""
    limit = LARGE if request.param == "in one" else LARGE - 1
    return replace(inbox, place=replace(inbox.place, multipart_above=limit))


def frame(shade: int) -> bytes:
    return bytes([shade]) * LARGE


def test_another_content_is_another_identity_and_so_is_the_same_at_another_time(inbox: S3Inbox) -> None:
    drop(inbox, "a.png")
    first = inbox.arrivals()["a.png"]
    inbox.place.put("a.png", b"other")
    assert inbox.arrivals()["a.png"] != first
    with pytest.raises(FileNotFoundError, match=r"a\.png is no longer in s3://"):
        inbox.fetch("a.png", first)
    drop(inbox, "a.png")
    put_long_ago(inbox.place, 1, "a.png")
    assert inbox.arrivals()["a.png"] != first


def test_a_large_file_that_is_written_again_with_the_same_size_is_another(large: S3Inbox) -> None:
    large.place.put("frame.bmp", frame(1))
    first = large.arrivals()["frame.bmp"]
    large.place.put("frame.bmp", frame(2))
    assert large.arrivals()["frame.bmp"] != first
    with pytest.raises(FileNotFoundError):
        large.fetch("frame.bmp", first)


def test_each_of_the_same_name_and_size_is_found_in_its_night(large: S3Inbox) -> None:
    identities = []
    for shade, night in ((1, NIGHT), (2, NIGHT), (3, NEXT_NIGHT)):
        large.place.put("frame.bmp", frame(shade))
        identities.append(large.arrivals()["frame.bmp"])
        large.claim(night, over=False)
    assert [large.fetch("frame.bmp", identity)[0] for identity in identities] == [1, 2, 3]
    assert [replace(large).fetch("frame.bmp", identity)[0] for identity in reversed(identities)] == [3, 2, 1]


@pytest.mark.slow
def test_what_was_overwritten_before_its_claim_was_carried_out_is_not_taken_for_its_successor(
    large: S3Inbox, proxy: Proxy
) -> None:
    large.place.put("frame.bmp", frame(1))
    lost = large.arrivals()["frame.bmp"]
    broken = replace(large, place=replace(large.place, endpoint=proxy.endpoint, attempts=1))
    proxy.fault = lambda request: Answer(403, "AccessDenied") if is_copy(request) else None
    with pytest.raises(StoreUnavailable):
        broken.claim(NIGHT, over=False)
    large.place.put("frame.bmp", frame(2))
    found = large.arrivals()["frame.bmp"]
    large.claim(NIGHT, over=False)
    assert large.fetch("frame.bmp", found)[0] == 2
    with pytest.raises(FileNotFoundError):
        large.fetch("frame.bmp", lost)


@pytest.mark.slow
def test_nights_are_not_listed_to_fetch_what_they_took_or_what_is_gone(inbox: S3Inbox, proxy: Proxy) -> None:
    names = [f"{i}.png" for i in range(20)]
    drop(inbox, *names, "gone.png")
    identities = inbox.arrivals()
    inbox.place.delete("gone.png")
    inbox.claim(NIGHT, over=True)
    far = replace(inbox, place=replace(inbox.place, endpoint=proxy.endpoint))
    assert [far.fetch(name, identities[name]) for name in names] == [name.encode() for name in names]
    with pytest.raises(FileNotFoundError):
        far.fetch("gone.png", identities["gone.png"])
    listed = [request.path for request in proxy.asked if "list-type=2" in request.path and "claimed" in request.path]
    assert all("journal" in path for path in listed)
    assert sum("00000001.json" in request.path for request in proxy.asked) == 1


def test_an_identity_of_an_older_release_is_not_found(inbox: S3Inbox) -> None:
    drop(inbox, "a.png")
    inbox.claim(NIGHT, over=True)
    with pytest.raises(FileNotFoundError):
        inbox.fetch("a.png", '5-"0cc175b9c0f1b6a831c399e269772661"')


@pytest.mark.parametrize("name", ["a.png", "folder/a.png"])
def test_an_arrival_is_found_in_whichever_night_has_claimed_it(inbox: S3Inbox, name: str) -> None:
    drop(inbox, name)
    identity = inbox.arrivals()[name]
    inbox.claim(NIGHT, over=True)
    inbox.place.put(name, b"its namesake")
    inbox.claim(NEXT_NIGHT, over=True)
    assert inbox.fetch(name, identity) == name.encode()


def test_an_arrival_that_can_be_no_image_is_refused_before_it_is_fetched(
    inbox: S3Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(inbox, "a.png")
    identity = inbox.arrivals()["a.png"]
    monkeypatch.setattr("mnist_pipeline.inbox.mailbox.LARGEST_FILE", 2)
    with pytest.raises(UnreadableImage, match="5 bytes, more than 2"):
        inbox.fetch("a.png", identity)
