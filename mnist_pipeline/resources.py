"""Resources: configuration, and one method each that returns the plain object holding the behaviour.

`dev_resources` and `prod_resources` have the same keys and other values. Nothing here touches a disk or a network.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg

from mnist_pipeline.acquire import DATASETS, DigitSource
from mnist_pipeline.blobs import DiskBlobs
from mnist_pipeline.courier import Order, follow
from mnist_pipeline.files import AssetFilesResource
from mnist_pipeline.ml.digits import preparation_named
from mnist_pipeline.pictures import PictureBook
from mnist_pipeline.spool import RunFacts, Spool, now_ms
from mnist_pipeline.store import ModelStore
from mnist_pipeline.tracking import NoTracker, Pages, SpoolTracker, Tracker, is_server

PROJECT = Path(__file__).resolve().parents[1]
NO_TRACKING = "none"
FOLLOWED_S = 20.0  # that the sender of a run may go on after the step has ended


class Source(dg.ConfigurableResource):
    """Which digits to train on. An empty directory means: download."""

    dataset: str
    directory: str
    downloads: str
    mirror: str
    preparation: str
    allow_embedded: bool

    def open(self) -> DigitSource:
        """What loads them. Raises ValueError for a data set or preparation that does not exist."""
        return DigitSource(
            dataset=self.dataset,
            directory=Path(self.directory).expanduser() if self.directory else None,
            downloads=Path(self.downloads),
            allow_embedded=self.allow_embedded,
            preparation=preparation_named(self.preparation),
            mirrors=(self.mirror,) if self.mirror else (),
        )


class Models(dg.ConfigurableResource):
    """Where versions, reports and decisions are kept."""

    folder: str

    def open(self) -> ModelStore:
        """The store; nothing is read or written yet."""
        return ModelStore(DiskBlobs(Path(self.folder)))


class Pictures(dg.ConfigurableResource):
    """Where pictures are kept beside the UI."""

    folder: str

    def open(self) -> PictureBook:
        """The book that pictures are shown in."""
        return PictureBook(Path(self.folder))


class Mail(dg.ConfigurableResource):
    """The inbox that is read every night, the folder of its answers, and the timezone in which a night ends.

    settle_s: seconds since the last change after which a file counts as whole.
    """

    inbox: str
    predictions: str
    timezone: str
    settle_s: float

    def zone(self) -> ZoneInfo:
        """Raises ZoneInfoNotFoundError for a name that is no timezone."""
        return ZoneInfo(self.timezone)


class Tracking(dg.ConfigurableResource):
    """MLflow: where it is, and where records wait for it.

    uri: a tracking URI, or "none". experiment: its name there. location, endpoint: of the spool. folder: on this
    machine, for the sender's lock and the artifacts of a store that is no server. ui: Dagster's, for links to runs.
    """

    uri: str
    experiment: str
    location: str
    endpoint: str
    folder: str
    ui: str
    environment: str

    def open(self, context: dg.AssetExecutionContext) -> Tracker:
        """What a step of this run records with."""
        if self.is_off():
            return NoTracker()
        run, spool = context.run, self.spool()
        facts = RunFacts(run.run_id, f"{run.job_name} {run.run_id[:8]}", now_ms(), self._tags(run))
        return SpoolTracker(spool, facts, self.pages(), lambda: self._start(run.run_id, spool), context.log)

    def spool(self) -> Spool:
        """What waits."""
        return Spool.at(self.location, self.endpoint)

    def pages(self) -> Pages:
        """Addresses in MLflow's UI."""
        return Pages.of(self.uri, self.experiment)

    def is_off(self) -> bool:
        """Whether MLFLOW_TRACKING_URI says that nothing is to be tracked."""
        return self.uri == NO_TRACKING

    def order(self, seconds: float, **more: Any) -> Order:
        """What the sending process has to know. more: see `Order`."""
        return Order(self.uri, self.experiment, self.location, self.endpoint, self.folder, seconds, **more)

    def _start(self, run_id: str, spool: Spool) -> Callable[[], None]:
        """Sending while the run goes on: to a server, unless it was away in this run already."""
        if not is_server(self.uri) or spool.is_away(run_id):
            return lambda: None
        return follow(self.order(FOLLOWED_S, follow=run_id))

    def _tags(self, run: dg.DagsterRun) -> dict[str, str]:
        page = f"{self.ui.rstrip('/')}/runs/{run.run_id}"
        return {"dagster_job": run.job_name, "dagster_run": page, "environment": self.environment}


