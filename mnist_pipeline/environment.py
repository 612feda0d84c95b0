"""What the environment variables say, checked, as places and times. Knows nothing of Dagster.

For those who put things together: `resources.py`, and `service/settings.py` for the service and the command line.
"""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mnist_pipeline.nights import NightlyRun, time_of_day
from mnist_pipeline.storage.locations import BadLocation, blobs_at, place_at, shelf_at
from mnist_pipeline.storage.shelves import Shelf
from mnist_pipeline.store import ModelStore

ENVIRONMENTS = ("dev", "prod")
PROJECT = Path(__file__).resolve().parents[1]
A_CLUSTER = re.compile(r"https?://[^/\s@]+/?|[^/\s:@]+:\d+")  # host:port, or a URL; not auto, local or ray://
REQUIRED = {
    "MNIST_S3_BUCKET": "the bucket in which models, data and predictions are kept",
    "MLFLOW_TRACKING_URI": "where runs are tracked, http://…; none switches it off",
    "SLACK_BOT_TOKEN": "the bot token (xoxb-…) that alerts are sent with",
    "SLACK_CHANNEL": "the channel that alerts go to, best by its id",
}


def environment_name(env: Mapping[str, str] = os.environ) -> str:
    """dev or prod. Raises ValueError for any other."""
    name = env.get("MNIST_PIPELINE_ENV") or "dev"
    if name not in ENVIRONMENTS:
        raise ValueError(f"unknown environment {name!r}: MNIST_PIPELINE_ENV is one of {', '.join(ENVIRONMENTS)}")
    return name


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


def places(env: Mapping[str, str] = os.environ) -> Callable[[str], str]:
    """From the name of what is kept to its location, in this environment."""
    return in_bucket(env) if environment_name(env) == "prod" else in_folder(env)


def in_folder(env: Mapping[str, str]) -> Callable[[str], str]:
    """Everything on this disk."""
    state = state_folder(env)
    return lambda name: str(state / name)


def in_bucket(env: Mapping[str, str]) -> Callable[[str], str]:
    """Everything in S3. Raises ValueError where the bucket is not named, or is no bucket."""
    bucket, prefix = required(env, "MNIST_S3_BUCKET")["MNIST_S3_BUCKET"], env.get("MNIST_S3_PREFIX", "").strip("/")
    root = f"s3://{bucket}/{prefix}".rstrip("/")
    place_at(f"{root}/predictions", env.get("S3_ENDPOINT_URL", ""))  # raises BadLocation, which is a ValueError
    return lambda name: f"{root}/{name}"


def model_store(env: Mapping[str, str] = os.environ) -> ModelStore:
    """Of the digits; nothing is read or written yet."""
    return ModelStore(blobs_at(places(env)("models"), env.get("S3_ENDPOINT_URL", "")))


def shelf_of(name: str, env: Mapping[str, str] = os.environ) -> Shelf:
    """What is kept under that name: prediction_log, feedback, predictions; nothing is read or written yet."""
    return shelf_at(places(env)(name), env.get("S3_ENDPOINT_URL", ""))


def ray_address(env: Mapping[str, str], environment: str) -> str:
    """The head of the Ray cluster that scores nights, host:port; "" for this machine.

    MNIST_ENGINE says which of both; where it is not set, prod takes the cluster if RAY_ADDRESS names one. Raises
    ValueError for an address that leaves open which cluster is joined, or that is none of a head.
    """
    engine = one_of(env, "MNIST_ENGINE", ("auto", "local", "ray"))
    if engine == "local" or (engine == "auto" and not (env.get("RAY_ADDRESS") and environment == "prod")):
        return ""
    return _head(env, "MNIST_ENGINE=local, to score nights on this machine")


def training_cluster(env: Mapping[str, str] = os.environ) -> str:
    """The head of the Ray cluster that trains, host:port; "" for the process of the run.

    MNIST_TRAIN_ON says which of both. Raises ValueError for an address that leaves open which cluster is joined.
    """
    if one_of(env, "MNIST_TRAIN_ON", ("process", "ray")) == "process":
        return ""
    return _head(env, "MNIST_TRAIN_ON=process, to train in the process of the run")


