"""Resources: configuration, and one method each that returns the plain object holding the behaviour.

`dev_resources` and `prod_resources` have the same keys and other values. Nothing here touches a disk or a network.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import dagster as dg

from mnist_pipeline.acquire import DATASETS, DigitSource
from mnist_pipeline.alerts.doors import Alerter, Heartbeat, LogAlerter, NoHeartbeat, UrlHeartbeat, slack_door
from mnist_pipeline.alerts.redaction import Redaction
from mnist_pipeline.changes import Snapshot
from mnist_pipeline.checkpoint_files import Log
from mnist_pipeline.corrections import Corrections, NoCorrections
from mnist_pipeline.datasets.files import Datasets
from mnist_pipeline.environment import (
    REQUIRED,
    in_bucket,
    in_folder,
    location,
    number,
    one_of,
    ray_address,
    required,
    state_folder,
    timezone,
    training_cluster,
    whole,
)
from mnist_pipeline.experiments.courier import Order, follow
from mnist_pipeline.experiments.spool import RunFacts, Spool, now_ms
from mnist_pipeline.files import AssetFilesResource
from mnist_pipeline.ml.digits import preparation_named
from mnist_pipeline.ml.tables.tasks import TASKS
from mnist_pipeline.pictures import PictureBook
from mnist_pipeline.storage.locations import blobs_at, place_at, shelf_at
from mnist_pipeline.storage.s3_requests import Place
from mnist_pipeline.storage.shelves import Shelf
from mnist_pipeline.store import ModelStore
from mnist_pipeline.studies import Studies
from mnist_pipeline.tracking import NoTracker, Pages, SpoolTracker, Tracker, is_server
from mnist_pipeline.traffic import Traffic
from mnist_pipeline.trainers import LocalTrainer, Trainer

if TYPE_CHECKING:
    from mnist_pipeline.inbox.engines import Engine
    from mnist_pipeline.inbox.mailbox import Mailbox
    from mnist_pipeline.inbox.work import StoredModel, Work
    from mnist_pipeline.ml.drift import Limits
    from mnist_pipeline.production import Production

NO_TRACKING = "none"
FOLLOWED_S = 20.0  # that the sender of a run may go on after the step has ended


class Source(dg.ConfigurableResource):
    """Which digits to train on. directory: a folder or s3://bucket/prefix; empty means: download."""

    dataset: str
    directory: str
    endpoint: str = ""
    downloads: str
    mirror: str
    preparation: str
    allow_embedded: bool

    def open(self) -> DigitSource:
        """What loads them. Raises ValueError for a data set or preparation that does not exist."""
        return DigitSource(
            dataset=self.dataset,
            directory=self.place() if self.directory else None,
            downloads=Path(self.downloads),
            allow_embedded=self.allow_embedded,
            preparation=preparation_named(self.preparation),
            mirrors=(self.mirror,) if self.mirror else (),
        )

    def place(self) -> Path | Place:
        """The folder or prefix that is to be read."""
        return place_at(self.directory, self.endpoint)

    def snapshot(self, partition: str | None = None) -> Snapshot:
        """What is there to be read now. Raises StoreUnavailable where there is no folder or bucket."""
        settings = f"{self.dataset} {self.preparation}"
        if not self.directory or self.dataset == "embedded":
            return Snapshot.of_settings(settings)
        return Snapshot.of(self.place(), settings)


class Models(dg.ConfigurableResource):
    """Where versions, reports and decisions are kept. location: a folder or s3://bucket/prefix."""

    location: str
    endpoint: str = ""

    def open(self) -> ModelStore:
        """The store; nothing is read or written yet."""
        return ModelStore(blobs_at(self.location, self.endpoint))

    def stored(self, production: "Production", *, abstain: bool) -> "StoredModel":
        """What serves, told so that another process or machine can load it from here."""
        from mnist_pipeline.inbox.work import StoredModel

        return StoredModel.of(production, self.location, self.endpoint, abstain=abstain)

    def of_table(self, task: str) -> ModelStore:
        """The store of the models of one table, apart from the digits'."""
        return ModelStore(blobs_at(f"{self.location}/tables/{task}", self.endpoint))


class Pictures(dg.ConfigurableResource):
    """Where pictures are kept beside the UI. location: a folder or s3://bucket/prefix."""

    location: str
    endpoint: str = ""

    def open(self) -> PictureBook:
        """The book that pictures are shown in."""
        return PictureBook(shelf_at(self.location, self.endpoint))


