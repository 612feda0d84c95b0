"""Whether a worker on another machine sees the same inbox and the same shelf: something is laid there for it to find.

Without that, a machine that lacks the shared folder would find no file of the night and call each of them unreadable,
or write parts onto a disk of its own.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from mnist_pipeline.inbox.mailbox import CLAIMED
from mnist_pipeline.inbox.work import Unreachable, Work
from mnist_pipeline.storage.locations import place_at, shelf_at
from mnist_pipeline.storage.shelves import Missing


@contextmanager
def probed(work: Work) -> Iterator[Work]:
    """The work with a probe, which lies in both places as long as the block lasts."""
    work = replace(work, probe=uuid4().hex)
    shelf, laid = shelf_at(work.predictions, work.endpoint), _in_inbox(work)
    shelf.put(_on_shelf(work), b"")
    try:
        if laid:
            laid.parent.mkdir(parents=True, exist_ok=True)
            laid.touch()
        yield work
    finally:
        shelf.delete(_on_shelf(work))
        if laid:
            laid.unlink(missing_ok=True)


def check_reach(work: Work) -> None:
    """Raises Unreachable naming this machine and the place that it does not see as the others do."""
    laid, here = _in_inbox(work), socket.gethostname()
    if laid and not laid.exists():
        raise Unreachable(
            f"{here} does not see the inbox {work.inbox} of the run: put it into a folder that all nodes share under "
            f"the same path, or into a bucket (MNIST_INBOX=s3://…)"
        )
    shelf = shelf_at(work.predictions, work.endpoint)
    try:
        shelf.get(_on_shelf(work))
    except Missing:
        raise Unreachable(
            f"{here} does not see the predictions {work.predictions} of the run, so nobody would see its parts: put "
            f"them into a folder that all nodes share under the same path, or into a bucket (MNIST_PIPELINE_ENV=prod)"
        ) from None


def _on_shelf(work: Work) -> str:
    return f"{work.parts}-probe-{work.probe}.txt"


def _in_inbox(work: Work) -> Path | None:
    """Hidden, so that no night takes it for a file; a bucket needs none, for there is but one of that name."""
    place = place_at(work.inbox, work.endpoint)
    return place / CLAIMED / work.night / f".probe-{work.probe}" if isinstance(place, Path) else None
