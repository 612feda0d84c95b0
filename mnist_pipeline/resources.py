"""Resources: configuration, and one method each that returns the plain object holding the behaviour.

`dev_resources` and `prod_resources` have the same keys and other values. Nothing here touches a disk or a network.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg

from mnist_pipeline.acquire import DATASETS, DigitSource
from mnist_pipeline.blobs import DiskBlobs
from mnist_pipeline.files import AssetFilesResource
from mnist_pipeline.ml.digits import preparation_named
from mnist_pipeline.nights import NightlyRun, time_of_day
from mnist_pipeline.pictures import PictureBook
from mnist_pipeline.store import ModelStore

PROJECT = Path(__file__).resolve().parents[1]


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


def dev_resources(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Everything on this disk; embedded digits when MNIST cannot be had."""
    return _resources(env, allow_embedded=True)


def prod_resources(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The full data set or a clear failure."""
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


def nightly_run(env: Mapping[str, str] = os.environ) -> NightlyRun:
    """When a night is predicted. Raises ValueError naming the variable that is wrong, and its form."""
    text = env.get("MNIST_NIGHTLY_AT") or "02:00"
    try:
        hour, minute = time_of_day(text)
    except ValueError as error:
        raise ValueError(f"MNIST_NIGHTLY_AT={text!r} is no time of day; write it as HH:MM, like 02:00") from error
    return NightlyRun(timezone(env), hour, minute)


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
