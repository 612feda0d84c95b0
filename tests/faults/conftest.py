"""Fixtures of the tests of faults: child processes, and a pipeline in each of the two places."""

from __future__ import annotations

import multiprocessing
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from children import Start, starting
from fault_table import Tried, line
from pipelines import ROOT, Pipeline
from places import in_bucket


@pytest.fixture
def own_mounts() -> None:
    """Leave to mount file systems in a namespace of one's own, without being root: Linux has it, if it is not taken."""
    try:
        possible = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("no user namespaces here; the quick tests hit a file size limit instead")


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Tried:
    def add(fault: str, times: int, lost: int = 0, doubled: int = 0, remark: str = "") -> None:
        record_property("fault", line(fault, times, lost, doubled, remark))

    return add


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a child and wait until it is ready; whatever still runs afterwards is ended."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{Path(__file__).parent}:{Path(__file__).parents[1]}")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["children", "torch", "onnxruntime", "pyarrow.parquet", "matplotlib", "boto3"])
    with starting(context) as start:
        yield start


@pytest.fixture
def versions(pipeline: Pipeline) -> list[str]:
    """Two that can be deployed."""
    return [pipeline.value("digit_classifier"), pipeline.variant(lambda network: network.classifier.bias.add_(0.1))]


@pytest.fixture
def at_place(request: pytest.FixtureRequest, pipeline: Pipeline, versions: list[str], tmp_path: Path) -> Pipeline:
    """The pipeline with both versions, in the place that the test is parametrized with: "disk" or "s3"."""
    if request.param == "disk":
        return pipeline
    return in_bucket(pipeline, request.getfixturevalue("s3_proxied"), tmp_path / "elsewhere")


@pytest.fixture
def s3_proxied(request: pytest.FixtureRequest) -> str:
    """S3 behind a proxy that does nothing but have one conditional write after the other, as S3 has."""
    return str(request.getfixturevalue("proxy").endpoint)