def dev_resources(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Everything on this disk; embedded digits when MNIST cannot be had."""
    store = env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{state_folder(env) / 'mlflow.db'}"
    return _resources(env, "dev", allow_embedded=True, mlflow=store)


def prod_resources(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The full data set or a clear failure. Raises ValueError naming every variable that is missing."""
    found = _required(env, {"MLFLOW_TRACKING_URI": 'where runs are tracked, http://…; "none" switches it off'})
    return _resources(env, "prod", allow_embedded=False, mlflow=found["MLFLOW_TRACKING_URI"])


def state_folder(env: Mapping[str, str] = os.environ) -> Path:
    """The one folder under which everything lies that a run leaves behind."""
    return Path(env.get("MNIST_PIPELINE_STATE") or PROJECT / "state").expanduser().resolve()


def timezone(env: Mapping[str, str] = os.environ) -> str:
    """In which a night ends and 2 AM is 2 AM."""
    name = env.get("MNIST_PIPELINE_TIMEZONE") or "UTC"
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"MNIST_PIPELINE_TIMEZONE={name!r} is no timezone; write it like Europe/Berlin") from error
    return name


def _required(env: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """The values of variables that have no default. variables: name -> what it is for."""
    missing = [f"{name} ({purpose})" for name, purpose in variables.items() if not env.get(name)]
    if missing:
        raise ValueError(f"MNIST_PIPELINE_ENV=prod needs {'; '.join(missing)}: set it, in .env for instance")
    return {name: env[name] for name in variables}


def _resources(env: Mapping[str, str], environment: str, *, allow_embedded: bool, mlflow: str) -> dict[str, Any]:
    state = state_folder(env)
    return {
        "io_manager": AssetFilesResource(folder=str(state / "assets")),
        "source": Source(
            dataset=_one_of(env, "MNIST_DATASET", DATASETS),
            directory=env.get("MNIST_DATA_DIR", ""),
            downloads=str(state / "downloads"),
            mirror=env.get("MNIST_MIRROR", ""),
            preparation=_one_of(env, "MNIST_PREPARATION", ("ink", "resize")),
            allow_embedded=allow_embedded,
        ),
        "models": Models(folder=str(state / "models")),
        "pictures": Pictures(folder=str(state / "pictures")),
        "mail": Mail(
            inbox=env.get("MNIST_INBOX") or str(state / "inbox"),
            predictions=str(state / "predictions"),
            timezone=timezone(env),
            settle_s=_seconds(env, "MNIST_INBOX_SETTLE_S", 5.0),
        ),
        "tracking": Tracking(
            uri=mlflow,
            experiment=env.get("MNIST_EXPERIMENT") or "mnist_pipeline",
            location=str(state / "tracking"),
            endpoint="",
            folder=str(state / "mlflow"),
            ui=env.get("DAGSTER_UI_URL") or "http://127.0.0.1:3000",
            environment=environment,
        ),
    }


def _one_of(env: Mapping[str, str], variable: str, accepted: Sequence[str]) -> str:
    """The value of a variable, the first of those accepted where it is not set."""
    value = env.get(variable) or accepted[0]
    if value not in accepted:
        raise ValueError(f"{variable}={value!r}: it is one of {', '.join(accepted)}")
    return value


def _seconds(env: Mapping[str, str], variable: str, default: float) -> float:
    value = env.get(variable) or str(default)
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"{variable}={value!r} is no number of seconds") from error
