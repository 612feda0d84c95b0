"""An alert as a value, and the kinds there are: how bad each is, and what to do about it.

Not here: what deserves an alert and when it is told (`sensors/`), and how it leaves (`doors.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
AT_ONCE = 5  # more than that waiting become one digest


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
    "challenger_withdrawn": Kind(
        "warning", "Production serves on as before. Read the report; train again, or challenge with another version."
    ),
    "challenger_promoted": Kind(
        "info", "Nothing: its predecessor runs in the shadow, as the yardstick for a rollback."
    ),
    "rolled_back": Kind(
        "error", "The predecessor serves again. Read the report and find out what is wrong with the version after it."
    ),
    "not_served": Kind(
        "error", "The service answers with the model before. Restore that version from a backup, or roll back."
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