class Served(dg.ConfigurableResource):
    """What the service leaves behind. log, feedback: a folder or s3://bucket/prefix each.

    use: what feedback is for besides being counted: off, or train.
    """

    log: str
    feedback: str
    endpoint: str = ""
    use: str = "off"

    def open(self, fault: Callable[[str], object]) -> Traffic:
        """What it has answered, and what people said was right; fault: is told of what cannot be read."""
        return Traffic(shelf_at(self.log, self.endpoint), shelf_at(self.feedback, self.endpoint), fault)

    def corrections(self, fault: Callable[[str], object]) -> Corrections | NoCorrections:
        """What people said was right, as far as it is to be learned from."""
        return Corrections(self.open(fault), fault) if self.use == "train" else NoCorrections()

    def snapshot(self, partition: str | None = None) -> Snapshot:
        """What there is to be learned from now. Raises StoreUnavailable."""
        place = place_at(self.feedback, self.endpoint)
        nothing = self.use != "train" or (isinstance(place, Path) and not place.exists())
        return Snapshot.of_settings(self.use) if nothing else Snapshot.of(place, self.use)


class Drift(dg.ConfigurableResource):
    """When drift is told. false_alarms, tolerance, strong, least_images: see `Limits` in `ml/drift.py`.

    accuracy_floor: an estimated accuracy that is below it for certain is an error.
    """

    false_alarms: float
    tolerance: float
    strong: float
    least_images: int
    accuracy_floor: float

    def limits(self, comparisons: int = 1) -> "Limits":
        """For each of so many comparisons in one report, which together give no more false alarms."""
        from mnist_pipeline.ml.drift import Limits

        return Limits(self.false_alarms / max(1, comparisons), self.tolerance, self.strong, self.least_images)


