"""The OpenAPI document against the service: 10,000 requests by Schemathesis, right ones and wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pipelines import Pipeline
from served import service_at

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "response_headers_conformance"),
)
CASES = 10_000
RUNS = (("POST", 250), ("GET", 2_200))  # cases an operation; an image is slow to make up, a path is not


@pytest.mark.slow
def test_no_request_gets_another_answer_than_the_document_says(pipeline: Pipeline, tmp_path: Path) -> None:
    generated = 0
    with service_at(pipeline.state, tmp_path / "log") as url:
        for method, cases in RUNS:
            ended = schemathesis(f"{url}/openapi.json", method, cases, tmp_path)
            assert ended.returncode == 0, ended.stdout[-4_000:]
            (count,) = re.findall(r"([\d,]+) generated", ended.stdout)
            generated += int(count.replace(",", ""))
    assert generated >= CASES
    assert "Traceback" not in (tmp_path / "log").read_text()


def schemathesis(document: str, method: str, cases: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """folder: where it leaves what it remembers."""
    thorough = "--phases", "coverage,fuzzing", "-n", str(cases), "--checks", ",".join(CHECKS), "--workers", "2"
    options = *thorough, "--include-method", method, "--generation-database", "none", "--no-color", "--seed", "1"
    command = [sys.executable, "-m", "schemathesis.cli", "run", document, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
