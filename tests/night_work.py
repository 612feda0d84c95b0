"""A night's work for tests that have no pipeline: files of a claimed night, a scorer at hand, a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist_pipeline.inbox.engines import Engine, LocalEngine
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.scoring import Scorer, schema_of
from mnist_pipeline.inbox.tables import Tally
from mnist_pipeline.inbox.work import Work, made_with


@dataclass(frozen=True)
class Loaded:
    """A model that this process has at hand."""

    scorer: Scorer

    @property
    def version(self) -> str:
        return self.scorer.version

    @property
    def decision(self) -> int:
        return self.scorer.decision

    def load(self, threads: int = 0) -> Scorer:
        return self.scorer


def work_of(inbox: Path | str, out: Path | str, scorer: Scorer, night: str, endpoint: str = "") -> Work:
    return Work(night, str(inbox), str(out), endpoint, Loaded(scorer), made_with())


def predict_night(
    inbox: Path | str, files: Sequence[str], scorer: Scorer, out: Path, night: str, engine: Engine | None = None
) -> Tally:
    """These files of a claimed night, as the asset does it."""
    work = work_of(inbox, out, scorer, night)
    return predict(work, files, schema_of(scorer.class_names), engine or LocalEngine())
