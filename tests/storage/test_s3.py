"""S3 when it misbehaves: what passes is tried again, what does not is said with bucket, key and cure."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from s3_server import Answer, Proxy, Request

from mnist_pipeline.storage.blobs import BlobExists, BlobMissing, StoreUnavailable, StoreUnreachable
from mnist_pipeline.storage.s3 import S3Blobs, S3Shelf
from mnist_pipeline.storage.s3_requests import Place

BUSY = Answer(503, "SlowDown")
MIB = 1024**2


@pytest.fixture
def far(place: Place, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The same place through the proxy, by an impatient client that waits a hundredth between tries."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    monkeypatch.setattr("mnist_pipeline.storage.s3_requests.PAUSE_S", 0.01)
    return replace(place, endpoint=proxy.endpoint, attempts=4, read_timeout_s=2.0, connect_timeout_s=1.0)


@pytest.fixture
def blobs(far: Place) -> S3Blobs:
    return S3Blobs(far)


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def doings(blobs: S3Blobs) -> dict[str, Callable[[], object]]:
    """Every kind of request."""
    return {
        "read": lambda: blobs.read("a/b"),
        "write": lambda: blobs.create("a/c", b"data"),
        "list": lambda: blobs.list("a/"),
        "delete": lambda: blobs.place.delete("a/b"),
    }


# --- what is tried again ---


def test_busy_three_times_then_well_is_well(blobs: S3Blobs, proxy: Proxy) -> None:
    blobs.create("a/b", b"data")
    for name, do in doings(blobs).items():
        proxy.asked.clear()
        proxy.script(BUSY, Answer(500, "InternalError"), BUSY)
        do()
        assert len(proxy.asked) == 4, name
    assert blobs.list("") == ["a/c"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy_for_good_ends_after_as_many_tries_as_are_set(blobs: S3Blobs, proxy: Proxy, status: int) -> None:
    proxy.fault = lambda request: Answer(status, "SlowDown" if status == 429 else "")
    for action, do in doings(blobs).items():
        proxy.asked.clear()
        key = "a/" if action == "list" else "a/[bc]"
        with pytest.raises(
            StoreUnreachable, match=rf"cannot {action} s3://bucket-\w+/some/prefix/{key} at http.*try again later"
        ):
            do()
        assert len(proxy.asked) == blobs.place.attempts


def test_the_number_of_tries_is_a_setting(far: Place, proxy: Proxy) -> None:
    proxy.fault = lambda request: BUSY
    with pytest.raises(StoreUnreachable):
        replace(far, attempts=2).get("a")
    assert len(proxy.asked) == 2


@pytest.mark.slow
def test_a_server_that_stays_busy_is_asked_on_when_the_quota_of_retries_is_used_up(
    blobs: S3Blobs, proxy: Proxy
) -> None:
    answers = itertools.cycle([BUSY, BUSY, None])
    proxy.fault = lambda request: next(answers)
    for number in range(150):  # boto3 alone gives up at about the hundredth
        blobs.create(f"a/{number}", b"data")
    assert len(proxy.asked) == 450


def test_two_conditional_writes_that_collide_are_tried_again(blobs: S3Blobs, proxy: Proxy) -> None:
    proxy.script(*[Answer(409, "ConditionalRequestConflict")] * 2)
    blobs.create("a", b"data")
    assert [request.headers["If-None-Match"] for request in proxy.asked] == ["*"] * 3
    assert blobs.read("a") == b"data"


def test_a_collision_that_never_ends_is_told_as_what_may_pass(blobs: S3Blobs, proxy: Proxy) -> None:
    proxy.fault = lambda request: Answer(409, "ConditionalRequestConflict")
    with pytest.raises(StoreUnreachable, match="ConditionalRequestConflict"):
        blobs.create("a", b"data")
    assert len(proxy.asked) == blobs.place.attempts


def test_a_key_that_is_taken_is_no_fault_and_not_tried_again(blobs: S3Blobs, proxy: Proxy) -> None:
    proxy.script(Answer(412, "PreconditionFailed"))
    with pytest.raises(BlobExists):
        blobs.create("a", b"data")
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("lost", [Answer(503, "SlowDown", told=True), Answer(cut=0.0, code="x", told=True)])
def test_an_answer_that_is_lost_after_the_write_is_a_key_that_is_taken(
    blobs: S3Blobs, proxy: Proxy, lost: Answer
) -> None:
    proxy.script(replace(lost, status=500 if lost.cut == 0 else 503), only=is_put)
    with pytest.raises(BlobExists):
        blobs.create("a", b"mine")
    assert blobs.read("a") == b"mine"


@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_a_body_that_breaks_off_is_read_again(far: Place, proxy: Proxy, tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    far.put("a", data)
    proxy.script(Answer(cut=0.5, told=True), Answer(cut=0.0, told=True))
    assert far.get("a") == data
    proxy.script(Answer(cut=0.7, told=True))
    far.fetch("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == data


def test_a_body_that_always_breaks_off_is_no_shorter_blob(far: Place, proxy: Proxy, tmp_path: Path) -> None:
    far.put("a", b"x" * MIB)
    proxy.fault = lambda request: Answer(cut=0.5, told=True)
    with pytest.raises(StoreUnreachable, match=r"cannot read s3://.*/a at .*no whole answer came"):
        far.get("a")
    with pytest.raises(StoreUnreachable), S3Shelf(far).local("a"):
        pass


@pytest.mark.slow
def test_a_server_that_stalls_is_waited_for_as_long_as_is_set(far: Place, proxy: Proxy) -> None:
    far.put("a", b"data")
    impatient = replace(far, read_timeout_s=0.3, attempts=2)
    proxy.script(Answer(stall_s=30, told=True))
    assert impatient.get("a") == b"data"
    proxy.fault = lambda request: Answer(stall_s=30)
    with pytest.raises(StoreUnreachable, match=r"no whole answer came .*[Tt]imeout"):
        impatient.get("a")


def test_a_server_that_is_gone_is_named(far: Place) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = replace(far, endpoint=f"http://127.0.0.1:{free.getsockname()[1]}", attempts=2)
    for do in doings(S3Blobs(gone)).values():
        with pytest.raises(StoreUnreachable, match=rf"at {gone.endpoint}: no whole answer came .*S3_ENDPOINT_URL"):
            do()


# --- what waits for somebody ---

CURES = {
    "AccessDenied": (403, "allow these credentials s3:GetObject"),
    "InvalidAccessKeyId": (403, "the access key is not known there: check AWS_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": (403, "the secret key does not fit"),
    "ExpiredToken": (400, "the session token has expired"),
    "InvalidToken": (400, "renew AWS_SESSION_TOKEN"),
    "RequestTimeTooSkewed": (403, "this machine's clock is wrong"),
    "NoSuchBucket": (404, "there is no such bucket: create it, or correct MNIST_S3_BUCKET"),
    "PermanentRedirect": (301, r"in another region \(eu-west-3\): set AWS_DEFAULT_REGION"),
    "AuthorizationHeaderMalformed": (400, r"in another region \(eu-west-3\): set AWS_DEFAULT_REGION"),
    "NotImplemented": (501, "If-None-Match"),
    "QuotaExceeded": (403, "the storage is full or its quota used up"),
    "InvalidObjectState": (403, "the object is archived"),
    "": (403, "access denied"),
    "Unheard": (418, r"the server refused it: see its answer \(HTTP 418 Unheard: told to say Unheard\)"),
}


@pytest.mark.parametrize("code", CURES)
def test_what_does_not_pass_by_itself_names_bucket_key_and_cure(blobs: S3Blobs, proxy: Proxy, code: str) -> None:
    status, cure = CURES[code]
    region = "<Region>eu-west-3</Region>" if "region" in cure else ""
    proxy.fault = lambda request: Answer(status, code, region, {"x-amz-bucket-region": "eu-west-3"} if region else {})
    for action, do in doings(blobs).items():
        proxy.asked.clear()
        with pytest.raises(
            StoreUnavailable, match=rf"cannot {action} s3://bucket-\w+/some/prefix/a/.*{cure}"
        ) as caught:
            do()
        assert not isinstance(caught.value, StoreUnreachable)
        assert len(proxy.asked) <= 2  # boto3 follows a redirect once


def test_a_bucket_that_vanished_is_no_empty_store_and_no_missing_blob(s3_endpoint: str) -> None:
    vanished = S3Blobs(Place("no-such-bucket", "p", s3_endpoint))
    for do in (*doings(vanished).values(), lambda: vanished.delete("a")):
        with pytest.raises(StoreUnavailable, match=r"s3://no-such-bucket/p/.*there is no such bucket"):
            do()


@pytest.mark.usefixtures("s3_endpoint")
def test_no_credentials_are_said_so(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StoreUnavailable, match=r"there are no credentials .*check AWS_ACCESS_KEY_ID"):
        Place("bucket", "", proxy.endpoint, attempts=3).get("a")
    assert proxy.asked == []


def test_a_key_that_is_not_there_is_missing_and_asked_for_once(blobs: S3Blobs, proxy: Proxy) -> None:
    with pytest.raises(BlobMissing):
        blobs.read("a")
    assert len(proxy.asked) == 1


# --- large ones ---


@pytest.fixture
def large(far: Place) -> Place:
    return replace(far, multipart_above=6 * MIB, part_bytes=5 * MIB)


def is_part(request: Request) -> bool:
    return "partNumber=" in request.path


@pytest.mark.parametrize("size", [6 * MIB, 6 * MIB + 1, 10 * MIB, 13 * MIB])
def test_what_is_large_goes_in_parts_and_comes_back(large: Place, proxy: Proxy, tmp_path: Path, size: int) -> None:
    data = bytes(range(251)) * (size // 251) + bytes(size % 251)
    (tmp_path / "file").write_bytes(data)
    large.put("bytes", data, new=True)
    S3Shelf(large).put_file("file", tmp_path / "file")
    parts = sum(map(is_part, proxy.asked))
    assert parts == (0 if size <= large.multipart_above else 2 * -(-size // large.part_bytes))
    assert large.get("bytes") == large.get("file") == data


def test_a_large_blob_is_never_overwritten_and_leaves_no_parts(large: Place) -> None:
    large.put("a", b"first", new=True)
    with pytest.raises(BlobExists):
        large.put("a", bytes(7 * MIB), new=True)
    assert large.get("a") == b"first"
    assert uploads(large) == []
    large.put("a", bytes(7 * MIB))
    assert large.get("a") == bytes(7 * MIB)


def uploads(place: Place) -> list[str]:
    """Keys of uploads that were begun and neither ended nor aborted."""
    return [each["Key"] for each in place._client().list_multipart_uploads(Bucket=place.bucket).get("Uploads", [])]


def test_a_part_that_fails_is_sent_again(large: Place, proxy: Proxy) -> None:
    proxy.script(BUSY, BUSY, only=is_part)
    large.put("a", bytes(7 * MIB))
    assert large.get("a") == bytes(7 * MIB)


@pytest.mark.parametrize("answer", [BUSY, Answer(403, "AccessDenied")])
def test_a_large_write_that_fails_leaves_nothing(large: Place, proxy: Proxy, answer: Answer) -> None:
    proxy.fault = lambda request: answer if "partNumber=2" in request.path else None
    with pytest.raises(StoreUnavailable, match="cannot write s3://"):
        large.put("a", bytes(7 * MIB))
    assert list(large.entries("")) == []
    assert uploads(large) == []


def test_a_large_write_that_collides_or_lost_its_upload_begins_anew(large: Place, proxy: Proxy) -> None:
    completes = [Answer(409, "ConditionalRequestConflict"), Answer(404, "NoSuchUpload")]
    proxy.script(*completes, only=lambda request: request.method == "POST" and "uploadId=" in request.path)
    large.put("a", bytes(7 * MIB), new=True)
    assert large.get("a") == bytes(7 * MIB)
    assert uploads(large) == []


def test_what_is_too_large_for_one_copy_is_copied_in_parts(large: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_pipeline.storage.s3_requests.LARGEST_COPY", MIB)
    large.put("a", bytes(2 * MIB))
    (entry,) = large.entries("a")
    assert large.copy(entry, "b")
    assert large.get("b") == bytes(2 * MIB)


# --- listing and threads ---


def test_a_page_that_fails_in_the_middle_is_no_short_list(place: Place, far: Place, proxy: Proxy) -> None:
    keys = [f"k/{number}" for number in range(5)]
    for key in keys:
        place.put(key, b"")
    proxy.fault = lambda request: Answer(403, "AccessDenied") if "start-after" in request.path else None
    with pytest.raises(StoreUnavailable, match="access denied"):
        list(far.entries("", page=2))
    proxy.script(None, BUSY, None, BUSY)
    assert [entry.name for entry in far.entries("", page=2)] == keys


def test_threads_share_one_client(far: Place, proxy: Proxy) -> None:
    far.put("a", b"data")
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append((far.get("a"), id(far._client())))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