def _head(env: Mapping[str, str], otherwise: str) -> str:
    address = env.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError(
            f"RAY_ADDRESS={address!r} is not the address of a cluster's head: write it as host:port, like "
            f"ray-head:6379 (or {otherwise})"
        )
    return address


def steps_on(env: Mapping[str, str] = os.environ) -> str:
    """Where steps run: "process", that of their run; "processes", one each on this machine; "ray", jobs of a cluster.

    Prod keeps them apart unless it is told otherwise. Raises ValueError for any other.
    """
    apart = environment_name(env) == "prod"
    return one_of(env, "MNIST_STEPS_ON", ("processes", "process", "ray") if apart else ("process", "processes", "ray"))


def ray_jobs_address(env: Mapping[str, str] = os.environ) -> str:
    """Where a Ray cluster takes jobs: its dashboard, http://host:8265, or its head, host:6379.

    Both variables are Ray's own. Raises ValueError for none, and for one that leaves open which cluster is meant.
    """
    for variable in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        if address := env.get(variable, ""):
            if A_CLUSTER.fullmatch(address):
                return address.rstrip("/")
            raise ValueError(
                f"{variable}={address!r} does not say where jobs are taken: write http://host:8265 into "
                "RAY_API_SERVER_ADDRESS (the dashboard), or host:6379 into RAY_ADDRESS (the head)"
            )
    raise ValueError(
        "MNIST_STEPS_ON=ray needs a cluster: set RAY_API_SERVER_ADDRESS=http://host:8265 (its dashboard), or "
        "RAY_ADDRESS=host:6379 (its head)"
    )


def required(env: Mapping[str, str], *names: str) -> dict[str, str]:
    """The values of variables that have no default. Raises ValueError naming all that are not set, at once."""
    if missing := [f"{name}: {REQUIRED[name]}" for name in names if not env.get(name)]:
        raise ValueError("MNIST_PIPELINE_ENV=prod needs variables that are not set:\n  " + "\n  ".join(missing))
    return {name: env[name] for name in names}


def location(env: Mapping[str, str], variable: str, default: str) -> str:
    """A folder as an absolute path, or s3://bucket/prefix; BadLocation, a ValueError, names a wrong variable."""
    given = env.get(variable) or default
    if not given:
        return ""
    try:
        place = place_at(given, env.get("S3_ENDPOINT_URL", ""))
    except BadLocation as error:
        raise BadLocation(f"{variable}: {error}") from error
    return str(place.expanduser()) if isinstance(place, Path) else given


def one_of(env: Mapping[str, str], variable: str, accepted: Sequence[str]) -> str:
    """The value of a variable, the first of those accepted where it is not set."""
    value = env.get(variable) or accepted[0]
    if value not in accepted:
        raise ValueError(f"{variable}={value!r}: it is one of {', '.join(accepted)}")
    return value


def number(
    env: Mapping[str, str], variable: str, default: float, unit: str = "", *, low: float = 0.0, high: float = math.inf
) -> float:
    """A number from `low` to `high`. Raises ValueError naming the variable."""
    text = env.get(variable) or str(default)
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{variable}={text!r} is no number{unit and f' of {unit}'}") from error
    if not low <= value <= high or value == math.inf:
        raise ValueError(
            f"{variable}={text!r}: it is {f'{low:g} to {high:g}' if high < math.inf else f'{low:g} or more'}"
        )
    return value


def whole(env: Mapping[str, str], variable: str, default: int, unit: str = "", *, low: int = 0, high: int) -> int:
    """A whole number from `low` to `high`. Raises ValueError naming the variable."""
    value = number(env, variable, default, unit, low=low, high=high)
    if value != int(value):
        raise ValueError(f"{variable}={env[variable]!r}: it is a whole number")
    return int(value)
