"""What is set for a process as a whole, by whoever runs it: nothing happens on import."""

import atexit
import functools
import gc
from pathlib import Path

COLLECT_AFTER = 20_000  # new objects; Python's 700 takes a tenth of the time of a short run


def read_dotenv() -> None:
    """What .env in the working folder says, as Dagster does; what is set already is not changed."""
    from dotenv import load_dotenv

    load_dotenv(Path(".env"))


@functools.cache
def collect_seldom() -> None:
    """Fewer garbage collections in this process, and none as it ends.

    Each looks at the hundred thousands of objects that torch, pandas and Dagster are made of, which never become
    garbage: 1 s of importing them, and 1.5 s of Python's exit.
    """
    gc.set_threshold(COLLECT_AFTER, 20, 100)
    atexit.register(gc.freeze)
