"""The blob store: one contract, run against every backend, and what only a disk can do wrong.

A new backend joins by adding the name of its fixture to ALONE (one process) and SHARED (many processes).
"""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_blobs import MemoryBlobs, environment

from mnist_pipeline.storage.blobs import (
    STALE_AFTER,
    BadKey,
    BlobExists,
    BlobMissing,
    BlobStore,
    DiskBlobs,
    StoreUnavailable,
    check_key,
)
from mnist_pipeline.storage.s3 import S3Blobs
from mnist_pipeline.storage.s3_requests import Place

SHARED = ["disk_blobs", "s3_blobs"]
ALONE = ["memory_blobs", *SHARED]
BAD_KEYS = [
    *["", "/", "a/", "/a", "a//b", ".", "..", "../../x", "a/../b", "a/..", "a..b", ".tmp/x", "a/.hidden"],
    *["-a", "a b", "a\\b", "a\n", "a\0b", "é", "a:b", "~root", "C:\\x", "a" * 201, "/".join(["a" * 99] * 10)],
]


@pytest.fixture
def memory_blobs() -> BlobStore:
    return MemoryBlobs()


@pytest.fixture
def disk_blobs(tmp_path: Path) -> BlobStore:
    return DiskBlobs(tmp_path / "store")


@pytest.fixture
def s3_blobs(place: Place) -> BlobStore:
    return S3Blobs(place)


@pytest.fixture(params=ALONE)
def blobs(request: pytest.FixtureRequest) -> BlobStore:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=SHARED)
def shared_blobs(request: pytest.FixtureRequest) -> BlobStore:
    return request.getfixturevalue(request.param)


# --- the contract ---


@pytest.mark.parametrize("data", [b"", b"\0\xff\r\n", b"x" * 3_000_000], ids=["empty", "binary", "3 MB"])
def test_what_is_created_can_be_read(blobs: BlobStore, data: bytes) -> None:
    blobs.create("versions/a-1/weights.safetensors", data)
    assert blobs.read("versions/a-1/weights.safetensors") == data


def test_a_blob_is_never_overwritten(blobs: BlobStore) -> None:
    blobs.create("a/b", b"first")
    with pytest.raises(BlobExists, match="'a/b' is there already"):
        blobs.create("a/b", b"second")
    with pytest.raises(BlobExists):
        blobs.create("a/b", b"first")
    assert blobs.read("a/b") == b"first"


@pytest.mark.parametrize("key", ["nothing", "a", "a/b/c", "a/c"])
def test_a_missing_blob_is_said_to_be_missing(blobs: BlobStore, key: str) -> None:
    blobs.create("a/b", b"")
    with pytest.raises(BlobMissing) as caught:
        blobs.read(key)
    assert str(caught.value) == f"there is no blob {key!r} in the store"
    with pytest.raises(BlobMissing):
        blobs.delete(key)


def test_an_untouched_store_is_empty(blobs: BlobStore) -> None:
    assert blobs.list("") == []
    assert blobs.list("decisions/") == []
    with pytest.raises(KeyError):
        blobs.read("decisions/00000001.json")


def test_list_gives_the_keys_under_a_prefix_sorted(blobs: BlobStore) -> None:
    for key in ["b/2", "b/10", "a", "b/2.x/y", "bb/1", "b/1"]:
        blobs.create(key, b"")
    assert blobs.list("") == ["a", "b/1", "b/10", "b/2", "b/2.x/y", "bb/1"]
    assert blobs.list("b/") == ["b/1", "b/10", "b/2", "b/2.x/y"]
    assert blobs.list("b") == ["b/1", "b/10", "b/2", "b/2.x/y", "bb/1"]
    assert blobs.list("b/1") == ["b/1", "b/10"]
    assert blobs.list("a/") == blobs.list("c/d/") == []


@pytest.mark.slow
def test_list_does_not_stop_at_a_thousand(blobs: BlobStore) -> None:
    keys = [f"decisions/{number:08d}.json" for number in range(1_050)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: blobs.create(key, b""), keys))
    assert blobs.list("decisions/") == keys


def test_a_deleted_blob_is_gone_and_its_key_is_free(blobs: BlobStore) -> None:
    blobs.create("a/b", b"first")
    blobs.create("a/c", b"")
    blobs.delete("a/b")
    assert blobs.list("") == ["a/c"]
    blobs.create("a/b", b"second")
    assert blobs.read("a/b") == b"second"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_name_outside_the_pattern_is_refused_everywhere(blobs: BlobStore, key: str) -> None:
    for attempt in (blobs.read, blobs.delete, lambda bad: blobs.create(bad, b"")):
        with pytest.raises(BadKey, match="is no name for the store: use"):
            attempt(key)
    assert blobs.list("") == []


@pytest.mark.parametrize("prefix", ["../", "../../x", "/", "a/../", ".tmp/", "a//", "a\\"])
def test_a_prefix_outside_the_pattern_is_refused(blobs: BlobStore, prefix: str) -> None:
    with pytest.raises(BadKey):
        blobs.list(prefix)


RACER = """
import pickle, sys
from mnist_pipeline.storage.blobs import BlobExists
blobs, keys, own = pickle.load(sys.stdin.buffer)
print("ready", flush=True)
sys.stdin.buffer.read(1)
for key in keys:
    try:
        blobs.create(key, own)
        print(key, "won")
    except BlobExists:
        print(key, "lost" if len(blobs.read(key)) == len(own) else "half-written")
"""


