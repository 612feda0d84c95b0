"""Alerts: what is said to people, and the doors it leaves through: Slack, or the log where there is no Slack.

Here: the value (`Alert`), the kinds there are, what a message looks like, the two alerters, and the heartbeat.
Not here: what deserves an alert (`findings.py`, `health.py`) and when it is told (`watching.py`).
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mnist_pipeline.redaction import Redaction

if TYPE_CHECKING:
    from slack_sdk import WebClient

NOTHING_NAMED = Redaction()  # still removes what has the shape of a secret
Severity = Literal["error", "warning", "info"]
AT_ONCE = 5  # more than that waiting become one digest
LONGEST_WAIT_S = 10.0  # in all, for a Slack that asks for patience; a tick may take 60 s
TIMEOUT_S = 5
LISTED = 10  # links, and causes, in a digest
# Slack takes 150 characters in a header and 3,000 in a section, counted after escaping; ten links share a section.
HEADER, CAUSE, LINK = 140, 2_000, 200
SIGNS = {"error": ":red_circle:", "warning": ":large_yellow_circle:", "info": ":large_blue_circle:"}


@dataclass(frozen=True)
class Kind:
    """A sort of alert: how bad it is, and what to do about it."""

    severity: Severity
    to_do: str


KINDS: dict[str, Kind] = {
    "run_failed": Kind(
        "error", "Open the run, remove the cause, then `Re-execute > From failure`: finished steps are reused."
    ),
    "run_canceled": Kind("warning", "Nobody asked for it: look at the run's last events, then run it again."),
    "check_failed": Kind("error", "Open the check's metadata. Nothing downstream ran if it blocks; mend data or code."),
    "check_warned": Kind("warning", "The run went on. Look at the check's metadata and decide whether it matters."),
    "model_refused": Kind(
        "warning",
        "Production serves on as before. Read the evidence; train again, or deploy with `force` and a reason.",
    ),
    "production_refused": Kind(
        "error", "It serves on all the same. Read the evidence; roll back, train again, or lower the minimum again."
    ),
    "fallback_data": Kind(
        "warning",
        "The data set could not be had: set MNIST_DATA_DIR or mend the network, then materialize raw_mnist_data.",
    ),
    "empty_night": Kind(
        "info", "The inbox was empty or nothing in it could be read. If that is wrong, see who fills it."
    ),
    "switched_off": Kind("warning", "Somebody switched it off. Switch it on again under Automation in the UI."),
    "failing": Kind("error", "Open its ticks under Automation, remove the cause; it goes on by itself."),
    "lagging": Kind(
        "error",
        "It should have ticked. Reload the code location under Deployment; if that does not help, restart the daemon.",
    ),
    "daemon_silent": Kind("error", "Restart dagster-daemon; its log says why it stopped."),
    "night_overdue": Kind("error", "Materialize that partition of batch_digit_predictions; see why its run did not."),
    "night_given_up": Kind(
        "error", "Nobody asks for it any more: materialize that partition of batch_digit_predictions by hand."
    ),
    "unwatched": Kind(
        "warning",
        "The daemon was down, or `watch` failed: see its ticks. Nights and alerts of that time are caught up on.",
    ),
    "over": Kind("info", "Nothing: it went away."),
}


class AlertsUndelivered(RuntimeError):
    """Slack did not take a message; the message says why and what to do. What was not taken is sent again."""


@dataclass(frozen=True)
class Alert:
    """One thing that people should know. id: the same whenever the same thing is found again.

    kind: a key of KINDS. job, asset, link: empty where there is none.
    """

    id: str
    kind: str
    title: str
    cause: str
    job: str = ""
    asset: str = ""
    link: str = ""
    to_do: str = ""
    severity: Severity = "error"


def alert(id: str, kind: str, title: str, cause: str, **more: Any) -> Alert:
    """An alert with the severity and the advice of its kind, unless `more` says otherwise."""
    known = KINDS[kind]
    return Alert(id, kind, title, cause, **{"severity": known.severity, "to_do": known.to_do, **more})


def batches(alerts: Sequence[Alert], at_once: int = AT_ONCE) -> list[list[Alert]]:
    """What goes out together: each alone, or everything as one digest when more than `at_once` wait."""
    return [[each] for each in alerts] if len(alerts) <= at_once else [list(alerts)]


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


# --- what a message looks like ---


def redacted(each: Alert, redaction: Redaction) -> Alert:
    """The same without secrets in any of its texts."""
    texts: dict[str, Any] = {
        name: redaction(getattr(each, name)) for name in ("title", "cause", "job", "asset", "link", "to_do")
    }
    return replace(each, **texts)


def plain(each: Alert) -> str:
    """In full, for a log."""
    rows = [("job", each.job), ("asset", each.asset), ("cause", each.cause), ("do", each.to_do), ("see", each.link)]
    return "\n".join([f"[{each.kind}] {each.title}", *(f"  {name}: {value}" for name, value in rows if value)])


def single(each: Alert) -> dict[str, Any]:
    """Blocks and the text that notifications show."""
    facts = [f"*{name}*  {fit(value, 300)}" for name, value in (("Job", each.job), ("Asset", each.asset)) if value]
    body = f"*Cause*\n```{fit(each.cause.replace('```', chr(39) * 3).strip() or 'no reason was given', CAUSE)}```"
    parts = [*(["\n".join(facts)] if facts else []), body, f"*What to do*  {fit(each.to_do, 500)}"]
    parts += [linked(each.link, "Open in Dagster")] if each.link else []
    text = f"{fit(each.title, 300)}: {fit(each.cause, 500)} {linked(each.link, 'open')}".strip()
    return {"text": text, "blocks": [_header(f"{SIGNS[each.severity]} {each.title}"), *map(_section, parts)]}


def digest(alerts: Sequence[Alert], runs_page: str) -> dict[str, Any]:
    """Many alerts in one message: counts by job and cause, what to do, the first links, and where to see them all."""
    worst = next(each for each in ("error", "warning", "info") if each in {a.severity for a in alerts})
    title = f"{len(alerts):,} alerts"
    counts = Counter((a.kind.replace("_", " "), a.job or a.asset or a.title, first_line(a.cause)) for a in alerts)
    rows = [
        f"• {count:,} × {kind}, {fit(where, 60)}: {fit(why, 120)}"
        for (kind, where, why), count in counts.most_common(LISTED)
    ]
    rows += [f"• and {len(counts) - LISTED:,} other causes"] if len(counts) > LISTED else []
    links = [linked(a.link, a.title) for a in alerts if a.link][:LISTED]
    parts = ["\n".join(rows), *(["\n".join(links)] if links else [])]
    parts.insert(1, "*What to do*\n" + "\n".join(_advice(alerts)))
    parts += [linked(runs_page, "All runs")] if runs_page else []
    return {
        "text": f"{title}: {fit(rows[0], 500)}",
        "blocks": [_header(f"{SIGNS[worst]} {title}"), *map(_section, parts)],
    }


def _advice(alerts: Sequence[Alert]) -> list[str]:
    """What to do, once for each kind."""
    kinds = Counter((each.kind.replace("_", " "), each.to_do) for each in alerts)
    return [f"• {kind}: {fit(to_do, 200)}" for (kind, to_do), _ in kinds.most_common(LISTED)]


def first_line(text: str) -> str:
    """Of a cause, to count by."""
    return (text.strip().splitlines() or ["no reason was given"])[0]


def fit(text: str, limit: int) -> str:
    """Escaped for Slack and at most `limit` characters (UTF-16, as Slack counts), cut between characters."""
    names = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    whole = [names.get(c, c) if c.isprintable() or c == "\n" else " " for c in text[: limit + 1]]
    room, kept = limit - 1, list[str]()
    for piece in whole:
        room -= len(piece.encode("utf-16-le")) // 2
        if room < 0:
            return "".join(kept) + "…"
        kept.append(piece)
    return "".join(kept)


def linked(url: str, label: str) -> str:
    """A link, or only its label where the URL is none, or too long to be whole."""
    safe = "".join(c if c.isascii() and c.isprintable() and c not in ' <>|"' else _hex(c) for c in url)
    safe = safe.replace("&", "&amp;")
    usable = safe.startswith(("http://", "https://")) and len(safe) <= LINK
    said = fit(label, 50).strip() or "untitled"
    return f"<{safe}|{said}>" if usable else said


def _hex(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))


def _header(text: str) -> dict[str, Any]:
    flat = " ".join(text.split())
    cut = flat if len(flat.encode("utf-16-le")) // 2 <= HEADER else flat[: HEADER // 2] + "…"
    return {"type": "header", "text": {"type": "plain_text", "text": cut, "emoji": True}}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


# --- so that somebody outside notices when everything is dead ---


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
