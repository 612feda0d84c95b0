"""The README is the product's face: what it says about commands, variables, files and code is held against the code."""

import os
import re
import subprocess
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from pipelines import Pipeline, metadata
from served import served

from mnist_pipeline.acquire import DATASETS
from mnist_pipeline.alerts.kinds import KINDS
from mnist_pipeline.assets.tabular import tabular_assets
from mnist_pipeline.automation import JOBS
from mnist_pipeline.cli.faults import Code
from mnist_pipeline.datasets.files import Datasets
from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.ml import metrics
from mnist_pipeline.resources import dev_resources

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
SOURCES = [path for folder in ("mnist_pipeline", "benchmarks") for path in (ROOT / folder).rglob("*.py")]


def code_blocks(language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for named, text in blocks if named == language]


def test_every_make_target_that_is_named_exists_and_every_target_is_named() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
    commands = [line for block in code_blocks("console") for line in block.splitlines()]
    named = {target for line in commands for target in re.findall(r"\bmake ([a-z-]+)", line)}
    (listed,) = re.findall(r"lists all targets: (.*)\.\n", README)
    assert named <= targets | {"help"}
    assert set(listed.split(", ")) == targets - {"help"}


def test_every_make_variable_that_is_named_is_read() -> None:
    named = set(re.findall(r"\b([A-Z_]+)=", " ".join(code_blocks("console"))))
    for variable in named:
        assert re.search(rf"^{variable} \?=", MAKEFILE, re.MULTILINE) or variable in environment_variables()


def environment_variables() -> set[str]:
    return {name for path in SOURCES for name in re.findall(r'"((?:MNIST|S3)_[A-Z0-9_]+)"', path.read_text())}


def test_the_configuration_table_holds_exactly_the_variables_that_the_code_reads() -> None:
    documented = set(re.findall(r"^\| `((?:MNIST|S3)_[A-Z0-9_]+)` \|", README, re.MULTILINE))
    assert documented == environment_variables()


def test_the_datasets_are_those_that_can_be_chosen() -> None:
    (row,) = re.findall(r"^\| `MNIST_DATASET` \| `auto` \| (.*) \|$", README, re.MULTILINE)
    assert tuple(row.replace("`", "").split(", ")) == DATASETS


def test_the_jobs_are_those_that_are_defined() -> None:
    section = README.split("| job | what it runs |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [job.name for job in JOBS]


def test_every_alert_is_explained() -> None:
    section = README.split("### What each alert means")[1].split("\n\n###")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(KINDS)


def test_every_trigger_is_explained() -> None:
    section = README.split("## It runs by itself")[1].split("\n## ")[0]
    repository = build_definitions({}).get_repository_def()
    triggers = {each.name for each in [*repository.schedule_defs, *repository.sensor_defs]}
    assert {name for name in triggers if f"`{name}`" not in section} == set()


def paths_of_the_tree() -> list[str]:
    """Every file and folder that it has a line for, as a path from the project's folder; a folder ends in '/'."""
    (tree,) = (block for block in code_blocks("") if "definitions.py" in block)
    paths, above = list[str](), list[str]()
    for line in tree.splitlines():
        for name in re.findall(r"[^\s,]+", re.split(r"  +", line.strip())[0]):
            above = [*above[: (len(line) - len(line.lstrip())) // 2], name]
            paths.append("".join(above))
    return paths


def test_the_tree_names_every_module_in_its_place_and_nothing_else() -> None:
    named = paths_of_the_tree()
    there = {str(path.relative_to(ROOT)) for path in SOURCES if path.name != "__init__.py"}
    assert {path for path in named if path.endswith(".py") and not path.startswith("deploy/")} == there
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert len(named) == len(set(named))


def test_the_tree_names_what_is_in_the_folder_for_deploying() -> None:
    there = {
        f"deploy/{path.name}{'/' * path.is_dir()}" for path in (ROOT / "deploy").iterdir() if path.name != "__pycache__"
    }
    assert {path for path in paths_of_the_tree() if path.startswith("deploy/")} == {"deploy/", *there}


def test_the_links_to_files_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#h][^)]*)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link


def example_with(name: str) -> Any:
    """What `name` is after the example of the README that defines it has run."""
    (example,) = (block for block in code_blocks("python") if name in block)
    names: dict[str, Any] = {}
    exec(example, names)
    return names[name]


def churned(rows: int) -> str:
    """A CSV file as somebody might have it."""
    draw = np.random.default_rng(0)
    lines = ["customer,since,until,plan,calls,spent,left"]
    for customer in range(rows):
        plan, calls, days = draw.integers(3), draw.integers(9), int(draw.integers(1, 300))
        left = "yes" if calls + draw.normal() > 5 else "no"
        until = date(2025, 1, 1) + timedelta(days)
        spent = "" if draw.random() < 0.1 else f"{draw.random() * 99:.2f}"
        lines.append(f"c{customer},2025-01-01,{until},{('basic', 'plus', 'pro')[plan]},{calls},{spent},{left}")
    return "\n".join(lines) + "\n"


def test_the_table_of_ones_own_runs_as_printed(tmp_path: Path) -> None:
    task = example_with("CHURN")
    folder = tmp_path / "datasets" / "churn"
    folder.mkdir(parents=True)
    (folder / "customers.csv").write_text(churned(400))
    (dataset,) = Datasets(folder).all()
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions("churn_datasets", [dataset.key])
    assets = tabular_assets(task)
    resources = dev_resources({"MNIST_PIPELINE_STATE": str(tmp_path)})
    result = dg.materialize(assets, instance=instance, resources=resources, partition_key=dataset.key)
    assert result.success
    assert metadata(result, "churn/comparison")["best_score"] > 0.9
    assert metadata(result, "churn/random_forest")["settings"]["trees"] == 30


def test_the_metric_of_ones_own_runs_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = example_with("sevens_found")
    truth = np.array([7, 7, 1], np.uint8)
    probabilities = np.eye(10, dtype=np.float32)[[7, 1, 1]]
    report = metrics.evaluate(truth, probabilities, [str(digit) for digit in range(10)], [metric])  # type: ignore[list-item]
    assert report["sevens_found"] == 0.5
    assert metrics.scalars(report)["sevens_found"] == 0.5


def test_make_help_lists_every_target_with_a_line() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    listed = subprocess.run(["make", "help"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    lines = listed.stdout.splitlines()
    assert [line.split()[1] for line in lines] == re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)
    assert all(len(line.split()) > 3 for line in lines)


def test_no_placeholder_is_left() -> None:
    assert "{{" not in README


def test_the_exit_codes_of_the_command_line_are_told() -> None:
    section = README.split("### From the command line")[1].split("\n## ")[0]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}
    assert told == {0, *(int(code) for code in Code), 130}


def test_every_door_of_the_service_is_told(tmp_path: Path) -> None:
    section = README.split("## Ask it over HTTP")[1].split("\n### ")[0]
    with served(tmp_path, log=False) as client:
        paths = client.get("/openapi.json").json()["paths"]
    of_the_protocol = {path for path in paths if path.startswith("/v2/models/{model}")}  # the row of infer is theirs
    assert {path for path in paths if path not in section} - of_the_protocol == {"/version"}


def test_what_the_chapter_on_the_service_shows_is_what_it_answers(finished: Pipeline) -> None:
    (shown,) = re.findall(r"^(\{\"label\".*?\})$", README, re.MULTILINE | re.DOTALL)
    with served(finished.state, log=False) as client:
        answer = client.post("/predict", content=finished.digits()["test"].images[0].tobytes()).json()
    assert re.findall(r'"(\w+)":', shown) == list(answer)
