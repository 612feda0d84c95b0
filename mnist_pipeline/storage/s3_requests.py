"""A place in S3 (a bucket, a prefix) and what can be asked of it, each request tried again where that helps.

Here: the client, retries, large uploads. boto3 itself tries again after 5xx, throttling and a lost connection; what it
leaves alone is done here: an answer that breaks off, two conditional writes that collide (409), and a server that has
been busy for so long that boto3's quota of retries is used up.
Not here: what a fault means (`s3_errors.py`), the contracts that are kept with it (`s3.py`).
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from mnist_pipeline.storage.blobs import BlobExists, BlobMissing
from mnist_pipeline.storage.s3_errors import code_of, explained

THREADS = 16  # requests at once of one caller; the pool of connections holds twice as many
CHUNK = 1 << 20
PAUSE_S = 0.1  # before the second try, at most twice that; doubled for each further one
LARGEST_COPY = 5 * 1024**3  # bytes that S3 copies in one request
COLLIDED = {"ConditionalRequestConflict", "OperationAborted", "NoSuchUpload"}
ABSENT = {"NoSuchKey", "404"}
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Entry:
    """One object of a listing. etag: changes with the content; modified: seconds since 1970; size: bytes."""

    name: str
    etag: str
    modified: float
    size: int


@dataclass(frozen=True)
class Place:
    """Objects under a prefix of a bucket. Names are what comes after the prefix and its '/'.

    endpoint: of an S3-compatible server, empty for AWS; times in seconds; attempts: how often a request is tried in
    all; multipart_above: bytes from which an upload is cut into parts of part_bytes (S3 wants 5 MiB at least).
    Credentials and region are found by boto3: AWS_… variables, profile, role.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    attempts: int = 7
    multipart_above: int = 64 * 1024**2
    part_bytes: int = 16 * 1024**2

    def key(self, name: str) -> str:
        """The key of an object in the bucket."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def where(self, name: str) -> str:
        """For people: the URL of an object."""
        return f"s3://{self.bucket}/{self.key(name)}"

    def get(self, name: str) -> bytes:
        """The whole object. Raises BlobMissing, StoreUnavailable."""
        return self._got(name, lambda body: bytes(body.read()))

    def fetch(self, name: str, path: Path) -> None:
        """The object into a file, a piece at a time. Raises BlobMissing, StoreUnavailable."""

        def write(body: Any) -> None:
            with path.open("wb") as file:
                for chunk in body.iter_chunks(CHUNK):
                    file.write(chunk)

        self._got(name, write)

    def put(self, name: str, data: bytes | Path, *, new: bool = False) -> None:
        """Write or replace an object, whole or not at all; where it has to be `new`, raises BlobExists instead.

        Raises StoreUnavailable. BlobExists can follow one's own write when the first answer was lost.
        """
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        free = {"IfNoneMatch": "*"} if new else {}
        upload = self._put_parts if size > self.multipart_above else self._put_whole
        with self._explained("write", name):
            try:
                self._again(lambda: upload(name, data, size, free))
            except _client_error() as error:
                if code_of(error) != "PreconditionFailed":
                    raise
                raise BlobExists(name) from None

    def entries(self, prefix: str, after: str = "", limit: int | None = None, page: int = 1_000) -> Iterator[Entry]:
        """Every object whose name begins with `prefix`, in the order of the keys' bytes; a page a request.

        after: begin behind this name; limit: end after so many. Raises StoreUnavailable.
        """
        left = limit or sys.maxsize
        while left:
            answer = self._page(prefix, after, min(left, page))
            for each in answer.get("Contents", []):
                after = each["Key"][len(self.key("")) :]
                yield Entry(after, each["ETag"], each["LastModified"].timestamp(), each["Size"])
            left = left - len(answer.get("Contents", [])) if answer["IsTruncated"] else 0

    def _page(self, prefix: str, after: str, size: int) -> Any:
        begin = {"StartAfter": self.key(after)} if after else {}
        at = {"Bucket": self.bucket, "Prefix": self.key(prefix), "MaxKeys": size}
        with self._explained("list", prefix):
            return self._again(lambda: self._client().list_objects_v2(**at, **begin))

    def has(self, name: str) -> bool:
        """Whether there is such an object; a missing bucket is an error, which a HEAD request could not tell."""
        return any(each.name == name for each in self.entries(name, limit=1))

    def delete(self, name: str, etag: str = "") -> None:
        """Remove an object, where an etag is given only if it still is that one; one that is gone is no error."""
        same = {"IfMatch": etag} if etag else {}
        with self._explained("delete", name):
            try:
                self._again(lambda: self._client().delete_object(Bucket=self.bucket, Key=self.key(name), **same))
            except _client_error() as error:
                if code_of(error) not in {*ABSENT, "PreconditionFailed"}:
                    raise

    def copy(self, entry: Entry, target: str) -> bool:
        """Copy an object as it was listed, within the server; False if it is gone or another one now."""
        source = {"Bucket": self.bucket, "Key": self.key(entry.name)}
        to = {"Bucket": self.bucket, "Key": self.key(target), "CopySource": source}
        with self._explained("copy", entry.name):
            try:
                if entry.size > LARGEST_COPY:
                    self._again(lambda: self._client().copy(**to, ExtraArgs={"CopySourceIfMatch": entry.etag}))
                else:
                    self._again(lambda: self._client().copy_object(**to, CopySourceIfMatch=entry.etag))
            except _client_error() as error:
                if code_of(error) not in {*ABSENT, "PreconditionFailed"}:
                    raise
                return False
        return True

    def now(self) -> float:
        """Seconds since 1970 by the server's clock, by which it dates objects."""
        from email.utils import parsedate_to_datetime

        answer = self._page("", "", 1)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(date).timestamp() if date else time.time()

    def _put_whole(self, name: str, data: bytes | Path, size: int, free: dict[str, str]) -> None:
        body = data.read_bytes() if isinstance(data, Path) else data
        self._client().put_object(Bucket=self.bucket, Key=self.key(name), Body=body, **free)

    def _put_parts(self, name: str, data: bytes | Path, size: int, free: dict[str, str]) -> None:
        """Nothing is there before the last request. A failed upload is aborted, since its parts cost money."""
        client, at = self._client(), {"Bucket": self.bucket, "Key": self.key(name)}
        upload = {**at, "UploadId": client.create_multipart_upload(**at)["UploadId"]}

        def send(number: int) -> dict[str, Any]:
            part = _piece(data, (number - 1) * self.part_bytes, self.part_bytes)
            return {"PartNumber": number, "ETag": client.upload_part(**upload, PartNumber=number, Body=part)["ETag"]}

        try:
            with ThreadPoolExecutor(4) as pool:
                parts = list(pool.map(send, range(1, -(-size // self.part_bytes) + 1)))
            client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **free)
        except BaseException:
            # What failed is raised; a lifecycle rule of the bucket ends what could not be aborted either.
            with suppress(*_any_error()):
                client.abort_multipart_upload(**upload)
            raise

    def _got(self, name: str, use: Callable[[Any], Answer]) -> Answer:
        def ask() -> Answer:
            return use(self._client().get_object(Bucket=self.bucket, Key=self.key(name))["Body"])

        with self._explained("read", name):
            try:
                return self._again(ask)
            except _client_error() as error:
                if code_of(error) not in ABSENT:
                    raise
                raise BlobMissing(name) from None

    def _again(self, ask: Callable[[], Answer]) -> Answer:
        """Ask until it works or has failed `attempts` times, for the faults that boto3 does not try again."""
        for attempt in range(1, self.attempts):
            try:
                return ask()
            except _any_error() as error:
                if not _may_pass(error):
                    raise
            time.sleep(random.uniform(0, min(5.0, PAUSE_S * 2**attempt)))
        return ask()

    def _explained(self, action: str, name: str) -> Any:
        server = f" at {self.endpoint}" if self.endpoint else ""
        return explained(action, f"{self.where(name)}{server}")

    def _client(self) -> Any:
        # by process, since a fork must not share connections
        return _client(os.getpid(), self.endpoint, self.connect_timeout_s, self.read_timeout_s, self.attempts)


@cache
def _client(process: int, endpoint: str, connect_timeout_s: float, read_timeout_s: float, attempts: int) -> Any:
    """One a process and configuration: making one takes a tenth of a second; threads may share it."""
    from boto3.session import Session
    from botocore.config import Config

    settings = Config(
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=2 * THREADS,
        tcp_keepalive=True,
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    return Session().client("s3", endpoint_url=endpoint or None, config=settings)


def _piece(data: bytes | Path, begin: int, size: int) -> bytes:
    if isinstance(data, bytes):
        return data[begin : begin + size]
    with data.open("rb") as file:
        file.seek(begin)
        return file.read(size)


def _may_pass(error: Any) -> bool:
    """Whether two conditional writes met, an answer broke off, or boto3 would have tried again if it still might."""
    from botocore import exceptions as known

    broken = (known.IncompleteReadError, known.ResponseStreamingError, known.FlexibleChecksumError)
    read_timeout = isinstance(error, known.ReadTimeoutError)
    if isinstance(error, _client_error()):
        return code_of(error) in COLLIDED or bool(error.response["ResponseMetadata"].get("RetryQuotaReached"))
    return isinstance(error, broken) or read_timeout


def _client_error() -> Any:
    from botocore.exceptions import ClientError

    return ClientError


def _any_error() -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError
