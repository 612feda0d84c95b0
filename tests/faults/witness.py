"""Who knows what was dropped and decided, and looks at everything after each fault, in a folder or in a bucket."""

from __future__ import annotations

from collections import Counter

import numpy as np
from children import tonight
from digit_files import png
from pipelines import Pipeline
from places import drops_of, sha256, tables

from mnist_pipeline.production import load_production


class Witness:
    """Knows every image that was dropped."""

    def __init__(self, pipeline: Pipeline, versions: list[str]) -> None:
        self.pipeline, self.versions = pipeline, versions
        self.drops = drops_of(pipeline)
        self.dropped: Counter[str] = Counter()
        self.decisions = 1
        self.chance = np.random.default_rng(2)

    def drop(self, count: int) -> None:
        """Images that differ in a few pixels, half of them under names that were used before."""
        image = self.pipeline.digits()["test"].images[0]
        for i in range(count):
            changed = image.copy()
            changed[14, 14:18] = self.chance.integers(0, 256, 4)
            data, number = png(changed), i if i % 2 else sum(self.dropped.values())
            name = f"digit-{number}.png"
            if not self.drops.waits(name):
                self.drops.put(name, data)
                self.dropped[sha256(data)] += 1

    def look(self) -> None:
        """Production is whole, every table is whole, and each image lies somewhere, once."""
        production = load_production(self.pipeline.store)
        assert production.card.name in self.versions
        assert self.pipeline.store.verify_chain() == []
        assert production.decision.number >= self.decisions
        self.decisions = production.decision.number
        assert self.drops.images() == self.dropped
        for _, rows in tables(self.pipeline):
            assert max(Counter(row["file"] for row in rows).values(), default=1) == 1

    def look_at_the_end(self) -> None:
        """After a run that nobody killed: every image has a row, and no row is double."""
        self.look()
        rows = dict(tables(self.pipeline))[f"{tonight()}.parquet"]
        assert Counter(row["sha256"] for row in rows) == self.dropped
        assert {row["model_version"] for row in rows} == {self.pipeline.store.production()}
        assert list(self.pipeline.mail.open().waiting()) == []
