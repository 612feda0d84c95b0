"""What is set for a process as a whole."""

from __future__ import annotations

from pathlib import Path

from pipelines import call


def test_a_process_with_a_run_does_not_look_at_all_objects_as_it_ends() -> None:
    tell = "atexit.register(lambda: print(gc.get_freeze_count() > 1_000, gc.get_threshold()[0]))"
    ends = call("-c", f"import atexit, gc; {tell}\nfrom mnist_pipeline.process import collect_seldom as c\nc()")
    assert ends.stdout.split() == ["True", "20000"], ends.stderr


def test_the_command_line_reads_dotenv_as_dagster_does_and_what_is_set_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MNIST_PIPELINE_ENV=prod\nMNIST_S3_BUCKET=from-dotenv\n")
    code = "from mnist_pipeline.process import read_dotenv as r; import os; os.chdir(sys.argv[1]); r(); "
    told = call(
        "-c",
        f"import sys; {code} print(os.environ['MNIST_PIPELINE_ENV'], os.environ['MNIST_S3_BUCKET'])",
        tmp_path,
        MNIST_PIPELINE_ENV="dev",
    )
    assert told.stdout.split() == ["dev", "from-dotenv"], told.stderr
