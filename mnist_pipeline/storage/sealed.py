"""Sealed JSON: how records of the model store are written, so that one changed byte shows.

Here: JSON in one canonical form, the seal, and reading both back.
Not here: what the records say (`model_versions.py`, `ledger.py`). A seal finds damage, not malice: who can
write to the store can seal anew, which is what the chain of decisions is for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CHUNK = 1 << 20  # bytes of a file in memory at once
Record = TypeVar("Record", bound="DataclassInstance")


def now() -> str:
    """The time in UTC, ISO 8601 with microseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def sha256(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    """64 hex digits of a file of any size. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def canonical(record: Mapping[str, Any]) -> bytes:
    """The one way in which `record` is written as JSON. Raises ValueError naming what JSON cannot hold."""
    if bad := ", ".join(_not_finite(record, "")):
        raise ValueError(f"only finite numbers can be stored, and these are not: {bad}")
    try:
        # Twice, because keys that are numbers sort differently once JSON has made strings of them.
        plain = json.loads(json.dumps(record))
        return (json.dumps(plain, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be stored as JSON: {error}") from error


def read_canonical(data: bytes) -> dict[str, Any]:
    """The object that `canonical` wrote. Raises ValueError if a single byte is not as it writes it."""
    record = json.loads(data.decode())
    if not isinstance(record, dict) or canonical(record) != data:
        raise ValueError("it is not JSON as it was written")
    return record


def seal(record: DataclassInstance) -> bytes:
    """A dataclass as canonical JSON, with the sha256 of the rest under "seal". Raises ValueError."""
    plain = asdict(record)
    return canonical({**plain, "seal": sha256(canonical(plain))})


def unseal(kind: type[Record], data: bytes) -> Record:
    """What `seal` wrote; fields that a later version added are ignored. Raises ValueError saying why."""
    record = read_canonical(data)
    if record.pop("seal", None) != sha256(canonical(record)):
        raise ValueError("its seal does not fit its content")
    known = {field.name for field in fields(kind)}
    try:
        return kind(**{name: value for name, value in record.items() if name in known})
    except TypeError as error:  # a field is missing
        raise ValueError(str(error)) from error


def _not_finite(value: Any, at: str) -> Iterator[str]:
    """Where in a JSON-like value the NaN and infinities are: "metrics.loss = nan"."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{at} = {value}"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{at}.{key}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            yield from _not_finite(inner, f"{at}[{place}]")
