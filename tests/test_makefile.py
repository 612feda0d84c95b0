"""The Makefile's targets hand the environment on as it is, and fill in what is not set."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pipelines import ROOT

WAYS_IN = ("run", "refresh", "tune", "dev", "mlflow", "doctor")
SAYS = '#!/bin/sh\necho "$DAGSTER_HOME|$MNIST_PIPELINE_STATE"\n'


def handed_on(target: str, folder: Path, **env: str) -> list[str]:
    """DAGSTER_HOME and MNIST_PIPELINE_STATE as the command of a target gets them; nothing is set up for it."""
    (folder / ".ready").touch()
    for name in ("python", "dagster"):
        (folder / name).write_text(SAYS)
        (folder / name).chmod(0o755)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MNIST", "DAGSTER"))}
    done = subprocess.run(
        ["make", "-s", target, f"BIN={folder}", f"READY={folder / '.ready'}"],
        cwd=ROOT,
        env={**outside, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().split("|")


@pytest.mark.parametrize("target", WAYS_IN)
def test_the_folders_of_the_environment_are_used(target: str, tmp_path: Path) -> None:
    env = {"DAGSTER_HOME": str(ROOT / "instances" / "postgres"), "MNIST_PIPELINE_STATE": "/var/lib/mnist"}
    assert handed_on(target, tmp_path, **env) == list(env.values())


@pytest.mark.parametrize("target", WAYS_IN)
def test_without_any_it_is_the_project(target: str, tmp_path: Path) -> None:
    assert handed_on(target, tmp_path) == [str(ROOT), str(ROOT / "state")]
