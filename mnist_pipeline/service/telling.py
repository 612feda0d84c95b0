"""What people must know of the service goes out from a thread of its own: a Slack that hangs delays no decision."""

from __future__ import annotations

import logging
import threading
from collections import deque

from mnist_pipeline.alerts.doors import Alerter, AlertsUndelivered
from mnist_pipeline.alerts.kinds import Alert

AGAIN_S = 10.0  # before an alert that did not get out is sent again
log = logging.getLogger(__name__)


class Telling:
    """Alerts that wait for the door, in order; none is lost while the process lives."""

    def __init__(self, alerter: Alerter) -> None:
        self._alerter = alerter
        self._waiting: deque[Alert] = deque()
        self._news, self._ends = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send_on, name="telling", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Try once more, then end."""
        self._ends.set()
        self._news.set()
        self._thread.join(timeout=5)

    def tell(self, alert: Alert) -> None:
        """Never waits."""
        self._waiting.append(alert)
        self._news.set()

    def _send_on(self) -> None:
        while not self._ends.is_set():
            self._news.wait()
            self._news.clear()
            while not self._sent() and not self._ends.wait(AGAIN_S):
                pass

    def _sent(self) -> bool:
        """Whether everything got out."""
        while self._waiting:
            try:
                self._alerter.send([self._waiting[0]])
            except AlertsUndelivered as error:
                log.error("an alert did not get out, it is sent again: %s", error)
                return False
            except Exception:  # the thread must not end: nobody would be told anything any more
                log.exception("an alert could not be sent, and is dropped")
            self._waiting.popleft()
        return True
