"""From a location, which is a folder or s3://bucket/prefix, to what keeps bytes there."""

import re
from pathlib import Path

from mnist_pipeline.storage.blobs import BlobStore, DiskBlobs
from mnist_pipeline.storage.s3 import S3Blobs, S3Shelf
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.storage.shelves import DiskShelf, Shelf

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
LONGEST_PREFIX = 120  # bytes; S3 allows 1,024 a key, and a blob's own name may have 900


class BadLocation(ValueError):
    """A location or endpoint that leads nowhere; the message says how it is written."""


def blobs_at(location: str, endpoint: str = "") -> BlobStore:
    """Blobs that are never replaced. endpoint: of an S3-compatible server, empty for AWS. Raises BadLocation."""
    place = place_at(location, endpoint)
    return DiskBlobs(place) if isinstance(place, Path) else S3Blobs(place)


def shelf_at(location: str, endpoint: str = "") -> Shelf:
    """Files that may be replaced. Raises BadLocation."""
    place = place_at(location, endpoint)
    return DiskShelf(place) if isinstance(place, Path) else S3Shelf(place)


def place_at(location: str, endpoint: str = "") -> Path | Place:
    """A folder of this disk, or a prefix in S3. Nothing is read yet. Raises BadLocation."""
    scheme, separator, rest = location.partition("://")
    if not separator:
        if not location or scheme.startswith("s3:"):
            raise BadLocation(f"{location!r} is no location: write a folder, or s3://bucket/prefix")
        return Path(location)
    if scheme != "s3":
        raise BadLocation(f"{location!r}: only folders and s3://bucket/prefix are read and written")
    if endpoint and not re.match(r"https?://[^/]", endpoint):
        raise BadLocation(f"S3_ENDPOINT_URL={endpoint!r} is no address: write it like http://127.0.0.1:9000")
    bucket, _, prefix = rest.partition("/")
    return Place(_bucket(bucket, location), _prefix(prefix.strip("/"), location), endpoint)


def _bucket(bucket: str, location: str) -> str:
    if not _BUCKET.fullmatch(bucket):
        raise BadLocation(f"{location!r} names no bucket: write it like s3://bucket/prefix")
    return bucket


def _prefix(prefix: str, location: str) -> str:
    if prefix and {"", ".", ".."} & set(prefix.split("/")):
        raise BadLocation(f"{location!r}: a prefix has no empty part, no '.' and no '..'")
    if len(prefix.encode()) > LONGEST_PREFIX:
        raise BadLocation(f"{location!r}: the prefix is longer than {LONGEST_PREFIX} bytes")
    return prefix
