"""MLflow, as a place for runs: finding or making the MLflow run of a Dagster run, and giving it what was recorded.

Everything may be sent twice, also by two senders at once, and is there once. Uses an `MlflowClient` for one URI and
nothing of mlflow's global state. Only the sender's process imports this.
Not here: the registry (`mlflow_registry.py`), and when what is sent (`mlflow_sender.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mnist_pipeline.spool import Record, RunFacts, Spool
from mnist_pipeline.tracking import RUN_TAG, experiment_key, is_server, search, without_login

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH = 50  # records in one request; a training records one an epoch
MOST_OF_A_KIND = 100  # parameters or tags in one request: MLflow's limit
PASSING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED", "IO_ERROR"}
FOR_GOOD = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST", "RESOURCE_ALREADY_EXISTS"}
TRAINS_MODELS = {"mlflow.experimentKind": "custom_model_development"}  # MLflow shows runs then, and not chats
Loaded = tuple[str, Record, bytes]


class Away(Exception):
    """The server does not answer, or answers that it cannot: what was not sent waits."""


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

    def deliver(self, mlflow_run: str, names: Sequence[str], *, put_aside: bool) -> Iterator[tuple[int, str]]:
        """Send up to `BATCH` records at a time; yields how many, and what MLflow refused and was put aside."""
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

    def _deliver(self, mlflow_run: str, loaded: list[Loaded], put_aside: bool) -> tuple[int, str]:
        try:
            self._apply(mlflow_run, loaded)
        except Exception as error:
            if not put_aside or getattr(error, "error_code", "") not in FOR_GOOD:
                raise
            if len(loaded) > 1:  # one by one, to find out which it is
                each = [self._deliver(mlflow_run, [one], put_aside) for one in loaded]
                return sum(sent for sent, _ in each), "\n".join(refused for _, refused in each if refused)
            name, record, data = loaded[0]
            return 0, f"{self.spool.refuse(name, record, data, str(error))}: {error}"
        for name, record, _ in loaded:
            self.spool.done(name, record)
        return len(loaded), ""

    def _apply(self, mlflow_run: str, loaded: list[Loaded]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        (_, first, data) = loaded[0]
        if first.kind == "artifact":
            return self.log_bytes(mlflow_run, first.path, data)
        records = [record for _, record, _ in loaded]
        metrics = [Metric(n, v, r.time_ms, r.step) for r in records if r.kind == "metrics" for n, v in r.values.items()]
        params = [Param(n, v) for r in records if r.kind == "params" for n, v in r.values.items()]
        tags = {n: v for r in records if r.kind == "tags" for n, v in r.values.items()}
        self.client.log_batch(mlflow_run, metrics=metrics)
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


def as_away(error: Exception, uri: str) -> Away | None:
    """`error` as the absence of a server, if that is what it is: no connection, no answer in time, 5xx, 429."""
    if not is_server(uri) or not (_is_of_the_network(error) or _is_of_mlflow(error)):
        return None
    return Away(" ".join(str(error).replace(uri, without_login(uri)).split())[:500])


def _is_of_the_network(error: Exception) -> bool:
    """Raised by uploads, which mlflow passes on as they are."""
    from requests.exceptions import ConnectionError, HTTPError, Timeout

    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, ConnectionError | Timeout)


def _is_of_mlflow(error: Exception) -> bool:
    """mlflow's code INTERNAL_ERROR stands for no connection and 5xx, but also for every error without a code."""
    from mlflow.exceptions import MlflowException, RestException

    if isinstance(error, RestException):  # an answer that is neither 5xx nor 429
        return error.json.get("error_code") in PASSING
    unanswered = str(error).startswith("API request to")
    return isinstance(error, MlflowException) and unanswered and error.error_code in PASSING


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


def _slices(items: list[Any]) -> Iterator[list[Any]]:
    for begin in range(0, len(items), MOST_OF_A_KIND):
        yield items[begin : begin + MOST_OF_A_KIND]
