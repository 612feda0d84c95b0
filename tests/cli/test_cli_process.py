"""The command line as processes: what it loads, what it says to terminals and pipes, and no trace of a fault."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from commands import nudged, process, told
from digit_files import png
from pipelines import PROD, ROOT, Pipeline, at_home, call
from processes import Process, wait
from s3_server import new_bucket
from typer.testing import CliRunner

from mnist_pipeline.cli.app import app, main
from mnist_pipeline.cli.faults import Code
from mnist_pipeline.cli.faults import __doc__ as table
from mnist_pipeline.environment import model_store

COMMANDS = {
    *("predict", "serve", "deploy", "rollback", "decisions", "doctor"),
    *("models list", "models show", "models diff"),
}

LOADED = """
import json, sys
from mnist_pipeline.cli.app import app

def run(command):
    try:
        app(command, standalone_mode=False)
    except SystemExit:  # of --help
        pass

light, all_but_doctor, watched = json.loads(sys.argv[1])
for command in light:
    run(command)
print("light", *(name for name in [*watched, "numpy", "onnxruntime", "boto3"] if name in sys.modules), file=sys.stderr)
for command in all_but_doctor:
    run(command)
print("all", *(name for name in watched if name in sys.modules), file=sys.stderr)
"""


@pytest.fixture
def photo(finished: Pipeline, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(png(finished.digits()["test"].images[0]))
    return path


def test_no_command_loads_what_it_does_not_need(finished: Pipeline, photo: Path) -> None:
    version = finished.value("digit_classifier")
    light = [["--help"], ["predict", "--help"], ["models", "list"], ["models", "diff", version, version]]
    light += [["decisions", "--verify"]]
    heavier = [["predict", str(photo)], ["models", "show", "--verify"], ["deploy", version, "--dry-run"]]
    watched = ["dagster", "torch", "mlflow", "pandas", "matplotlib", "sklearn"]
    done = call("-c", LOADED, json.dumps([light, heavier, watched]), **finished.env)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert "light" in lines
    assert "all" in lines


def test_every_command_has_help_with_an_example() -> None:
    for command in COMMANDS:
        for flag in ("--help", "-h"):
            result = CliRunner().invoke(app, [*command.split(), flag])
            assert result.exit_code == 0
            assert f"mnist-pipeline {command}" in result.stdout.split("Example")[1]
    listed = CliRunner().invoke(app, ["--help"])
    assert all(command.split()[0] in listed.stdout for command in COMMANDS)
    assert "Exit codes: 0 done" in listed.stdout


def test_every_exit_code_is_explained() -> None:
    explained = {
        int(line.split("|")[1]) for line in str(table).splitlines() if line.startswith("| ") and line[2].isdigit()
    }
    assert explained == {0, *Code, 130}


def test_nothing_and_nonsense_are_wrong_usage() -> None:
    for arguments in (
        [],
        ["models"],
        ["predikt"],
        ["deploy"],
        ["decisions", "--limit", "some"],
        ["serve", "--port", "x"],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2
        assert "mnist-pipeline" in result.output or "Usage" in result.output


def test_the_entry_point_is_this_command_line() -> None:
    written = (ROOT / "pyproject.toml").read_text()
    assert '[project.scripts]\nmnist-pipeline = "mnist_pipeline.cli.app:main"\n' in written
    assert callable(main)
    assert process({}, "--help").stdout.startswith("Usage: mnist-pipeline [OPTIONS]")


def test_a_process_ends_with_the_code_and_no_trace(finished: Pipeline, photo: Path, tmp_path: Path) -> None:
    done = process(finished.env, "predict", str(photo), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["predictions"][0]["file"] == str(photo)
    nothing = process({"MNIST_PIPELINE_STATE": str(tmp_path / "none")}, "predict", str(photo))
    assert (nothing.returncode, nothing.stdout) == (3, "")
    assert nothing.stderr.startswith("error: no model is in production")
    assert nothing.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_a_fault_of_ours_keeps_its_trace(monkeypatch: pytest.MonkeyPatch, finished: Pipeline) -> None:
    monkeypatch.setattr("mnist_pipeline.cli.versions.share", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        told(finished, "models", "list")


def test_a_reader_that_leaves_early_is_no_trouble(finished: Pipeline) -> None:
    """As `| head -1` does, here before anything is written."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "mnist_pipeline", "decisions"],
            env={**os.environ, **finished.env},
            cwd=ROOT,
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")


