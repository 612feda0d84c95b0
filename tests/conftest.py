"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from fault_table import HEAD
from pipelines import TINY, UP_TO_DEPLOYMENT, Pipeline
from real_data import SUPERSTORE_CSV  # noqa: F401  # which takes it out of the environment
from s3_server import CREDENTIALS, Proxy, moto_server, new_bucket, proxy_before

from mnist_pipeline.storage.s3_requests import Place

# Two workers with a thread for each core would have them wait for each other; set before torch is imported anywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, dg.ExecuteInProcessResult]:
    """A tiny network, trained, evaluated and deployed: once for all tests."""
    made = Pipeline(tmp_path_factory.mktemp("finished"))
    return made, made.run(*UP_TO_DEPLOYMENT, digit_classifier=TINY)


@pytest.fixture
def finished(first_run: tuple[Pipeline, dg.ExecuteInProcessResult]) -> Pipeline:
    """The pipeline after that, to look at only: whoever changes something takes `pipeline`."""
    return first_run[0]


@pytest.fixture
def result(first_run: tuple[Pipeline, dg.ExecuteInProcessResult]) -> dg.ExecuteInProcessResult:
    """That run."""
    return first_run[1]


@pytest.fixture
def pipeline(finished: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of `finished` to work on."""
    return finished.copy(tmp_path / "state")


@pytest.fixture
def fresh(tmp_path: Path) -> Pipeline:
    """A pipeline that nothing has run in."""
    return Pipeline(tmp_path / "state")


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 server, with credentials for it in the environment, also of child processes."""
    with pytest.MonkeyPatch.context() as patch, moto_server() as endpoint:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield endpoint


@pytest.fixture
def place(s3_endpoint: str) -> Place:
    """An empty prefix of a bucket of its own."""
    return Place(new_bucket(s3_endpoint), "some/prefix", s3_endpoint)


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[Proxy]:
    """Before that server, to answer wrongly."""
    with proxy_before(s3_endpoint) as between:
        yield between


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The faults that were tried, as the README quotes them."""
    passed = terminalreporter.getreports("passed")
    lines = [line for report in passed for name, line in report.user_properties if name == "fault"]
    if lines:
        terminalreporter.write_line("\n".join([HEAD, *sorted(map(str, lines))]))
