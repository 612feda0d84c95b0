"""The story of the README: everything, half of the rows, another depth; and each dataset by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from mnist_pipeline.assets.tabular import tabular_assets
from mnist_pipeline.datasets.files import EMBEDDED, Datasets
from mnist_pipeline.executor import one_process
from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER
from mnist_pipeline.ml.tables.embedded import superstore
from mnist_pipeline.ml.tables.models import MODELS, DecisionTree, RandomForest
from mnist_pipeline.ml.tables.superstore import SUPERSTORE
from mnist_pipeline.ml.tables.task import TableTask
from mnist_pipeline.refreshing.project import refresh_project
from mnist_pipeline.refreshing.reports import Report
from mnist_pipeline.refreshing.waves import refresh
from mnist_pipeline.resources import Tables, dev_resources

FEW = RandomForest(trees=5)
CANCER = replace(BREAST_CANCER, models={**BREAST_CANCER.models, "random_forest": FEW})
ORDERS = replace(SUPERSTORE, models={**SUPERSTORE.models, "random_forest": FEW})


class Project:
    """One table, an instance and a state; the description may change, as code does."""

    def __init__(self, state: Path) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.said: list[str] = []
        self.resources = dev_resources({"MNIST_PIPELINE_STATE": str(state), "MLFLOW_TRACKING_URI": "none"})

    def code(self, task: TableTask) -> dg.Definitions:
        return dg.Definitions(assets=tabular_assets(task), resources=self.resources, executor=one_process)

    def refresh(self, task: TableTask) -> Report:
        report = refresh(self.code(task).get_repository_def(), self.instance, "story", lambda line: None)
        assert report.well
        return report

    def with_datasets(self, task: TableTask) -> Report:
        """As the command and the job do it: files that were dropped are made known first."""
        repository, tables = self.code(task).get_repository_def(), self.resources["tables"]
        return refresh_project(repository, self.instance, tables, "story", self.said.append)

    def sample(self, task: TableTask, share: float) -> None:
        """As somebody does it in the launchpad."""
        job = self.code(task).resolve_implicit_global_asset_job_def()
        job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey([task.name, "raw_data"])],
            run_config={"ops": {f"{task.name}__raw_data": {"config": {"sample_fraction": share}}}},
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def ran(report: Report) -> list[str]:
    return [str(each.target) for each in report.done]


def assets(task: TableTask, *names: str) -> set[str]:
    return {f"{task.name}/{name}" for name in names}


@pytest.mark.slow
def test_only_what_changed_runs_again(project: Project) -> None:
    everything = assets(CANCER, "raw_data", "eda_summary", "train_test", *MODELS, "comparison")
    assert set(ran(project.refresh(CANCER))) == everything
    assert ran(project.refresh(CANCER)) == []

    project.sample(CANCER, 0.5)
    assert set(ran(project.refresh(CANCER))) == everything - assets(CANCER, "raw_data")

    deeper = replace(CANCER, models={**CANCER.models, "decision_tree": DecisionTree(max_depth=2)})
    report = project.refresh(deeper)
    assert ran(report) == [f"breast_cancer/{name}" for name in ("decision_tree", "comparison")]
    assert report.done[0].why == "its code has changed"
    assert ran(project.refresh(deeper)) == []

    project.sample(deeper, 0.5)  # the same rows once more
    assert ran(project.refresh(deeper)) == []


@pytest.mark.slow
def test_a_dataset_that_is_new_runs_and_the_others_are_kept(project: Project, tmp_path: Path) -> None:
    partitions, folder = "superstore_datasets", tmp_path / "datasets" / "superstore"
    project.instance.add_dynamic_partitions(partitions, [EMBEDDED])
    everything = assets(ORDERS, "raw_data", "prepared_data", "eda_summary", "train_validation_test", *MODELS)
    everything |= assets(ORDERS, "comparison")
    first = set(ran(project.refresh(ORDERS)))
    assert first == {f"{asset} [{EMBEDDED}]" for asset in everything} | assets(ORDERS, "dataset_comparison")

    folder.mkdir(parents=True)
    superstore().iloc[::2].to_csv(folder / "half.csv", index=False)
    (half,) = (dataset.key for dataset in Datasets(folder).all())
    project.instance.add_dynamic_partitions(partitions, [half])
    second = set(ran(project.refresh(ORDERS)))
    assert second == {f"{asset} [{half}]" for asset in everything} | assets(ORDERS, "dataset_comparison")
    assert ran(project.refresh(ORDERS)) == []


TREE = replace(SUPERSTORE, models={"decision_tree": SUPERSTORE.models["decision_tree"]})
COMPARED = "superstore/dataset_comparison"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets" / "superstore"
    folder.mkdir(parents=True)
    return folder


def drop(folder: Path, name: str, rows: pd.DataFrame) -> str:
    """The key of the file."""
    rows.to_csv(folder / name, index=False)
    return Datasets(folder).read(name).key


def compared(project: Project, tmp_path: Path) -> set[str]:
    """The datasets that stand side by side."""
    rows = json.loads((tmp_path / "assets" / "superstore" / "dataset_comparison.json").read_text())
    return {row["dataset"] for row in rows}


def kept(report: Report, asset: str, dataset: str) -> str:
    """Why it was kept."""
    names = {str(each.target): each.why_kept for each in report.standings}
    return names[f"superstore/{asset} [{dataset}]"]


@pytest.mark.slow
def test_a_bad_dataset_holds_back_no_other_and_once_it_is_gone_nobody_failed(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    good = drop(folder, "good.csv", superstore())
    bad = drop(folder, "bad.csv", superstore().rename(columns={"Segment": "Segments"}))
    report = project.with_datasets(TREE)
    assert any(f"superstore [{good}]" in line and line.startswith("  new") for line in project.said)
    assert (report.well, compared(project, tmp_path)) == (False, {good})
    assert [str(each.target) for each in report.done if each.fault] == [f"superstore/raw_data [{bad}]"]
    report = project.with_datasets(TREE)  # tried again as long as it is there, and nothing else is
    assert (report.well, ran(report)) == (False, [f"superstore/raw_data [{bad}]"])

    (folder / "bad.csv").unlink()
    report = project.with_datasets(TREE)
    assert (report.well, ran(report)) == (True, [])
    assert "its file is gone: put it back, or delete the partition" in kept(report, "raw_data", bad)
    assert f"superstore/raw_data [{bad}] before it cannot be made any more" in kept(report, "prepared_data", bad)
    project.instance.delete_dynamic_partition("superstore_datasets", bad)
    assert list(project.with_datasets(TREE).lines())[-1].endswith("kept: everything is up to date")


@pytest.mark.slow
def test_a_dataset_whose_file_was_written_over_is_kept_when_the_code_changes(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    old = drop(folder, "orders.csv", superstore())
    assert project.with_datasets(TREE).well
    new = drop(folder, "orders.csv", superstore().iloc[::2])
    described = tuple(
        replace(each, left_out="told otherwise") if each.left_out else each for each in SUPERSTORE.columns
    )
    changed = replace(TREE, columns=described)
    report = project.with_datasets(changed)
    assert report.well
    assert {target.rpartition(" ")[2] for target in ran(report) if target != COMPARED} == {f"[{new}]"}
    assert compared(project, tmp_path) == {old, new}
    assert "its file is gone: put it back, or delete the partition" in kept(report, "raw_data", old)
    assert ran(project.with_datasets(changed)) == []

    project.instance.delete_dynamic_partition("superstore_datasets", old)
    assert ran(project.with_datasets(changed)) == [COMPARED]
    assert compared(project, tmp_path) == {new}


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_told_and_the_others_are_run_on(project: Project, folder: Path) -> None:
    key = drop(folder, "orders.csv", superstore())
    named = {"superstore": str(folder / "nowhere.csv")}
    project.resources["tables"] = Tables(location=str(folder.parent), named=named)
    report = project.with_datasets(TREE)
    assert (report.well, f"superstore/comparison [{key}]" in ran(report)) == (False, True)
    (line,) = (line for line in report.lines() if "FAILED" in line)
    assert "SUPERSTORE_CSV names" in line


SOME = {name: CANCER.models[name] for name in ("decision_tree", "logistic_regression")}


@pytest.mark.slow
def test_another_question_or_another_column_reaches_the_parts_and_the_models(project: Project) -> None:
    task = replace(CANCER, models=SOME)
    project.refresh(task)
    everything = assets(task, "raw_data", "eda_summary", "train_test", *SOME, "comparison")
    fewer = tuple(replace(each, left_out="not asked") if each.name == "mean radius" else each for each in task.columns)
    assert set(ran(project.refresh(replace(task, columns=fewer)))) == everything
    other = replace(task.target, equals="benign", names=("malignant", "benign"))
    assert set(ran(project.refresh(replace(task, target=other)))) == everything
    assert ran(project.refresh(replace(task, target=other))) == []


@pytest.mark.slow
def test_other_names_of_the_classes_reach_the_pictures(project: Project) -> None:
    task = replace(CANCER, models=SOME)
    project.refresh(task)
    renamed = replace(task, target=replace(task.target, names=("harmless", "harmful")))
    assert "breast_cancer/comparison" in ran(project.refresh(renamed))


@pytest.mark.slow
def test_a_model_that_is_gone_is_no_longer_compared(project: Project) -> None:
    project.refresh(replace(CANCER, models=SOME))
    fewer = replace(CANCER, models={"decision_tree": SOME["decision_tree"]})
    report = project.refresh(fewer)
    assert ran(report) == ["breast_cancer/comparison"]
    assert report.done[0].why == "breast_cancer/logistic_regression is no input of it any more"
    assert ran(project.refresh(fewer)) == []
