"""The inbox in S3: a prefix that programs put objects under, with the same nights as the folder has (`mailbox.py`).

S3 has no rename, so a claim is a copy and then a delete. What belongs to which night is settled before that, by a
journal: `.claimed/.journal/00000042.json` lists what claim 42 moves, and is created on the condition that there is no
claim 42 yet. Whoever comes next first carries out the newest journal, which does no harm when it is done already: so a
killed claim is completed, and of two at once one waits for nothing and the other one takes what is left.
"""

import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeVar

from mnist_pipeline.inbox.dropped import is_meant
from mnist_pipeline.inbox.mailbox import ALWAYS, CLAIMED, CLOSED, Inbox, Mailbox, Opened, Span, check_image_file
from mnist_pipeline.ml.array_files import is_array
from mnist_pipeline.ml.sources import IMAGE_SUFFIXES
from mnist_pipeline.storage.blobs import BlobExists, BlobMissing, explained
from mnist_pipeline.storage.s3_requests import THREADS, Entry, Place

JOURNAL = f"{CLAIMED}/.journal/"
KEPT_JOURNALS = 100  # a claim that slept through this many others could take a number that is long gone
LONGEST_NAME = 850  # bytes; S3 allows 1,024 a key, from which the prefix and the night are taken
LONGEST_SUFFIX = 20
Each = TypeVar("Each")


@dataclass(frozen=True)
class Move:
    """One object that a claim takes: as it was listed, and under which name of the night."""

    entry: Entry
    target: str


@dataclass(frozen=True)
class Claim:
    """What one journal says. over: the night takes nothing after this."""

    night: str
    over: bool
    moves: tuple[Move, ...]

    def to_json(self) -> bytes:
        """As it is stored."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Claim":
        """As it was stored."""
        plain = json.loads(data)
        moves = tuple(Move(Entry(**move["entry"]), move["target"]) for move in plain["moves"])
        return cls(plain["night"], plain["over"], moves)


class Moved:
    """What one claim moved, to look arrivals up by name and identity; targets are below the inbox here."""

    def __init__(self, claim: Claim) -> None:
        moves = [Move(each.entry, f"{CLAIMED}/{claim.night}/{each.target}") for each in claim.moves]
        self.arrivals = {(each.entry.name, _identity(each.entry)): each for each in moves}
        self.targets = {each.target for each in moves}


@dataclass(frozen=True)
class S3Inbox:
    """A prefix as a mailbox. settle_s: an object that was put less than this long ago waits for the next night."""

    place: Place
    settle_s: float = 5.0
    _moved: dict[str, Moved] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )  # journals never change

    def where(self) -> str:
        return self.place.where("").rstrip("/")

    def waiting(self) -> Sequence[PurePath]:
        return [PurePosixPath(entry.name) for entry in self._waiting()]

    def is_unused(self) -> bool:
        return not self._waiting() and not any(self.place.entries(f"{CLAIMED}/", limit=1))

    def claim(self, night: str, *, over: bool, span: Span = ALWAYS) -> list[str]:
        while not self._claimed(night, over, span):
            pass  # another claim was first: what it took is seen in the next round
        return self._night(night)

    def arrivals(self) -> dict[str, str]:
        ready = self.place.now() - self.settle_s
        images = [each for each in self._waiting() if PurePosixPath(each.name).suffix.lower() in IMAGE_SUFFIXES]
        whole = sorted((each.modified, each.name, each) for each in images if int(each.modified) <= ready)
        return {name: _identity(entry) for _, name, entry in whole}

    def fetch(self, name: str, identity: str) -> bytes:
        for entry in self.place.entries(name, limit=1):
            if entry.name == name and _identity(entry) == identity:
                check_image_file(name, entry.size)
                with suppress(BlobMissing):  # a night has taken it while we looked
                    return self.place.get(name)
        if kept := self._kept(name, identity):
            check_image_file(name, kept.entry.size)
            with suppress(BlobMissing):
                return self.place.get(kept.target)
        raise FileNotFoundError(f"{name} is no longer in {self.where()} as it was ({identity})")

    def _kept(self, name: str, identity: str) -> Move | None:
        """Where a night keeps an arrival, by the journals since it came: a copy need not have the same etag."""
        journals = [entry.name for entry in self.place.entries(JOURNAL) if entry.modified >= _came(identity)]
        newer: list[Moved] = []
        for journal in sorted(journals, reverse=True):
            if journal not in self._moved:
                self._moved[journal] = Moved(Claim.from_json(self.place.get(journal)))
            move = self._moved[journal].arrivals.get((name, identity))
            # a claim that found its object gone or changed left the target to a later one
            if move and not any(move.target in each.targets for each in newer):
                return move
            newer.append(self._moved[journal])
        return None

    @contextmanager
    def opened(self, night: str, files: Sequence[str]) -> Iterator[Opened]:
        """Under numbers, since an object's name need not be one that a file may have; the tables say the name."""
        names = {f"{number:08d}{_kind(name)}": name for number, name in enumerate(files)}
        with tempfile.TemporaryDirectory(prefix="night-") as scratch:
            folder = Path(scratch)

            def fetch(local: str) -> None:
                with explained("write", folder / local):
                    self.place.fetch(f"{CLAIMED}/{night}/{names[local]}", folder / local)

            _all_at_once(fetch, names)
            yield Opened(folder, list(names), names)

    def accept(self, write: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="inbox-") as scratch:
            folder = Path(scratch)
            write(folder)
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            _all_at_once(lambda path: self.place.put(path.relative_to(folder).as_posix(), path), files)
        time.sleep(self.settle_s)

    def _claimed(self, night: str, over: bool, span: Span) -> bool:
        """One try; False if another claim was first, in which case nothing has been done."""
        number = self._carry_out_newest()
        if self.place.has(f"{CLAIMED}/{night}/{CLOSED}"):
            return True
        moves = self._moves(night, span)
        if not moves and not over:
            return True
        claim = Claim(night, over, moves)
        try:
            self.place.put(_journal(number + 1), claim.to_json(), new=True)
        except BlobExists:
            return False
        self._carry_out(claim)
        if number > KEPT_JOURNALS:
            self.place.delete(_journal(number - KEPT_JOURNALS))
        return True

    def _moves(self, night: str, span: Span) -> tuple[Move, ...]:
        ready = self.place.now() - self.settle_s
        taken = set(self._night(night))
        found = []
        for entry in self._waiting():
            if int(entry.modified) <= ready and entry.modified in span:  # HTTP tells the time in whole seconds
                found.append(Move(entry, _target(entry.name, taken)))
                taken.add(found[-1].target)
        return tuple(found)

    def _carry_out_newest(self) -> int:
        """The number of the newest claim, which is complete afterwards; 0 before the first."""
        newest = max((entry.name for entry in self.place.entries(JOURNAL)), default="")
        if not newest:
            return 0
        self._carry_out(Claim.from_json(self.place.get(newest)))
        return int(newest.removeprefix(JOURNAL).removesuffix(".json"))

    def _carry_out(self, claim: Claim) -> None:
        """What is still there as it was listed is copied, then deleted; the rest was done before, or taken back."""
        there = set(self._waiting())

        def move(each: Move) -> None:
            if each.entry in there and self.place.copy(each.entry, f"{CLAIMED}/{claim.night}/{each.target}"):
                self.place.delete(each.entry.name, each.entry.etag)

        _all_at_once(move, claim.moves)
        if claim.over:
            self.place.put(f"{CLAIMED}/{claim.night}/{CLOSED}", b"")

    def _waiting(self) -> list[Entry]:
        """Names that begin with '.', which those of all nights are, lie together and are jumped over."""
        before = itertools.takewhile(lambda entry: entry.name[:1] != ".", self.place.entries(""))
        listed = itertools.chain(before, self.place.entries("", after="/"))  # '/' comes next after '.'
        found = {entry.name: entry for entry in listed if _is_file(entry.name)}
        return list(found.values())

    def _night(self, night: str) -> list[str]:
        begin = f"{CLAIMED}/{night}/"
        names = (entry.name.removeprefix(begin) for entry in self.place.entries(begin))
        return sorted(name for name in names if _is_file(name))


