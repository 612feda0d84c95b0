"""How the service is to run, from the environment; and the objects that its settings lead to.

Nothing here touches a disk or a network. What the variables mean is in the README's table.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

from mnist_pipeline.alerts.doors import Alerter, LogAlerter, slack_door
from mnist_pipeline.alerts.redaction import Redaction
from mnist_pipeline.environment import model_store, number, one_of, places, whole
from mnist_pipeline.service.feedback import Feedback
from mnist_pipeline.service.log_process import LogProcess
from mnist_pipeline.service.prediction_log import NoLog, PredictionLog
from mnist_pipeline.storage.locations import shelf_at
from mnist_pipeline.store import ModelStore

HOST, PORT = "127.0.0.1", 8000


@dataclass(frozen=True)
class Settings:
    """What can be turned. at_once: requests that may be at work; batch: images in one run of the network, 1 for none
    together; wait_s: that a run waits for more of them; share: of the requests that the challenger answers, while it
    runs in the shadow of the others; abstain: whether an answer has no label where several are possible."""

    host: str = HOST
    port: int = PORT
    token: str = ""
    at_once: int = 64
    batch: int = 16
    wait_s: float = 0.0
    challenger: str = ""
    share: float = 0.0
    log: bool = True
    images: bool = False
    abstain: bool = False

    @classmethod
    def of(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Raises ValueError naming the variable that is wrong."""
        return cls(
            host=env.get("MNIST_SERVE_HOST") or HOST,
            port=whole(env, "MNIST_SERVE_PORT", PORT, high=65_535),
            token=_token(env),
            at_once=whole(env, "MNIST_SERVE_AT_ONCE", 64, "requests", low=1, high=10_000),
            batch=whole(env, "MNIST_SERVE_BATCH", 16, "images", low=1, high=256),
            wait_s=number(env, "MNIST_SERVE_WAIT_MS", 0, "milliseconds", high=1_000) / 1e3,
            challenger=env.get("MNIST_CHALLENGER", ""),
            share=number(env, "MNIST_CHALLENGER_SHARE", 0, high=1),
            log=one_of(env, "MNIST_PREDICTION_LOG", ("on", "off")) == "on",
            images=one_of(env, "MNIST_KEEP_IMAGES", ("no", "yes")) == "yes",
            abstain=one_of(env, "MNIST_ABSTAIN", ("off", "on")) == "on",
        )


def _token(env: Mapping[str, str]) -> str:
    """Without the white space around it, such as the line's end where a secret was a file. Raises ValueError for what
    no client could send in a header."""
    given = env.get("MNIST_SERVE_TOKEN", "")
    token = given.strip()
    if (given and not token) or not all("!" <= letter <= "~" for letter in token):
        raise ValueError(
            "MNIST_SERVE_TOKEN is white space, has some within, or letters beyond ASCII: use A-Z, a-z, 0-9"
        )
    return token


@dataclass(frozen=True)
class Doors:
    """What the service works with outside of itself."""

    store: ModelStore
    log: PredictionLog | NoLog
    feedback: Feedback
    alerter: Alerter


def doors(settings: Settings, env: Mapping[str, str] = os.environ) -> Doors:
    """Raises ValueError for a place that cannot be."""
    at, endpoint = places(env), env.get("S3_ENDPOINT_URL", "")
    writer = LogProcess(at("prediction_log"), endpoint, images=settings.images)
    log = PredictionLog(writer) if settings.log else NoLog()
    return Doors(model_store(env), log, Feedback(shelf_at(at("feedback"), endpoint)), _alerter(env))


def _alerter(env: Mapping[str, str]) -> Alerter:
    redaction = Redaction.of(env)
    if not env.get("SLACK_BOT_TOKEN"):
        return LogAlerter(logging.getLogger("mnist_pipeline.service"), redaction)
    from slack_sdk import WebClient

    client = WebClient(token=env["SLACK_BOT_TOKEN"])
    return slack_door(client, env.get("SLACK_API_URL", ""), env.get("SLACK_CHANNEL", ""), redaction)
