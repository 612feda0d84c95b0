"""`mnist-pipeline` as tests call it: in this process, or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from pipelines import Pipeline, call
from typer.testing import CliRunner, Result

from mnist_pipeline.cli.app import app
from mnist_pipeline.ml.network import DigitCNN

SETTINGS = ("MNIST_PIPELINE_ENV", "MNIST_S3_BUCKET", "MNIST_S3_PREFIX", "S3_ENDPOINT_URL")  # of whoever runs the tests


def told(pipeline: Pipeline, *arguments: str, stdin: bytes | None = None, **env: str) -> Result:
    """A command over the store of a pipeline; what it raises and does not tell is raised."""
    given: dict[str, str | None] = {**dict.fromkeys(SETTINGS), **pipeline.env, **env}
    result = CliRunner().invoke(app, arguments, input=stdin, env=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def document(pipeline: Pipeline, *arguments: str, code: int = 0, stdin: bytes | None = None, **env: str) -> Any:
    """What a command says with --json, and nothing else on stdout; it ends with `code`."""
    result = told(pipeline, *arguments, "--json", stdin=stdin, **env)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def rows(result: Result) -> list[list[str]]:
    """The cells of a table as it comes through a pipe, its head too."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in result.stdout.splitlines()]


def process(env: Mapping[str, str], *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`python -m mnist_pipeline` in a process of its own."""
    clean = {name: "" for name in SETTINGS if name in os.environ}
    return call("-m", "mnist_pipeline", *arguments, **{**clean, **env, **more})


def nudged(by: float) -> Any:
    """Another network with the same answers."""

    def change(network: DigitCNN) -> None:
        network.classifier.bias.add_(by)

    return change
