"""Trying again: what may pass by itself (a network, a store that cannot be reached) asks Dagster for another attempt.

Not here: programming errors and bad data, which fail at once; runs that failed as a whole (`assets/conditions.py`,
`healing.py`); workers that crashed (run_retries in dagster.yaml).
"""

import functools
import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import dagster as dg

from mnist_pipeline.acquire import SourceUnreachable
from mnist_pipeline.storage.blobs import StoreUnreachable

PASSES_BY_ITSELF = (StoreUnreachable, SourceUnreachable, ConnectionError, TimeoutError)
RETRIES = 3
FIRST_WAIT_S = 10.0

Given = ParamSpec("Given")
Made = TypeVar("Made")


def wait_s(attempt: int) -> float:
    """Seconds before attempt 1, 2, 3: 10, 20, 40, each up to a quarter more or less, so that steps that failed
    together do not come back together."""
    return FIRST_WAIT_S * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)


@contextmanager
def retried(attempts: Callable[[], int]) -> Iterator[None]:
    """attempts: how often this step was tried before. The last failure is raised as it is."""
    try:
        yield
    except PASSES_BY_ITSELF as error:
        before = attempts()
        if before >= RETRIES:
            raise
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=wait_s(before + 1)) from error


def retrying(compute: Callable[Given, Made]) -> Callable[Given, Made]:
    """For the body of an asset or of its checks: stands between the decorator of Dagster and the function."""

    @functools.wraps(compute)
    def attempt(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        with retried(_retry_number):
            return compute(*args, **kwargs)

    @functools.wraps(compute)
    def attempt_all(*args: Given.args, **kwargs: Given.kwargs) -> Any:
        with retried(_retry_number):
            yield from compute(*args, **kwargs)  # type: ignore[misc]

    return attempt_all if inspect.isgeneratorfunction(compute) else attempt


def _retry_number() -> int:
    return dg.OpExecutionContext.get().retry_number
