"""Versions of a model: files and a card, written once and never changed.

Here: how a version is named, written, verified and found again.
Not here: how bytes reach the disk (`blobs.py`), which of them serves (`ledger.py`), what files hold (`ml/`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mnist_pipeline.storage.blobs import BlobExists, BlobMissing, BlobStore, check_part
from mnist_pipeline.storage.sealed import now, seal, sha256, unseal

LABEL = re.compile(r"[a-z0-9][a-z0-9.-]{0,150}")
CARD = "card.json"


class UnknownVersion(LookupError):
    """No such version, or no such file in it; the message names those that there are."""


class CorruptVersion(Exception):
    """A version is not what was stored; the message names version, file and what to do. Never serve it."""


@dataclass(frozen=True)
class Card:
    """What is known about a version; its `card.json`."""

    name: str
    digest: str  # sha256 over the lines "name:sha256" of the files, sorted
    config: dict[str, Any]  # architecture and every hyper-parameter
    metrics: dict[str, float]
    class_names: list[str]
    preparation: str
    dataset: str
    data_version: str
    code_version: str
    run_id: str
    created: str  # ISO 8601, UTC
    files: dict[str, str]  # file name -> sha256


@dataclass(frozen=True)
class Versions:
    """Versions in a blob store, each under `versions/<name>/`. Holds no state: every answer is read anew.

    Any method may raise BadKey (a name such as ../../x) and StoreUnavailable (disk or network failed).
    """

    blobs: BlobStore

    def add_version(
        self,
        files: Mapping[str, bytes],
        *,
        label: str,
        metrics: Mapping[str, float],
        config: Mapping[str, Any],
        class_names: Sequence[str],
        preparation: str,
        dataset: str,
        data_version: str,
        code_version: str,
        run_id: str,
    ) -> Card:
        """Store `files` as version `<label>-<12 digits of their digest>`; the same again gives the same card.

        The card is written last: a version is there whole, or not at all. What a killed writer left is
        completed. Raises ValueError for a label, file name or number that cannot be stored, CorruptVersion if
        what is there under this name differs.
        """
        sums = {check_part(file): sha256(data) for file, data in files.items()}
        if not LABEL.fullmatch(label):
            raise ValueError(f"{label!r} is no label for a version: it has to match {LABEL.pattern}")
        if not sums or CARD in sums:
            raise ValueError(f"a version has at least one file, and none called {CARD}: got {sorted(sums)}")
        digest = _digest(sums)
        card = Card(
            name=f"{label}-{digest[:12]}",
            digest=digest,
            config=dict(config),
            metrics=dict(metrics),
            class_names=list(class_names),
            preparation=preparation,
            dataset=dataset,
            data_version=data_version,
            code_version=code_version,
            run_id=run_id,
            created=now(),
            files=sums,
        )
        sealed = seal(card)  # before anything is written, because it refuses NaN
        if not self._has(card.name):
            self._write(card.name, files, sealed)
        return self._whole(card.name)[0]

    def versions(self) -> list[str]:
        """The names of all versions, sorted."""
        parts = (key.split("/") for key in self.blobs.list("versions/"))
        return [part[1] for part in parts if len(part) == 3 and part[2] == CARD]

    def card(self, name: str) -> Card:
        """The card of a version. Raises UnknownVersion, CorruptVersion."""
        return self._card(name)[0]

    def load(self, name: str) -> dict[str, bytes]:
        """All files of a version, each verified. Raises UnknownVersion, CorruptVersion."""
        return self._whole(name)[1]

    def read_file(self, name: str, file: str) -> bytes:
        """One file of a version, verified. Raises UnknownVersion, CorruptVersion."""
        return self._file(self.card(name), file)

    def _has(self, name: str) -> bool:
        try:
            self._card(name)
        except UnknownVersion:
            return False
        return True

    def _write(self, name: str, files: Mapping[str, bytes], sealed: bytes) -> None:
        for file, data in files.items():
            try:
                self.blobs.create(f"versions/{name}/{file}", data)
            except BlobExists:  # a killed writer, or one at work now, has this file; the name implies the bytes
                if self.blobs.read(f"versions/{name}/{file}") != data:
                    raise corrupt(name, file, "an unfinished writer left other bytes; delete this blob") from None
        with suppress(BlobExists):  # the same version was completed in this moment: the card there is counts
            self.blobs.create(f"versions/{name}/{CARD}", sealed)

    def _card(self, name: str) -> tuple[Card, str]:
        """A card, and the sha256 of its bytes."""
        try:
            data = self.blobs.read(f"versions/{check_part(name)}/{CARD}")
        except BlobMissing:
            known = ", ".join(self.versions()) or "none yet: train one first"
            raise UnknownVersion(f"there is no version {name!r}; the store has {known}") from None
        try:
            card = unseal(Card, data)
        except ValueError as error:
            raise corrupt(name, CARD, str(error)) from error
        if (card.name, card.digest) != (name, _digest(card.files)) or not name.endswith(f"-{card.digest[:12]}"):
            raise corrupt(name, CARD, f"it is the card of {card.name} with files {card.digest}")
        return card, sha256(data)

    def _file(self, card: Card, file: str) -> bytes:
        if file not in card.files:
            raise UnknownVersion(f"version {card.name} has no file {file!r}; it has {', '.join(card.files)}")
        try:
            data = self.blobs.read(f"versions/{card.name}/{file}")
        except BlobMissing:
            raise corrupt(card.name, file, "the file is missing") from None
        if sha256(data) != card.files[file]:
            raise corrupt(card.name, file, "its sha256 is not the one on the card")
        return data

    def _whole(self, name: str) -> tuple[Card, dict[str, bytes], str]:
        """A verified version: card, files, sha256 of the card's bytes."""
        card, digest = self._card(name)
        return card, {file: self._file(card, file) for file in card.files}, digest


def corrupt(name: str, file: str, why: str) -> CorruptVersion:
    """The error about one file of a version."""
    return CorruptVersion(
        f"version {name}, {file}: {why}. Do not serve it: restore that file from a backup, roll back to "
        "another version, or train again"
    )


def _digest(sums: Mapping[str, str]) -> str:
    return sha256("\n".join(f"{file}:{sums[file]}" for file in sorted(sums)).encode())
