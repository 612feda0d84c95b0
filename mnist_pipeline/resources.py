"""Resources: configuration, and one method each that returns the plain object holding the behaviour.

`dev_resources` and `prod_resources` have the same keys and other values. Nothing here touches a disk or a network.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg

from mnist_pipeline.acquire import DATASETS, DigitSource
from mnist_pipeline.alerts import TIMEOUT_S, Alerter, Heartbeat, LogAlerter, NoHeartbeat, SlackAlerter, UrlHeartbeat
from mnist_pipeline.blobs import DiskBlobs
from mnist_pipeline.files import AssetFilesResource
from mnist_pipeline.ml.digits import preparation_named
from mnist_pipeline.pictures import PictureBook
from mnist_pipeline.redaction import Redaction
from mnist_pipeline.store import ModelStore

PROJECT = Path(__file__).resolve().parents[1]
REQUIRED_IN_PROD = {
    "SLACK_BOT_TOKEN": "the bot token (xoxb-…) that alerts are sent with",
    "SLACK_CHANNEL": "the channel that alerts go to, best by its id",
}


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


class Alerts(dg.ConfigurableResource):
    """Where alerts go: a Slack channel, or the log where there is no token.

    api_url: of Slack's API, empty for Slack's own. ui_url: of the Dagster UI, for links.
    heartbeat_url: is asked for while all is watched, empty for nobody.
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
        client.timeout, client.retry_handlers = TIMEOUT_S, []  # the next tick tries again: one try each, soon over
        if self.api_url:
            client.base_url = self.api_url.rstrip("/") + "/"
        return SlackAlerter(client, self.channel, redaction, runs_page=f"{self.ui_url}/runs")

    def heartbeat(self) -> Heartbeat:
        """The sign of life for a monitor outside."""
        return UrlHeartbeat(self.heartbeat_url) if self.heartbeat_url else NoHeartbeat()


def dev_resources(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Everything on this disk; embedded digits when MNIST cannot be had."""
    return _resources(env, allow_embedded=True)


def prod_resources(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The full data set or a clear failure."""
    _required(env, REQUIRED_IN_PROD)
    return _resources(env, allow_embedded=False)


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


def nightly_at(env: Mapping[str, str] = os.environ) -> str:
    """HH:MM, in the timezone above."""
    at = env.get("MNIST_NIGHTLY_AT") or "02:00"
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", at):
        raise ValueError(f"MNIST_NIGHTLY_AT={at!r} is no time of day; write it like 02:00")
    return at


def _resources(env: Mapping[str, str], *, allow_embedded: bool) -> dict[str, Any]:
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
        "alerts": Alerts(
            token=dg.EnvVar("SLACK_BOT_TOKEN") if env.get("SLACK_BOT_TOKEN") else "",
            channel=env.get("SLACK_CHANNEL", ""),
            api_url=env.get("SLACK_API_URL", ""),
            ui_url=(env.get("DAGSTER_UI_URL") or "http://127.0.0.1:3000").rstrip("/"),
            heartbeat_url=env.get("MNIST_HEARTBEAT_URL", ""),
        ),
    }


def _required(env: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Raises ValueError naming every variable that is not set, with what it is for."""
    missing = [f"{name}: {purpose}" for name, purpose in variables.items() if not env.get(name)]
    if missing:
        raise ValueError("MNIST_PIPELINE_ENV=prod needs variables that are not set:\n  " + "\n  ".join(missing))


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
