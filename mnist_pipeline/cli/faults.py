"""From what goes wrong to one sentence on stderr and an exit code.

| exit code | means |
|---|---|
| 0 | done |
| 1 | something looked at is not as it should be: a file that cannot be read, a damaged version, a changed ledger |
| 2 | the command line or the settings are wrong |
| 3 | no model is in production |
| 4 | there is no such version, or nothing is known of what is to be traced |
| 5 | refused, nothing was decided: nothing to roll back to, force without a reason, not confirmed |
| 6 | somebody else decided first, nothing was decided |
| 7 | damaged: a version, a report or a decision is not as it was stored, or a model gives other answers |
| 8 | the storage cannot be read or written |
| 130 | interrupted |

What is no fault of these keeps its traceback, for it is a fault of ours.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum

import typer

from mnist_pipeline.cli.showing import complain
from mnist_pipeline.deciding import DecisionRefused
from mnist_pipeline.storage.blobs import BadKey, StoreUnavailable
from mnist_pipeline.store import CorruptLedger, CorruptReport, CorruptVersion, LostRace, UnknownVersion
from mnist_pipeline.tracing import Ambiguous, Untraceable


class Code(IntEnum):
    """What a command ends with, as above."""

    NOT_WELL = 1
    USAGE = 2
    NO_MODEL = 3
    UNKNOWN = 4
    REFUSED = 5
    LOST = 6
    DAMAGED = 7
    STORAGE = 8


class BadSettings(ValueError):
    """What the environment variables say cannot be."""


_CODES: dict[type[Exception], Code] = {
    BadSettings: Code.USAGE,
    BadKey: Code.USAGE,
    Ambiguous: Code.USAGE,
    UnknownVersion: Code.UNKNOWN,
    Untraceable: Code.UNKNOWN,
    DecisionRefused: Code.REFUSED,
    LostRace: Code.LOST,
    CorruptVersion: Code.DAMAGED,
    CorruptReport: Code.DAMAGED,
    CorruptLedger: Code.DAMAGED,
    StoreUnavailable: Code.STORAGE,
}


@contextmanager
def told() -> Iterator[None]:
    """Says what went wrong and ends with its code. Raises typer.Exit, and unchanged what is none of these faults."""
    try:
        yield
    except Exception as error:
        code = _code(error)
        if code is None:
            raise
        complain(str(error))
        raise typer.Exit(code) from error


def end_with(problems: Sequence[str]) -> None:
    """Tell each on stderr. Raises typer.Exit where there are any."""
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(Code.NOT_WELL)


def _code(error: Exception) -> Code | None:
    found = [code for kind, code in _CODES.items() if isinstance(error, kind)]
    return found[0] if found else _code_of_model(error)


def _code_of_model(error: Exception) -> Code | None:
    """Looked up by the name of the class: its module imports numpy, for which not every command has the time."""
    names = {"NothingDeployed": Code.NO_MODEL, "WrongAnswers": Code.DAMAGED}
    return names.get(type(error).__name__) if type(error).__module__.startswith("mnist_pipeline.") else None
