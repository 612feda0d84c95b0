"""The Makefile's targets hand the environment on as it is, and fill in what is not set."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pipelines import ROOT

TRAINING = """#!/bin/sh
printf '%s\\n' "${MNIST_DATASET-unset}" "${MNIST_DATA_DIR-unset}" "$@"
"""
WAYS_IN = ("run", "refresh", "tune", "dev", "mlflow", "doctor")
SAYS = '#!/bin/sh\necho "$DAGSTER_HOME|$MNIST_PIPELINE_STATE"\n'


def handed_on(target: str, folder: Path, **env: str) -> list[str]:
    """DAGSTER_HOME and MNIST_PIPELINE_STATE as the command of a target gets them; nothing is set up for it."""
    return made([target], SAYS, folder, **env).split("|")


def made(given: list[str], program: str, folder: Path, **env: str) -> str:
    """What `make` prints when it is given this, with a program in the place of those that it would call."""
    (folder / ".ready").touch()
    for name in ("python", "dagster"):
        (folder / name).write_text(program)
        (folder / name).chmod(0o755)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MNIST", "DAGSTER"))}
    done = subprocess.run(
        ["make", "-s", *given, f"BIN={folder}", f"READY={folder / '.ready'}"],
        cwd=ROOT,
        env={**outside, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("target", WAYS_IN)
def test_the_folders_of_the_environment_are_used(target: str, tmp_path: Path) -> None:
    env = {"DAGSTER_HOME": str(ROOT / "instances" / "postgres"), "MNIST_PIPELINE_STATE": "/var/lib/mnist"}
    assert handed_on(target, tmp_path, **env) == list(env.values())


@pytest.mark.parametrize("target", WAYS_IN)
def test_without_any_it_is_the_project(target: str, tmp_path: Path) -> None:
    assert handed_on(target, tmp_path) == [str(ROOT), str(ROOT / "state")]


def run_with(folder: Path, *given: str, **env: str) -> tuple[str, str, list[str]]:
    """MNIST_DATASET, MNIST_DATA_DIR and the arguments that `make run` hands on."""
    dataset, where, *arguments = made(["run", *given], TRAINING, folder, **env).splitlines()
    assert arguments[:2] == ["-m", "mnist_pipeline.run"]
    return dataset, where, arguments[2:]


def test_what_a_run_is_given_reaches_the_program(tmp_path: Path) -> None:
    given = ("DATASET=mnist", "DATA_DIR=/my digits", "PRESET=accurate", 'CONFIG={"epochs": 3, "optimizer": "sgd"}')
    arguments = ["--preset", "accurate", "--config", '{"epochs": 3, "optimizer": "sgd"}']
    assert run_with(tmp_path, *given) == ("mnist", "/my digits", arguments)


def test_what_a_run_is_not_given_is_what_the_environment_says_or_the_default(tmp_path: Path) -> None:
    arguments = ["--preset", "fast", "--config", "{}"]
    assert run_with(tmp_path) == ("unset", "unset", arguments)
    env = {"MNIST_DATASET": "kmnist", "MNIST_DATA_DIR": "/elsewhere"}
    assert run_with(tmp_path, **env) == ("kmnist", "/elsewhere", arguments)
    assert run_with(tmp_path, "DATASET=qmnist", **env) == ("qmnist", "/elsewhere", arguments)


def test_a_file_of_settings_reaches_the_program_by_its_name(tmp_path: Path) -> None:
    _, _, arguments = run_with(tmp_path, "CONFIG=@state/tuning/best/digit_classifier.json")
    assert arguments[-1] == "@state/tuning/best/digit_classifier.json"