class Judging(dg.ConfigurableResource):
    """What has to be shown before another version serves, wherever nobody says otherwise.

    margin: by which share a candidate may be worse and still pass the gate; watch_deployments: whether its predecessor
    watches a version that the gate has deployed, as it does after a promotion; the others: see `Rules` in
    `ml/contest.py` and `pairs_of` in `contests.py`.
    """

    margin: float
    watch_deployments: bool
    alpha: float
    disagreement: float
    less_sure: float
    least: int
    only_corrections: bool

    def of_contests(self, other: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Those of contests by name. other: what counts instead, where it is not None."""
        own = self.model_dump(include={"alpha", "disagreement", "less_sure", "least", "only_corrections"})
        return own | {name: value for name, value in (other or {}).items() if value is not None}


class Training(dg.ConfigurableResource):
    """Where models are trained, and where a training that is killed finds its checkpoints again.

    location: a folder or s3://bucket/prefix; every_s: seconds at least between two checkpoints. address: of the head
    of a Ray cluster, host:port; empty for the process of the run. cpus: that its worker asks for; wait_s: for a node
    that has as many, and until they are free; epoch_s: how long no epoch may end there.
    """

    location: str
    endpoint: str = ""
    every_s: float
    address: str = ""
    cpus: int = 1
    wait_s: float = 120.0
    epoch_s: float = 1_800.0

    def open(self, log: Log) -> Trainer:
        """What trains; nothing is read or written yet. log: is told where it goes on from, and what is refused."""
        if self.address:
            from mnist_pipeline.ray_training import RayTrainer

            return RayTrainer(log=log, **self.model_dump())
        return LocalTrainer(shelf_at(self.location, self.endpoint), self.every_s, log)


class Tuning(dg.ConfigurableResource):
    """What tuning leaves behind. folder: of studies, on this machine, whatever is kept in S3; location: of results."""

    folder: str
    location: str
    endpoint: str = ""

    def studies(self) -> Studies:
        """What was tried so far."""
        return Studies(Path(self.folder))

    def results(self) -> Shelf:
        """Where best configurations are kept."""
        return shelf_at(self.location, self.endpoint)


class Mail(dg.ConfigurableResource):
    """The inbox that is read every night, the place of its answers, and the timezone in which a night ends.

    inbox, predictions: a folder or s3://bucket/prefix each; settle_s: seconds since the last change after which a file
    counts as whole.
    """

    inbox: str
    predictions: str
    endpoint: str = ""
    timezone: str
    settle_s: float

    def open(self) -> "Mailbox":
        """The inbox; nothing is read or moved yet."""
        from mnist_pipeline.inbox.bucket import inbox_at

        return inbox_at(place_at(self.inbox, self.endpoint), self.settle_s)

    def answers(self) -> Shelf:
        """Where predictions and quarantine tables are kept."""
        return shelf_at(self.predictions, self.endpoint)

    def work(self, night: str, model: "StoredModel") -> "Work":
        """A night, told so that another process or machine can do a part of it."""
        from mnist_pipeline.inbox.work import Work, made_with

        return Work(night, self.inbox, self.predictions, self.endpoint, model, made_with())

    def zone(self) -> ZoneInfo:
        """Raises ZoneInfoNotFoundError for a name that is no timezone."""
        return ZoneInfo(self.timezone)


class Scoring(dg.ConfigurableResource):
    """Who scores the shards of a night. address: of the head of a Ray cluster, host:port; empty for this machine.

    workers: processes or actors, 0 for what the engine finds best; cpus: that each actor asks for; wait_s: seconds to
    wait for a cluster and for processors that fit; shard_s: seconds without the end of a shard that give a cluster up.
    """

    address: str
    workers: int
    cpus: float
    wait_s: float
    shard_s: float

    def open(self) -> "Engine":
        """The engine; nothing is started or joined yet."""
        if self.address:
            from mnist_pipeline.inbox.ray_engine import RayEngine

            return RayEngine(self.address, self.workers, self.cpus, self.wait_s, self.shard_s)
        from mnist_pipeline.inbox.engines import LocalEngine

        return LocalEngine(self.workers or 1)


def variable_of(task: str) -> str:
    """The variable that names one more CSV file of a table."""
    return f"{task.upper()}_CSV"


class Tables(dg.ConfigurableResource):
    """Where the CSV files of tables are. location: a folder or s3://bucket/prefix with a folder for each task.

    named: task -> a file that lies elsewhere.
    """

    location: str
    endpoint: str = ""
    named: dict[str, str]

    def open(self, task: str) -> Datasets:
        """The files of one task; nothing is read yet."""
        named = self.named.get(task)
        place = place_at(f"{self.location}/{task}", self.endpoint)
        return Datasets(place, Path(named) if named else None, variable_of(task))

    def gone(self, task: str, keys: Sequence[str]) -> dict[str, str]:
        """Of these datasets those whose file is gone, and what to do. Raises StoreUnavailable."""
        advice = (
            "its file is gone: put it back, or delete the partition "
            f"('Delete partitions' in the menu of {task}/raw_data in the UI)"
        )
        return dict.fromkeys(sorted(self.open(task).gone(keys)), advice)


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


class Alerts(dg.ConfigurableResource):
    """Where alerts go: a Slack channel, or the log where there is no token.

    api_url: of Slack's API, empty for Slack's own. ui_url: of the Dagster UI, for links.
    heartbeat_url: is asked for while all is watched and alerts get out, empty for nobody.
    """

    token: str
    channel: str
    api_url: str
    ui_url: str
    heartbeat_url: str

    def open(self, log: logging.Logger) -> Alerter:
        """The door that alerts leave through; nothing is sent yet."""
        redaction = Redaction.of({**os.environ, "SLACK_BOT_TOKEN": self.token})
        if not self.token:
            return LogAlerter(log, redaction)
        from dagster_slack import SlackResource

        client = SlackResource(token=self.token).get_client()
        return slack_door(client, self.api_url, self.channel, redaction, f"{self.ui_url}/runs")

    def heartbeat(self) -> Heartbeat:
        """The sign of life for a monitor outside."""
        return UrlHeartbeat(self.heartbeat_url) if self.heartbeat_url else NoHeartbeat()


def dev_resources(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Everything on this disk; embedded digits when MNIST cannot be had."""
    store = env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{state_folder(env) / 'mlflow.db'}"
    return _resources(env, "dev", in_folder(env), allow_embedded=True, mlflow=store)


def prod_resources(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Everything in S3, and the full data set or a clear failure. Raises ValueError naming all that is not set."""
    mlflow = required(env, *REQUIRED)["MLFLOW_TRACKING_URI"]
    return _resources(env, "prod", in_bucket(env), allow_embedded=False, mlflow=mlflow)


def _resources(
    env: Mapping[str, str], environment: str, at: Callable[[str], str], *, allow_embedded: bool, mlflow: str
) -> dict[str, Any]:
    """at: from a name to the location of what is kept under it."""
    endpoint = env.get("S3_ENDPOINT_URL", "")
    return {
        "io_manager": AssetFilesResource(location=at("assets"), endpoint=endpoint),
        "source": Source(
            dataset=one_of(env, "MNIST_DATASET", DATASETS),
            directory=location(env, "MNIST_DATA_DIR", ""),
            endpoint=endpoint,
            downloads=str(state_folder(env) / "downloads"),
            mirror=env.get("MNIST_MIRROR", ""),
            preparation=one_of(env, "MNIST_PREPARATION", ("ink", "resize")),
            allow_embedded=allow_embedded,
        ),
        "models": Models(location=at("models"), endpoint=endpoint),
        "pictures": Pictures(location=at("pictures"), endpoint=endpoint),
        "served": Served(
            log=at("prediction_log"),
            feedback=at("feedback"),
            endpoint=endpoint,
            use=one_of(env, "MNIST_FEEDBACK", ("off", "train")),
        ),
        "drift": Drift(
            false_alarms=number(env, "MNIST_DRIFT_FALSE_ALARMS", 0.005, low=0.0005, high=0.5),
            tolerance=number(env, "MNIST_DRIFT_TOLERANCE", 0.02, high=1.0),
            strong=number(env, "MNIST_DRIFT_STRONG", 0.25, high=1.0),
            least_images=whole(env, "MNIST_DRIFT_LEAST_IMAGES", 30, "images", low=10, high=5_000),
            accuracy_floor=number(env, "MNIST_DRIFT_ACCURACY", 0.9, high=1.0),
        ),
        "judging": Judging(
            margin=number(env, "MNIST_GATE_MARGIN", 0.0, high=0.5),
            watch_deployments=one_of(env, "MNIST_WATCH", ("promotions", "deployments")) == "deployments",
            alpha=number(env, "MNIST_CONTEST_ALPHA", 0.05, low=1e-6, high=0.5),
            disagreement=number(env, "MNIST_CONTEST_DISAGREEMENT", 0.05, low=0.001, high=0.9),
            less_sure=number(env, "MNIST_CONTEST_LESS_SURE", 0.02, high=0.9),
            least=whole(env, "MNIST_CONTEST_LEAST_IMAGES", 500, "images", low=1, high=10_000_000),
            only_corrections=one_of(env, "MNIST_CONTEST_LABELS", ("corrections", "sampled")) == "corrections",
        ),
        "training": Training(
            location=at("checkpoints"),
            endpoint=endpoint,
            every_s=number(env, "MNIST_CHECKPOINT_S", 10.0, "seconds"),
            address=training_cluster(env),
            cpus=whole(env, "MNIST_TRAIN_CPUS", 1, "processors", low=1, high=1_000),
            wait_s=number(env, "MNIST_TRAIN_WAIT_S", 120.0, "seconds"),
            epoch_s=number(env, "MNIST_EPOCH_WAIT_S", 1_800.0, "seconds", low=1.0),
        ),
        "tuning": Tuning(
            folder=str(state_folder(env) / "tuning" / "studies"), location=at("tuning"), endpoint=endpoint
        ),
        "mail": Mail(
            inbox=location(env, "MNIST_INBOX", at("inbox")),
            predictions=at("predictions"),
            endpoint=endpoint,
            timezone=timezone(env),
            settle_s=number(env, "MNIST_INBOX_SETTLE_S", 5.0, "seconds"),
        ),
        "engine": Scoring(
            address=ray_address(env, environment),
            workers=whole(env, "MNIST_WORKERS", 0, "processes", high=10_000),
            cpus=number(env, "MNIST_WORKER_CPUS", 1.0, "processors", low=0.1),
            wait_s=number(env, "MNIST_RAY_WAIT_S", 120.0, "seconds", low=1.0),
            shard_s=number(env, "MNIST_SHARD_WAIT_S", 1_800.0, "seconds", low=1.0),
        ),
        "tables": Tables(location=at("datasets"), endpoint=endpoint, named=_named_tables(env)),
        "tracking": Tracking(
            uri=mlflow,
            experiment=env.get("MNIST_EXPERIMENT") or "mnist_pipeline",
            location=at("tracking"),
            endpoint=endpoint,
            folder=str(state_folder(env) / "mlflow"),
            ui=env.get("DAGSTER_UI_URL") or "http://127.0.0.1:3000",
            environment=environment,
        ),
        "alerts": Alerts(
            token=dg.EnvVar("SLACK_BOT_TOKEN") if env.get("SLACK_BOT_TOKEN") else "",
            channel=env.get("SLACK_CHANNEL", ""),
            api_url=env.get("SLACK_API_URL", ""),
            ui_url=(env.get("DAGSTER_UI_URL") or "http://127.0.0.1:3000").rstrip("/"),
            heartbeat_url=env.get("MNIST_HEARTBEAT_URL", ""),
        ),
    }


def _named_tables(env: Mapping[str, str]) -> dict[str, str]:
    """Task -> the file that <TASK>_CSV names, such as SUPERSTORE_CSV."""
    variables = {task.name: variable_of(task.name) for task in TASKS if task.csv}
    return {name: str(Path(env[each]).expanduser().resolve()) for name, each in variables.items() if env.get(each)}
