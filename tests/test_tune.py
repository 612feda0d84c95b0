"""`python -m mnist_pipeline.tune`: a search, and a table of what was tried; and `run`, fed with what came of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pipelines import BARELY, DATA, ROOT, Pipeline

from mnist_pipeline.run import settings_in
from mnist_pipeline.tune import main

FIXED = ["--fixed", json.dumps(BARELY)]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that `main` finds."""
    env = {"DAGSTER_HOME": str(ROOT), "MNIST_PIPELINE_STATE": str(tmp_path / "state"), "MNIST_DATASET": "embedded"}
    for name, value in {**env, "MLFLOW_TRACKING_URI": "none"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "state"


@pytest.mark.slow
def test_it_ends_in_a_table_of_all_trials_and_says_what_comes_of_it(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline(state)
    pipeline.run(*DATA)
    assert main(["--trials", "2", *FIXED]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if re.match(r"\| \d", line)]
    assert [row.split(" | ")[0] for row in rows] == ["| 1", "| 2"]
    assert sum("nothing: today's" in row for row in rows) == 1
    assert "digit_classifier stays as it is: " in said or "Kept in " in said


@pytest.mark.slow
def test_a_better_configuration_is_shown_with_the_commands_that_use_it(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline(state)
    pipeline.run(*DATA)
    pipeline.run("digit_classifier", digit_classifier={**BARELY, "learning_rate": 6e-4})
    assert main(["--trials", "3"]) == 0
    said = capsys.readouterr().out
    file = state / "tuning" / "best" / "digit_classifier.json"
    assert f"Kept in {file}" in said
    settings = json.loads(file.read_text())["settings"]
    (command,) = re.findall(r"^make run CONFIG='(.*)'$", said, re.MULTILINE)
    assert settings_in(command).items() <= settings.items()
    assert settings_in(f"@{file}") == settings


@pytest.mark.usefixtures("state")
def test_without_data_it_fails_and_says_what_to_materialize(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trials", "2"]) == 1
    assert "start_study: " in (said := capsys.readouterr().err)
    assert "processed_mnist_data has no value yet" in said


@pytest.mark.usefixtures("state")
def test_a_number_of_trials_that_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trials", "0"]) != 0
    assert "trials" in capsys.readouterr().err


def test_a_target_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--target", "digits"])
    assert "breast_cancer/random_forest" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{}", "no JSON", None])
def test_a_file_without_settings_is_refused(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "best.json").write_text(content)
    with pytest.raises(SystemExit, match="2"):
        main(["--fixed", f"@{tmp_path / 'best.json'}"])
    assert "holds no settings" in capsys.readouterr().err
