"""The doors that alerts leave through: Slack, or the log where there is no Slack; and the sign of life for a monitor.

Not here: what is said (`kinds.py`) and how it looks (`messages.py`).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mnist_pipeline.alerts.kinds import Alert
from mnist_pipeline.alerts.messages import digest, plain, redacted, single
from mnist_pipeline.alerts.redaction import Redaction

if TYPE_CHECKING:
    from slack_sdk import WebClient

NOTHING_NAMED = Redaction()  # still removes what has the shape of a secret
LONGEST_WAIT_S = 10.0  # in all, for a Slack that asks for patience; a tick may take 60 s
TIMEOUT_S = 5


class AlertsUndelivered(RuntimeError):
    """Slack did not take a message; the message says why and what to do. What was not taken is sent again."""


class Alerter(Protocol):
    """A door to people."""

    def send(self, alerts: Sequence[Alert]) -> None:
        """One message: an alert, or a digest of several. Raises AlertsUndelivered."""


@dataclass(frozen=True)
class LogAlerter:
    """Where there is no Slack: the same alerts in the log, every one in full."""

    log: logging.Logger
    redaction: Redaction = NOTHING_NAMED

    def send(self, alerts: Sequence[Alert]) -> None:
        levels = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}
        for each in alerts:
            self.log.log(levels[each.severity], "ALERT %s", plain(redacted(each, self.redaction)))


@dataclass(frozen=True)
class SlackAlerter:
    """Messages to one channel. The client is used as it was given: address, token, timeout."""

    client: WebClient
    channel: str
    redaction: Redaction = NOTHING_NAMED
    runs_page: str = ""
    longest_wait_s: float = LONGEST_WAIT_S
    pause: Callable[[float], None] = field(default=time.sleep, compare=False)

    def send(self, alerts: Sequence[Alert]) -> None:
        clean = [redacted(each, self.redaction) for each in alerts]
        message = single(clean[0]) if len(clean) == 1 else digest(clean, self.redaction(self.runs_page))
        self._ask("chat.postMessage", {"channel": self.channel, "unfurl_links": False, "parse": "none", **message})

    def check(self) -> str:
        """As whom Slack knows us. Raises AlertsUndelivered."""
        answer = self._ask("auth.test", {})
        return f"{answer.get('user', '?')} in {answer.get('team', '?')}"

    def _ask(self, method: str, arguments: dict[str, Any]) -> Any:
        """Call Slack; wait as long as it asks for, while that is within `longest_wait_s` in all."""
        from slack_sdk.errors import SlackApiError, SlackClientError

        waited = 0.0
        while True:
            try:
                return self.client.api_call(method, json=arguments)
            except SlackApiError as error:
                wait = _asked_to_wait(error.response)
                if wait is None or waited + wait > self.longest_wait_s:
                    raise AlertsUndelivered(self.redaction(_refusal(error.response, self.channel))) from error
                waited += wait
                self.pause(wait)
            except (SlackClientError, OSError, ValueError) as error:
                said = f"Slack cannot be reached at {self.client.base_url}: {type(error).__name__}: {error}"
                raise AlertsUndelivered(self.redaction(f"{said}. It is tried again at the next tick")) from error


def slack_door(
    client: WebClient, api_url: str, channel: str, redaction: Redaction, runs_page: str = ""
) -> SlackAlerter:
    """With one try a message, soon over: whoever sends tries again. api_url: empty for Slack's own."""
    client.timeout, client.retry_handlers = TIMEOUT_S, []
    if api_url:
        client.base_url = api_url.rstrip("/") + "/"
    return SlackAlerter(client, channel, redaction, runs_page=runs_page)


def _asked_to_wait(response: Any) -> float | None:
    """Seconds, where Slack says "too many requests"."""
    if response.status_code != 429 and _code(response) != "ratelimited":
        return None
    given = {name.lower(): value for name, value in response.headers.items()}.get("retry-after", "1")
    given = given[0] if isinstance(given, list) else given
    return max(0.0, float(given)) if re.fullmatch(r"\d+(\.\d+)?", str(given)) else 1.0


def _code(response: Any) -> str:
    return str(response.data.get("error", "")) if isinstance(response.data, dict) else ""


CURES = {
    **dict.fromkeys(
        ("invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive"),
        "SLACK_BOT_TOKEN is not accepted: copy the bot token (xoxb-…) of the app anew",
    ),
    "channel_not_found": "SLACK_CHANNEL {channel!r} is not known to the bot: use the channel's id, and invite the bot",
    "not_in_channel": "invite the bot into {channel!r}: /invite @bot",
    "is_archived": "{channel!r} is archived: set SLACK_CHANNEL to another",
    "missing_scope": "give the app the scope chat:write and install it again",
}


def _refusal(response: Any, channel: str) -> str:
    code = "" if response.status_code >= 500 else _code(response)
    cure = CURES.get(code, "it is tried again at the next tick").format(channel=channel)
    return f"Slack refused the message ({code or f'status {response.status_code}'}): {cure}"


class Heartbeat(Protocol):
    """A sign of life for a monitor outside."""

    def beat(self) -> None:
        """Raises OSError when it could not be given."""


class NoHeartbeat:
    """Where nobody outside listens."""

    def beat(self) -> None:
        """Nothing."""


@dataclass(frozen=True)
class UrlHeartbeat:
    """A GET, as healthchecks.io and its kin want it."""

    url: str

    def beat(self) -> None:
        """Raises OSError: no answer in 5 s, or one that is no success."""
        from http.client import HTTPException
        from urllib.request import urlopen

        try:
            with urlopen(self.url, timeout=TIMEOUT_S) as answer:
                answer.read(1)
        except (HTTPException, ValueError) as error:
            raise OSError(f"MNIST_HEARTBEAT_URL did not take the heartbeat: {type(error).__name__}") from error
