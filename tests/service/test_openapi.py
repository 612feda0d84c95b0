"""The OpenAPI document against the service: 10,000 requests by Schemathesis, right ones and wrong ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pipelines import Pipeline, call
from served import service_at

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "response_headers_conformance"),
)
CASES, AN_OPERATION = 10_000, 750


@pytest.mark.slow
def test_no_request_gets_another_answer_than_the_document_says(pipeline: Pipeline, tmp_path: Path) -> None:
    with service_at(pipeline.state, tmp_path / "log") as url:
        document, checks = f"{url}/openapi.json", ",".join(CHECKS)
        thorough = "--phases", "coverage,fuzzing", "-n", str(AN_OPERATION), "--checks", checks, "--workers", "2"
        options = *thorough, "--generation-database", "none", "--no-color", "--seed", "1"
        ended = call("-m", "schemathesis.cli", "run", document, *options, timeout=900)
        told = (tmp_path / "log").read_text()
    assert ended.returncode == 0, ended.stdout[-4_000:]
    assert "Traceback" not in told
    (generated,) = re.findall(r"([\d,]+) generated", ended.stdout)
    assert int(generated.replace(",", "")) >= CASES