@pytest.mark.slow
def test_of_eight_racing_processes_exactly_one_wins_each_key(shared_blobs: BlobStore) -> None:
    keys = [f"race/{number}" for number in range(20)]
    payloads = [bytes([letter]) * 200_000 for letter in b"abcdefgh"]
    command = [sys.executable, "-c", RACER]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) for _ in payloads
    ]
    for racer, own in zip(racers, payloads, strict=True):
        racer.stdin.write(pickle.dumps((shared_blobs, keys, own)))
        racer.stdin.flush()
    assert {racer.stdout.readline() for racer in racers} == {b"ready\n"}
    for racer in racers:
        racer.stdin.write(b"!")
        racer.stdin.flush()
    told = [dict(line.split() for line in racer.communicate()[0].decode().splitlines()) for racer in racers]
    for key in keys:
        outcomes = [each[key] for each in told]
        assert sorted(outcomes) == ["lost"] * 7 + ["won"]
        assert shared_blobs.read(key) == payloads[outcomes.index("won")]
    assert shared_blobs.list("") == sorted(keys)


# --- names ---


@given(st.one_of(st.text(max_size=30), st.text("aZ0._-/\\", max_size=12)))
@settings(max_examples=300, deadline=None)
def test_no_name_whatever_leads_outside(name: str) -> None:
    try:
        key = check_key(name)
    except BadKey:
        return
    path = os.path.normpath(Path("/root/of/store") / key)
    assert path == f"/root/of/store/{key}"
    assert not any(part.startswith(".") for part in key.split("/"))


def test_names_of_versions_and_decisions_are_accepted() -> None:
    for key in [
        "versions/digitcnn-16x32x64-adamw-b256-e2-acc9915-1a2b3c4d5e6f/card.json",
        "decisions/00000042.json",
    ]:
        assert check_key(key) == key
    assert check_key("a" * 200)


# --- the disk ---


def test_nothing_touches_the_disk_before_the_first_create(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path / "not" / "yet")
    assert blobs.list("") == []
    assert list(tmp_path.iterdir()) == []


def test_a_bad_name_writes_nothing_outside(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path / "deep" / "store")
    with pytest.raises(BadKey):
        blobs.create("../../x", b"")
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_are_no_blobs(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path)
    blobs.create("a/b", b"")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "a" / "b~").touch()
    (tmp_path / "a" / "with space").touch()
    assert blobs.list("") == ["a/b"]


def test_nothing_temporary_is_left(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path)
    blobs.create("a/b", b"")
    with pytest.raises(BlobExists):
        blobs.create("a/b", b"")
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_what_a_killed_writer_left_is_swept_after_a_day(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path)
    blobs.create("a", b"")
    killed, at_work = tmp_path / ".tmp" / "killed", tmp_path / ".tmp" / "at-work"
    killed.write_bytes(b"half")
    at_work.write_bytes(b"half")
    long_ago = time.time() - STALE_AFTER - 60
    os.utime(killed, (long_ago, long_ago))
    blobs.create("b", b"")
    assert list((tmp_path / ".tmp").iterdir()) == [at_work]
    assert blobs.list("") == ["a", "b"]


def test_a_key_that_leads_through_a_blob_is_refused(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path)
    blobs.create("a", b"whole")
    for key in ["a/b", "a/b/c"]:
        with pytest.raises(BadKey, match="leads through another blob"):
            blobs.create(key, b"")
    assert blobs.read("a") == b"whole"


def test_a_root_that_is_a_file_is_an_error_and_no_empty_store(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("I was here first")
    blobs = DiskBlobs(tmp_path / "store")
    with pytest.raises(StoreUnavailable, match="store"):
        blobs.list("")
    with pytest.raises(StoreUnavailable):
        blobs.create("a", b"")
    assert (tmp_path / "store").read_text() == "I was here first"


def run_child(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_write_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    said = run_child(
        "import resource, sys; from pathlib import Path; from mnist_pipeline.storage.blobs import *\n"
        "blobs = DiskBlobs(Path(sys.argv[1])); blobs.create('before', b'old')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: blobs.create('versions/a/weights', b'w' * 1_000_000)\n"
        "except StoreUnavailable as error: print(error)\n"
        "blobs.create('small', b'new')\n",
        str(tmp_path),
    )
    assert f"cannot write {tmp_path}/versions/a/weights: larger than" in said
    assert "ulimit" in said
    assert DiskBlobs(tmp_path).list("") == ["before", "small"]
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_a_folder_without_permission_is_said_so_and_never_looks_empty(tmp_path: Path) -> None:
    blobs = DiskBlobs(tmp_path / "store")
    blobs.create("a/b", b"")
    os.chmod(tmp_path / "store", 0)  # noqa: PTH101
    said = run_child(
        "import os, sys; from pathlib import Path; from mnist_pipeline.storage.blobs import *\n"
        "os.getuid() or os.setuid(65534)\n"  # root may do everything: become nobody
        "blobs = DiskBlobs(Path(sys.argv[1]))\n"
        "for attempt in (blobs.list, blobs.read, blobs.delete, lambda key: blobs.create(key, b'')):\n"
        "    try: attempt('a/b')\n"
        "    except StoreUnavailable as error: print(error)\n",
        str(tmp_path / "store"),
    )
    os.chmod(tmp_path / "store", 0o700)  # noqa: PTH101
    assert said.count("permission denied: run as a user who may") == 4
    assert blobs.list("") == ["a/b"]


def test_a_file_system_without_hard_links_is_refused_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:  # as link(2) answers on exFAT
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    blobs = DiskBlobs(tmp_path)
    with pytest.raises(StoreUnavailable, match=r"refuses hard links .* in S3"):
        blobs.create("a", b"")
    assert blobs.list("") == []
    assert list((tmp_path / ".tmp").iterdir()) == []