@contextmanager
def on_a_terminal(env: dict[str, str], *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process, and the descriptor of a person's end of its terminal."""
    person, terminal = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-m", "mnist_pipeline", *arguments],
        env={**plain, "TERM": "xterm-256color", "COLUMNS": "200", **env},
        cwd=ROOT,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    try:
        yield child, person
    finally:
        child.kill()
        child.wait()
        os.close(person)


def seen(person: int, until: str = "") -> str:
    """What the terminal shows, up to a text or to the end."""
    shown = b""
    while not until or until.encode() not in shown:
        try:
            part = os.read(person, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not part:
            break
        shown += part
    return shown.decode()


@pytest.mark.slow
def test_colours_are_for_terminals_and_none_where_nobody_wants_them(finished: Pipeline) -> None:
    version = finished.value("digit_classifier")
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        with on_a_terminal({**finished.env, **env}, "models", "list") as (_, person):
            shown = seen(person)
        assert version[:16] in shown  # a dumb terminal has 80 columns, where it goes on in the next line
        assert "─" in shown
        assert ("\x1b[3" in shown) is False
        with on_a_terminal({**finished.env, **env}, "models", "show", "nobody") as (child, person):
            shown = seen(person)
            assert child.wait(60) == 4
        assert "there is no version 'nobody'" in shown
        assert ("\x1b[31m" in shown) is coloured
    assert "\x1b" not in process(finished.env, "models", "list").stdout


def test_the_shell_completes_versions(finished: Pipeline, tmp_path: Path) -> None:
    asked = {"_MNIST_PIPELINE_COMPLETE": "complete_bash", "COMP_WORDS": "mnist-pipeline deploy dig", "COMP_CWORD": "2"}
    assert process({**finished.env, **asked}).stdout.split() == [finished.value("digit_classifier")]
    nowhere = process({"MNIST_PIPELINE_STATE": str(tmp_path), "MNIST_PIPELINE_ENV": "prod", **asked})
    assert (nowhere.stdout.strip(), nowhere.stderr) == ("", "")


# --- prod ---


@pytest.fixture
def prod(pipeline: Pipeline, s3_endpoint: str) -> Pipeline:
    """The same pipeline with another version beside the one that serves, and a copy of the store in a bucket."""
    pipeline.variant(nudged(0.1))
    bucket = new_bucket(s3_endpoint)
    pipeline.env |= {**PROD, "MNIST_PIPELINE_ENV": "prod", "MNIST_S3_BUCKET": bucket, "S3_ENDPOINT_URL": s3_endpoint}
    there = model_store(pipeline.env)
    for key in pipeline.store.blobs.list(""):
        there.blobs.create(key, pipeline.store.blobs.read(key))
    return pipeline


def other_version(prod: Pipeline) -> str:
    (other,) = set(model_store(prod.env).versions()) - {prod.value("digit_classifier")}
    return other


def test_everything_works_over_a_bucket(prod: Pipeline, photo: Path) -> None:
    first, other, there = prod.value("digit_classifier"), other_version(prod), model_store(prod.env)
    assert first in told(prod, "models", "list").stdout
    assert json.loads(told(prod, "predict", str(photo), "--json").stdout)["model_version"] == first
    deployed = told(prod, "deploy", other, "--yes")
    assert deployed.exit_code == 0
    assert deployed.stderr == f"in prod, s3://{prod.env['MNIST_S3_BUCKET']}/models\n"
    assert there.production() == other
    assert told(prod, "rollback", "-y").exit_code == 0
    assert there.production() == first
    assert told(prod, "decisions", "--verify").exit_code == 0
    assert prod.store.production() == first  # and on the disk nothing has changed
    assert len(prod.store.decisions()) == 1


def test_where_nobody_can_be_asked_nothing_is_decided_in_prod(prod: Pipeline) -> None:
    result = told(prod, "deploy", other_version(prod))
    assert (result.exit_code, result.stdout) == (5, "")
    assert "there is nobody to ask: say --yes" in result.stderr
    assert told(prod, "deploy", other_version(prod), "--dry-run").exit_code == 0
    assert len(model_store(prod.env).decisions()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("said", "code"), [("y", 0), ("n", 5), ("\x04", 5)])
def test_a_person_is_asked_in_prod(prod: Pipeline, said: str, code: int) -> None:
    other = other_version(prod)
    with on_a_terminal(prod.env, "deploy", other) as (child, person):
        assert f"manual: serve {other} from now on?" in seen(person, "[y/N]")
        os.write(person, said.encode() + b"\n" * (said != "\x04"))
        shown = seen(person)
        assert child.wait(60) == code
    assert ("decision 2 was made" if code == 0 else "not confirmed: nothing was recorded") in shown
    assert len(model_store(prod.env).decisions()) == (2 if code == 0 else 1)


@pytest.mark.slow
def test_what_is_decided_while_a_person_thinks_it_over_wins(prod: Pipeline) -> None:
    first, other = prod.value("digit_classifier"), other_version(prod)
    with on_a_terminal(prod.env, "deploy", other) as (child, person):
        seen(person, "[y/N]")
        assert told(prod, "deploy", first, "--yes", "--reason", "meanwhile").exit_code == 0
        os.write(person, b"y\n")
        shown = seen(person)
        assert child.wait(60) == 6
    assert "decision 2 was made first" in shown
    assert model_store(prod.env).production() == first


def test_a_bucket_that_is_not_there_is_told(prod: Pipeline) -> None:
    result = told(prod, "decisions", MNIST_S3_BUCKET="no-such-bucket-here")
    assert (result.exit_code, result.stdout) == (8, "")
    assert "there is no such bucket: create it, or correct MNIST_S3_BUCKET" in result.stderr


# --- the commands that only pass on ---


def test_serve_answers_until_it_is_told_to_stop(finished: Pipeline, photo: Path, tmp_path: Path) -> None:
    """With what it loads, which -X importtime writes down."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "mnist_pipeline",
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    quiet = {**finished.env, "MNIST_PREDICTION_LOG": "off"}  # the state is that of other tests too
    served = Process("mnist-pipeline serve", command, quiet, tmp_path / "log")
    try:
        served.start()
        where = wait("it serves", lambda: re.search(r"serving on (\S+)", served.log.read_text()), 60)[1]
        with urlopen(Request(f"{where}/predict", photo.read_bytes()), timeout=60) as answer:
            assert json.load(answer)["model_version"] == finished.value("digit_classifier")
        assert served.child is not None
        served.child.terminate()
        assert served.child.wait(60) == 0
    finally:
        served.end()
    loaded = {line.split("|")[-1].strip() for line in served.log.read_text().splitlines() if "|" in line}
    assert "mnist_pipeline.service.__main__" in loaded
    assert loaded & {"dagster", "torch", "mlflow"} == set()


def test_serve_says_why_it_cannot_start(finished: Pipeline) -> None:
    refused = process({**finished.env, "MNIST_SERVE_AT_ONCE": "none"}, "serve")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("the service cannot start: MNIST_SERVE_AT_ONCE='none' is no number")


@pytest.mark.slow
def test_doctor_says_what_make_doctor_says(pipeline: Pipeline, tmp_path: Path) -> None:
    env = {**at_home(tmp_path), **pipeline.env}
    by_command, by_module = process(env, "doctor"), call("-m", "mnist_pipeline.doctor", **env)
    assert (by_command.returncode, by_module.returncode) == (1, 1)  # no daemon runs there
    assert "not alive" in by_command.stdout
    heads = [[line[:20] for line in done.stdout.splitlines()] for done in (by_command, by_module)]
    assert heads[0] == heads[1]
