"""Where people and programs drop images, and how a night takes them: a folder; the same in S3 is in `bucket.py`.

Files are claimed for a night by moving them under .claimed/<night>/: what still lies in the inbox is what waits. What
becomes of them is in `scoring.py`.
"""

import fcntl
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Protocol

from mnist_pipeline.inbox.dropped import is_meant
from mnist_pipeline.ml.images import UnreadableImage
from mnist_pipeline.ml.sources import IMAGE_SUFFIXES

CLAIMED = ".claimed"  # hidden, so that it is not taken for something dropped
CLOSED = ".closed"
A_DAY_S = 86_400
LARGEST_FILE = 256 * 1024**2  # bytes of one image file; 50 megapixels uncompressed in colour have 150 MB


@dataclass(frozen=True)
class Opened:
    """The files of a night on this disk: `files` below `folder`. names: by file, what the tables call it instead."""

    folder: Path
    files: Sequence[str]
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """Of the files that wait, those that came in this time: from begin, before end; seconds since 1970."""

    begin: float = -math.inf
    end: float = math.inf

    def __contains__(self, came: float) -> bool:
        return self.begin <= came < self.end


ALWAYS = Span()


class Mailbox(Protocol):
    """Where people and programs drop images. A file belongs to one night for good once it is claimed."""

    def waiting(self) -> Sequence[PurePath]:
        """Files that nobody has claimed yet, in order of name; hidden and unfinished ones are not meant."""

    def is_unused(self) -> bool:
        """Whether nothing waits here and no night has claimed anything yet."""

    def claim(self, night: str, *, over: bool, span: Span = ALWAYS) -> list[str]:
        """Move what is ready and came in this span into the night; return all of the night's files, in order.

        over: the day has ended, so that this claim closes the night: a rerun finds the same files, and what comes
        later belongs to a later night. A killed claim is completed by the next; claims at once share the files.
        """

    def opened(self, night: str, files: Sequence[str]) -> AbstractContextManager[Opened]:
        """These files of a night on this disk, as long as the block lasts. Raises StoreUnavailable."""

    def accept(self, write: Callable[[Path], None]) -> None:
        """Drop what `write` puts into the folder that it is given; returns when it may be claimed."""

    def arrivals(self) -> dict[str, str]:
        """Name -> identity of every image file that waits and is whole, oldest first; another content is another
        identity. Files with many images are left to the night."""

    def fetch(self, name: str, identity: str) -> bytes:
        """The bytes of an arrival, also when a night has claimed it meanwhile.

        Raises FileNotFoundError when it was changed or taken back, UnreadableImage when it cannot be an image.
        """

    def where(self) -> str:
        """For people: the path or URL."""


@dataclass(frozen=True)
class Inbox:
    """A folder as a mailbox.

    settle_s: a file that changed less than this long ago may still be written, and waits for the next night.
    """

    folder: Path
    settle_s: float = 5.0

    def where(self) -> str:
        return str(self.folder)

    def accept(self, write: Callable[[Path], None]) -> None:
        write(self.folder)

    @contextmanager
    def opened(self, night: str, files: Sequence[str]) -> Iterator[Opened]:
        yield Opened(self.night(night), files)

    def night(self, night: str) -> Path:
        """Where the files of a night lie once they are claimed."""
        return self.folder / CLAIMED / night

    def waiting(self) -> list[Path]:
        return [self.folder / name for name in _names(self.folder)]

    def is_unused(self) -> bool:
        return not any(_found(self.folder)) and not any(_found(self.folder / CLAIMED))

    def arrivals(self) -> dict[str, str]:
        found = []
        for path in self.waiting():
            if path.suffix.lower() in IMAGE_SUFFIXES and self._came(path) in ALWAYS:
                with suppress(FileNotFoundError):  # its owner took it back
                    found.append((path.stat().st_mtime_ns, str(path.relative_to(self.folder)), _identity(path)))
        return {name: identity for _, name, identity in sorted(found)}

    def fetch(self, name: str, identity: str) -> bytes:
        for folder in self._places():
            with suppress(FileNotFoundError, NotADirectoryError):
                if _identity(folder / name) == identity:
                    return read_image_file(folder / name)
        raise FileNotFoundError(f"{name} is no longer in {self.folder} as it was ({identity})")

    def _places(self) -> Iterator[Path]:
        """Where an arrival may lie, the inbox first: what leaves it meanwhile is in a night by then."""
        yield self.folder
        for night in sorted((self.folder / CLAIMED).glob("*/"), reverse=True):
            yield night
            yield from sorted(night.glob("~*/"))

    def claim(self, night: str, *, over: bool, span: Span = ALWAYS) -> list[str]:
        folder = self.night(night)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / CLAIMED):
            if not (folder / CLOSED).exists():
                for name in _names(self.folder):
                    if self._came(self.folder / name) in span:
                        _move(self.folder / name, folder, Path(name))
                if over:
                    (folder / CLOSED).touch()
        return _names(folder)

    def _came(self, path: Path) -> float:
        """When a file came; NaN, which is in no span, for one that may still be written or that is gone."""
        with suppress(FileNotFoundError):  # its owner took it back
            now = time.time()
            if now - (came := arrived(path.stat(), now)) >= self.settle_s:
                return came
        return math.nan


def arrived(status: os.stat_result, now: float) -> float:
    """When a file came, in seconds since 1970: its date, which copies may keep and which people may set.

    A date in the future, from a wrong clock or a time zone, says nothing: then the file system's own counts. Where that
    is more than a day ahead too, the clock was put back since, and the file has waited for long.
    """
    if status.st_mtime <= now:
        return status.st_mtime
    return status.st_ctime if status.st_ctime <= now + A_DAY_S else 0.0


def _identity(path: Path) -> str:
    """What stays when a file is moved, and changes when it is written."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def read_image_file(path: Path) -> bytes:
    """The bytes of a file that may be an image. Raises UnreadableImage before it takes memory for one that is not."""
    check_image_file(path.name, path.stat().st_size)
    return path.read_bytes()


def check_image_file(name: str, size: int) -> None:
    """Raises UnreadableImage for a file that is no image by its name, or larger than any should be."""
    suffix = PurePath(name).suffix
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise UnreadableImage(
            f"the file type {suffix or '(none)'} is not read; drop {', '.join(sorted(IMAGE_SUFFIXES))}, "
            f".npy, IDX or Parquet files"
        )
    if size > LARGEST_FILE:
        raise UnreadableImage(f"it has {size:,} bytes, more than {LARGEST_FILE:,}: make the picture smaller")


def _names(folder: Path) -> list[str]:
    """Of the files below a folder, sorted as paths are. Text, for of a night with millions paths take gigabytes."""
    return sorted(_found(folder), key=lambda name: name.replace("/", "\0"))


def _found(folder: Path) -> Iterator[str]:
    """Plain files below a folder that are not hidden, not links and not named as unfinished."""
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(at, folder)
        for name in filter(is_meant, names):
            if not (path := Path(at, name)).is_symlink() and path.is_file():
                yield name if below == "." else f"{below}/{name}"


def _move(path: Path, night: Path, name: Path) -> None:
    """A file whose name the night already has goes below ~2, so that none replaces another and none is renamed."""
    for number in itertools.count(1):
        target = (night if number == 1 else night / f"~{number}") / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):  # what was a file before is a folder now
            continue
        if not target.exists():
            break
    with suppress(FileNotFoundError):  # its owner took it back
        path.rename(target)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One claim at a time; a killed one lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
