"""MLflow, as a place for runs: finding or making the MLflow run of a Dagster run, and giving it what was recorded.

Everything may be sent twice, also by two senders at once, and is there once. Uses an `MlflowClient` for one URI and
nothing of mlflow's global state. Only the sender's process imports this.
Not here: the registry (`registry.py`), what an answer means (`answers.py`), and when what is sent
(`sender.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mnist_pipeline.experiments.answers import is_for_good, said
from mnist_pipeline.experiments.refused import Refused
from mnist_pipeline.experiments.spool import Record, RunFacts, Spool
from mnist_pipeline.tracking import RUN_TAG, experiment_key, is_server, search

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH = 50  # records in one request; a training records one an epoch
MOST_OF_A_KIND, MOST_METRICS = 100, 1_000  # parameters or tags, and metrics, in one request: MLflow's limits
TRAINS_MODELS = {"mlflow.experimentKind": "custom_model_development"}  # MLflow shows runs then, and not chats
Loaded = tuple[str, Record, bytes]


@dataclass(frozen=True)
class MlflowRuns:
    """The runs of one experiment."""

    client: MlflowClient
    uri: str
    experiment_id: str
    spool: Spool

    @staticmethod
    def open(client: MlflowClient, uri: str, experiment: str, folder: Path, spool: Spool) -> MlflowRuns:
        """The experiment of that name, made where it is missing. folder: for files of a store that is no server."""
        found = _experiment(client, experiment, None if is_server(uri) else (folder / "artifacts").as_uri())
        key = experiment_key(experiment)
        if spool.claim(key, found) != found:  # of another store, before the URI was changed
            spool.unclaim(key)
            spool.claim(key, found)
        return MlflowRuns(client, uri, found, spool)

    def run_of(self, facts: RunFacts) -> str:
        """The id of the MLflow run of a Dagster run: agreed on, else found by its tag, else made."""
        agreed = self.spool.claimed(facts.run_id)
        if agreed and self._is_active(agreed):
            return agreed
        if agreed:  # of another store, or deleted by somebody
            self.spool.unclaim(facts.run_id)
        found = self.find(facts.run_id)
        mine = found or self._make(facts)
        agreed = self.spool.claim(facts.run_id, mine)
        if agreed != mine and not found:
            self.client.delete_run(mine)  # another machine was quicker; nothing is in this one
        return agreed

    def find(self, run_id: str) -> str | None:
        """The oldest MLflow run with the tag of this Dagster run, whoever made it."""
        found = self.client.search_runs([self.experiment_id], search(run_id), order_by=["attributes.start_time ASC"])
        return found[0].info.run_id if found else None

    def deliver(self, mlflow_run: str, names: Sequence[str], *, put_aside: bool) -> Iterator[tuple[int, int]]:
        """Send up to `BATCH` records at a time; yields how many went, and how many were refused and put aside."""
        for loaded in _batches(self.spool, names):
            yield self._deliver(mlflow_run, loaded, put_aside)

    def close(self, mlflow_run: str, status: str, time_ms: int) -> None:
        """The Dagster run has ended. status: FINISHED, FAILED or KILLED."""
        self.client.set_terminated(mlflow_run, status, time_ms)

    def log_bytes(self, mlflow_run: str, path: str, data: bytes) -> None:
        """A file among the artifacts of a run; the same again replaces it."""
        place = PurePosixPath(path)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / place.name
            file.write_bytes(data)
            parent = None if place.parent == PurePosixPath(".") else str(place.parent)
            self.client.log_artifact(mlflow_run, str(file), parent)

    def _deliver(self, mlflow_run: str, loaded: list[Loaded], put_aside: bool) -> tuple[int, int]:
        try:
            self._apply(mlflow_run, loaded)
        except Exception as error:
            if not put_aside or not is_for_good(error):
                raise
            if len(loaded) > 1:  # one by one, to find out which it is
                each = [self._deliver(mlflow_run, [one], put_aside) for one in loaded]
                return sum(sent for sent, _ in each), sum(refused for _, refused in each)
            Refused(self.spool).add(*loaded[0], said(error, self.uri))
            return 0, 1
        for name, record, _ in loaded:
            self.spool.done(name, record)
        return len(loaded), 0

    def _apply(self, mlflow_run: str, loaded: list[Loaded]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        (_, first, data) = loaded[0]
        if first.kind == "artifact":
            return self.log_bytes(mlflow_run, first.path, data)
        records = [record for _, record, _ in loaded]
        metrics = [Metric(n, v, r.time_ms, r.step) for r in records if r.kind == "metrics" for n, v in r.values.items()]
        params = [Param(n, v) for r in records if r.kind == "params" for n, v in r.values.items()]
        tags = {n: v for r in records if r.kind == "tags" for n, v in r.values.items()}
        for some in _slices(metrics, MOST_METRICS):
            self.client.log_batch(mlflow_run, metrics=some)
        for some in _slices(params):
            self.client.log_batch(mlflow_run, params=some)
        for some in _slices([RunTag(n, v) for n, v in tags.items()]):
            self.client.log_batch(mlflow_run, tags=some)
        return None

    def _make(self, facts: RunFacts) -> str:
        tags = {**facts.tags, RUN_TAG: facts.run_id}
        return self.client.create_run(self.experiment_id, facts.begun_ms, tags, facts.name).info.run_id

    def _is_active(self, mlflow_run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            run: Run = self.client.get_run(mlflow_run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return run.info.lifecycle_stage == "active"


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifacts, TRAINS_MODELS)
        except MlflowException as error:
            found = client.get_experiment_by_name(name)
            if found is None or error.error_code != "RESOURCE_ALREADY_EXISTS":  # another sender was quicker
                raise
    if found.lifecycle_stage != "active":
        raise RuntimeError(
            f"the MLflow experiment {name!r} was deleted: restore it (mlflow experiments restore "
            f"--experiment-id {found.experiment_id}), or set MNIST_EXPERIMENT to another name"
        )
    return found.experiment_id


def _batches(spool: Spool, names: Sequence[str]) -> Iterator[list[Loaded]]:
    """Records in order; an artifact by itself, everything else in groups."""
    batch: list[Loaded] = []
    for name in names:
        found = spool.record(name)
        if found is None:
            continue
        alone = found[0].kind == "artifact"
        if batch and (alone or len(batch) == BATCH):
            yield batch
            batch = []
        if alone:
            yield [(name, *found)]
        else:
            batch.append((name, *found))
    if batch:
        yield batch


def _slices(items: list[Any], most: int = MOST_OF_A_KIND) -> Iterator[list[Any]]:
    for begin in range(0, len(items), most):
        yield items[begin : begin + most]