def inbox_at(place: Path | Place, settle_s: float) -> Mailbox:
    """The inbox in a folder or under a prefix."""
    return Inbox(place, settle_s) if isinstance(place, Path) else S3Inbox(place, settle_s)


def _identity(entry: Entry) -> str:
    """The content, and when it came: what is dropped again, be it the same, is a new arrival."""
    return f"{entry.size}-{entry.etag}@{entry.modified}"


def _came(identity: str) -> float:
    """When an arrival came; the end of time for what is no identity, so that nothing is looked for."""
    try:
        return float(identity.rpartition("@")[2])
    except ValueError:
        return math.inf


def _is_file(name: str) -> bool:
    """Whether an object is a file for us; a name that ends in '/' is what a console draws a folder from."""
    return bool(name) and not name.endswith("/") and is_meant(name)


def _target(name: str, taken: set[str]) -> str:
    """As in a folder: what the night already has is not replaced, its namesake goes below ~2."""
    if len(name.encode()) > LONGEST_NAME:
        name = f"~long/{sha256(name.encode()).hexdigest()}{_kind(name)}"
    numbered = (name if number == 1 else f"~{number}/{name}" for number in itertools.count(1))
    return next(target for target in numbered if target not in taken)


def _kind(name: str) -> str:
    """The end of a name by which it is known how to read the file."""
    if is_array(name):
        return name[name.rindex("-ubyte") :] if "-ubyte" in name else ".npy"
    suffix = PurePosixPath(name.rpartition("/")[2]).suffix
    return suffix if len(suffix.encode()) <= LONGEST_SUFFIX and "\0" not in suffix else ".unknown"


def _journal(number: int) -> str:
    return f"{JOURNAL}{number:08d}.json"


def _all_at_once(do: Callable[[Each], None], each: Iterable[Each]) -> None:
    """In threads; the first failure is raised, when those at work have ended."""
    with ThreadPoolExecutor(THREADS) as pool:
        done = [pool.submit(do, one) for one in each]
        try:
            for future in done:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
