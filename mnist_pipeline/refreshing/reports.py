"""What a refresh did, in lines for people: what ran, what was kept, and why.

Not here: the refresh itself (`waves.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import dagster as dg

from mnist_pipeline.assets.causes import Target
from mnist_pipeline.refreshing.standings import Standing

NAMED = 3  # partitions in a line


@dataclass(frozen=True)
class Done:
    """What became of a target that was to be made. fault: why it was not, empty if it was.

    seconds: of its step, 0 where that is told with another target of the same step.
    """

    target: Target
    why: str
    run_id: str
    seconds: float = 0.0
    fault: str = ""

    def line(self) -> str:
        """For a terminal."""
        if self.fault:
            return line("FAILED", str(self.target), f"{self.fault}\n(it was run because: {self.why})")
        took = f"{self.seconds:5.1f} s" if self.seconds else "      “"
        return line("ran", str(self.target), f"{took}  {self.why}")


@dataclass(frozen=True)
class Report:
    """What a refresh did: in the order of its runs, then how everything stands."""

    done: Sequence[Done]
    standings: Sequence[Standing]
    on_request: Sequence[dg.AssetKey]
    faults: Sequence[str] = field(default=())  # of steps that make nothing: checks
    unread: Sequence[str] = field(default=())  # what is wrong with files that could not be read, which no run tells

    @property
    def well(self) -> bool:
        """Whether everything that was looked at is up to date, or stays as it is because its source was taken away."""
        stale = any(each.causes and not each.gone for each in self.standings)
        return not (self.faults or self.unread or any(each.fault for each in self.done) or stale)

    @property
    def runs(self) -> list[str]:
        """Ids of the runs, in their order."""
        return list(dict.fromkeys(each.run_id for each in self.done if each.run_id))

    def lines(self) -> Iterator[str]:
        """What was kept, and why; then the sum. What ran was told when it had."""
        yield from map(_fault_line, [*self.unread, *self.faults])
        ran = {each.target for each in self.done}
        kept = [each for each in self.standings if each.target not in ran]
        again = [each for each in self.standings if each.target in ran and each.causes]
        for each in again:
            if not any(one.target == each.target and one.fault for one in self.done):
                yield line("STILL", str(each.target), f"out of date after it ran: {each.why}")
        for (key, why), group in groupby(kept, lambda each: (each.target.key, each.why_kept)):
            yield line("kept", _names(key, [each.target.partition for each in group]), why)
        yield ""
        if self.on_request:
            names = ", ".join(key.to_user_string() for key in self.on_request)
            yield f"  not looked at, for it is made on request only: {names}"
        yield f"  {self._sum(len(kept))}"

    def _sum(self, kept: int) -> str:
        failed = sum(bool(each.fault) for each in self.done)
        parts = [f"{len(self.done) - failed} ran", f"{failed} failed" if failed else "", f"{kept} kept"]
        what = "everything else" if any(each.causes and each.gone for each in self.standings) else "everything"
        end = f"{what} is up to date" if self.well else "not everything is up to date"
        return f"{', '.join(filter(None, parts))}: {end}"


def line(what: str, name: str, why: str) -> str:
    """What became of something, its name, and why; the reason may have several lines."""
    first, *rest = why.splitlines()
    return "\n".join([f"  {what:<6}  {name:<34}  {first}", *(f"{'':<12}{more}" for more in rest)])


def _fault_line(fault: str) -> str:
    step, _, cause = fault.partition(": ")
    return line("FAILED", step, cause)


def _names(key: dg.AssetKey, partitions: Sequence[str | None]) -> str:
    named = [each for each in partitions if each is not None]
    more = f" … {len(named) - NAMED} more" if len(named) > NAMED else ""
    return key.to_user_string() + (f" [{', '.join(named[:NAMED])}{more}]" if named else "")
