"""Nights: which date a night bears, when it ends and when it is due. Everything about time zones is here."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class NightlyRun:
    """A run every day at one time of day, for the day before.

    timezone: an IANA name. hour, minute: on the clocks there.
    """

    timezone: str
    hour: int
    minute: int

    @property
    def zone(self) -> ZoneInfo:
        """The time zone itself."""
        return ZoneInfo(self.timezone)

    @property
    def cron(self) -> str:
        """When it runs."""
        return f"{self.minute} {self.hour} * * *"

    @property
    def deadline(self) -> str:
        """An hour later, as cron: by then a night has been predicted, or somebody should look."""
        return f"{self.minute} {(self.hour + 1) % 24} * * *"

    def night_of(self, tick: datetime) -> str:
        """The date of the day that had ended when the clock struck: YYYY-MM-DD."""
        return (tick.astimezone(self.zone).date() - timedelta(days=1)).isoformat()

    def begin(self, night: str) -> datetime:
        """Midnight, when the day of a night begins."""
        return datetime.combine(date.fromisoformat(night), time(), self.zone)

    def end(self, night: str) -> datetime:
        """Midnight, when the day of a night is over."""
        return datetime.combine(date.fromisoformat(night) + timedelta(days=1), time(), self.zone)

    def due(self, night: str) -> datetime:
        """When the run for a night is to start. A time that the clocks skip comes as much later as they skip."""
        day = date.fromisoformat(night) + timedelta(days=1)
        return datetime.combine(day, time(self.hour, self.minute), self.zone)

    def due_between(self, begin: datetime, end: datetime) -> list[str]:
        """The nights whose time has come since `begin` and by `end`, oldest first."""
        day, nights = begin.astimezone(self.zone).date() - timedelta(days=2), []
        while self.due(day.isoformat()) <= end:
            if begin <= self.due(day.isoformat()):
                nights.append(day.isoformat())
            day += timedelta(days=1)
        return nights


def time_of_day(text: str) -> tuple[int, int]:
    """ "02:00" -> (2, 0). Raises ValueError."""
    read = datetime.strptime(text, "%H:%M")
    return read.hour, read.minute
