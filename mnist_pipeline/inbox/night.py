"""A night, from claimed files to its tables: planned here, scored by an engine, put together again here.

Memory is bounded by the shard: a night's rows are never together but in its file. Not here: who scores
(`engines.py`), and which files a night has (`mailbox.py`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing

import pyarrow as pa

from mnist_pipeline.inbox.engines import Engine
from mnist_pipeline.inbox.parts import PART_SUFFIXES, card_digest, fetched_of
from mnist_pipeline.inbox.shards import Shard, plan
from mnist_pipeline.inbox.tables import Tally, write_tables
from mnist_pipeline.inbox.work import Done, EngineFailed, Work
from mnist_pipeline.storage.locations import shelf_at
from mnist_pipeline.storage.shelves import Missing, Shelf

ROUNDS = 3  # a part that is lost between scoring and writing is made again; one that is lost each time is a fault


def predict(work: Work, files: Sequence[str], schema: pa.Schema, engine: Engine) -> Tally:
    """Score these files of the night and write its tables. Its parts are swept when they are whole.

    Raises StoreUnavailable, EngineFailed; what was scored by then is found by the next run.
    """
    shelf, shards, done = shelf_at(work.predictions, work.endpoint), list[Shard](), dict[int, Done]()
    with closing(fetched_of(work)) as fetched:
        waiting = _noted(plan(files, fetched), shards)
        for _ in range(ROUNDS):
            done.update((each.index, each) for each in engine.run(work, waiting, fetched))
            try:
                tally = write_tables(work, shards, [done[index] for index in range(len(shards))], schema, shelf)
            except Missing:
                waiting = iter(_lost(shelf, shards, done))
            else:
                sweep(shelf, work)
                return tally
    raise EngineFailed(f"parts of {work.night} vanish from {work.predictions} as soon as they are written")


def sweep(shelf: Shelf, work: Work) -> None:
    """Remove all parts of a night, also those that were scored by another model before."""
    for name in shelf.list(work.parts):
        if name.endswith(PART_SUFFIXES):
            shelf.delete(name)


def _noted(shards: Iterable[Shard], noted: list[Shard]) -> Iterator[tuple[int, Shard]]:
    """Numbered, and kept in a list as well."""
    for index, shard in enumerate(shards):
        noted.append(shard)
        yield index, shard


def _lost(shelf: Shelf, shards: Sequence[Shard], done: Mapping[int, Done]) -> list[tuple[int, Shard]]:
    """Shards whose part is not there as it was told: swept by another run of the same night, or damaged since."""
    gone = [each.index for each in done.values() if each.name and card_digest(shelf, each.name) != each.card]
    return [(index, shards[index]) for index in sorted(gone)]
