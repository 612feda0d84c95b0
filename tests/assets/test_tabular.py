"""The assets of tables, through runs: from rows to a comparison, and what runs again when something changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from pipelines import Pipeline, data_version, materialization, metadata

from mnist_pipeline.assets.tabular import tabular_assets
from mnist_pipeline.assets.tabular_models import model_code
from mnist_pipeline.datasets.files import EMBEDDED, Datasets
from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER
from mnist_pipeline.ml.tables.embedded import superstore
from mnist_pipeline.ml.tables.models import MODELS, DecisionTree
from mnist_pipeline.ml.tables.superstore import SUPERSTORE
from mnist_pipeline.ml.tables.task import TableTask

BREAST = tuple(f"breast_cancer/{name}" for name in ("raw_data", "eda_summary", "train_test", *MODELS, "comparison"))
STORE = tuple(
    f"superstore/{name}"
    for name in ("raw_data", "prepared_data", "train_validation_test", *MODELS, "comparison", "dataset_comparison")
)
FEW_TREES = {"random_forest": {"trees": 5}}


@pytest.fixture(scope="module")
def breast(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, dg.ExecuteInProcessResult]:
    pipeline = Pipeline(tmp_path_factory.mktemp("breast"))
    return pipeline, pipeline.run(*BREAST, breast_cancer_models=FEW_TREES)


@pytest.fixture
def store(tmp_path: Path) -> Pipeline:
    pipeline = Pipeline(tmp_path / "state")
    pipeline.instance.add_dynamic_partitions("superstore_datasets", [EMBEDDED])
    return pipeline


def drop(pipeline: Pipeline, name: str, table: pd.DataFrame | str) -> str:
    """The key of a dataset that was dropped and is a partition now."""
    folder = pipeline.state / "datasets" / "superstore"
    folder.mkdir(parents=True, exist_ok=True)
    text = table if isinstance(table, str) else table.to_csv(index=False)
    (folder / name).write_text(text, newline="")
    key = Datasets(folder).read(name).key
    pipeline.instance.add_dynamic_partitions("superstore_datasets", [key])
    return key


def records(table: dg.TableMetadataValue) -> list[dict[str, Any]]:
    """The rows of a table in metadata."""
    return [dict(record.data) for record in table.records]


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    events = result.get_asset_materialization_events()
    return {event.step_materialization_data.materialization.asset_key.to_user_string() for event in events}


def test_every_asset_of_breast_cancer_is_made(breast: tuple[Pipeline, dg.ExecuteInProcessResult]) -> None:
    pipeline, result = breast
    assert made(result) == set(BREAST)
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert metadata(result, "breast_cancer/raw_data")["dagster/row_count"] == 569
    assert metadata(result, "breast_cancer/train_test")["train_malignant_share"] == pytest.approx(0.37, abs=0.01)
    assert metadata(result, "breast_cancer/comparison")["result"].startswith("logistic_regression is best")
    assert metadata(result, "breast_cancer/comparison")["best_test_accuracy"] > 0.95
    folds = records(metadata(result, "breast_cancer/knn")["folds"])
    assert [row["score"] for row in folds][:2] == ["accuracy", "balanced_accuracy"]
    assert all(row["low"] <= row["mean"] <= row["high"] for row in folds)
    board = records(metadata(result, "breast_cancer/comparison")["leaderboard_table"])
    assert all(row["folds_accuracy_low"] <= row["folds_accuracy"] <= row["folds_accuracy_high"] for row in board)
    shown = {path.parent.name: path.stem for path in (pipeline.state / "pictures").rglob("*.png")}
    assert {"eda_summary", "comparison"} <= set(shown)


def test_models_are_versions_with_cards_in_a_store_of_their_own(
    breast: tuple[Pipeline, dg.ExecuteInProcessResult],
) -> None:
    pipeline, result = breast
    store = pipeline.models.of_table("breast_cancer")
    assert pipeline.store.versions() == []
    versions = {name: metadata(result, f"breast_cancer/{name}")["version"] for name in MODELS}
    assert sorted(versions.values()) == store.versions()
    card = store.card(versions["random_forest"])
    assert (card.config["model"], card.config["trees"]) == ("random_forest", 5)
    assert card.data_version == data_version(result, "breast_cancer/train_test")
    assert (card.dataset, card.run_id) == ("breast_cancer/embedded", result.run_id)
    assert card.class_names == ["benign", "malignant"]


def test_what_mlflow_gets_is_in_the_spool(breast: tuple[Pipeline, dg.ExecuteInProcessResult]) -> None:
    pipeline, result = breast
    spool = pipeline.tracking.spool()
    found = [record for name in spool.waiting(result.run_id) if (record := spool.record(name))]
    params = {name: value for record, _ in found if record.kind == "params" for name, value in record.values.items()}
    metrics = {name for record, _ in found if record.kind == "metrics" for name in record.values}
    assert params["random_forest/trees"] == "5"
    assert {f"{name}/test_roc_auc" for name in MODELS} <= metrics
    sent = {record.path: data for record, data in found if record.kind == "artifact"}
    assert sent.keys() >= {"comparison/curves.png", "models/knn/model.skops"}
    version = metadata(result, "breast_cancer/knn")["version"]
    assert sent["models/knn/model.skops"] == pipeline.models.of_table("breast_cancer").read_file(version, "model.skops")


@pytest.mark.slow
def test_the_same_again_has_the_same_data_versions(breast: tuple[Pipeline, dg.ExecuteInProcessResult]) -> None:
    pipeline, result = breast
    again = pipeline.run(*BREAST, breast_cancer_models=FEW_TREES)
    assert {asset: data_version(again, asset) for asset in BREAST} == {
        asset: data_version(result, asset) for asset in BREAST
    }


def test_one_model_is_trained_alone_and_others_keep_their_versions(
    breast: tuple[Pipeline, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    pipeline, result = breast
    mine = pipeline.copy(tmp_path / "state")
    deeper = mine.run(
        "breast_cancer/decision_tree",
        "breast_cancer/comparison",
        breast_cancer_models={"decision_tree": {"max_depth": 9}},
    )
    assert made(deeper) == {"breast_cancer/decision_tree", "breast_cancer/comparison"}
    changed = metadata(deeper, "breast_cancer/decision_tree")
    assert changed["settings"]["max_depth"] == 9
    assert changed["version"] != metadata(result, "breast_cancer/decision_tree")["version"]
    assert len(mine.models.of_table("breast_cancer").versions()) == 5


def test_half_of_the_rows_are_another_table_and_old_models_are_not_compared_on_it(
    breast: tuple[Pipeline, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    mine = breast[0].copy(tmp_path / "state")
    half = mine.run(
        "breast_cancer/raw_data", "breast_cancer/train_test", breast_cancer__raw_data={"sample_fraction": 0.5}
    )
    assert metadata(half, "breast_cancer/raw_data")["dagster/row_count"] == 284
    failed = mine.try_run("breast_cancer/comparison")
    assert not failed.success
    (event,) = failed.get_step_failure_events()
    assert "was learned from other rows: materialize it again" in str(event.step_failure_data.error)


def test_a_setting_out_of_range_fails_by_name(
    breast: tuple[Pipeline, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    failed = (
        breast[0].copy(tmp_path / "state").try_run("breast_cancer/knn", breast_cancer_models={"knn": {"neighbours": 0}})
    )
    (event,) = failed.get_step_failure_events()
    assert "neighbours" in str(event.step_failure_data.error)


def test_a_model_that_fails_keeps_no_other_from_being_trained(
    breast: tuple[Pipeline, dg.ExecuteInProcessResult], tmp_path: Path
) -> None:
    mine = breast[0].copy(tmp_path / "state")
    wrong = {"decision_tree": {"max_depth": 0}, "knn": {"neighbours": 5_000}}
    failed = mine.try_run(*(f"breast_cancer/{name}" for name in MODELS), breast_cancer_models={**FEW_TREES, **wrong})
    assert made(failed) == {"breast_cancer/random_forest", "breast_cancer/logistic_regression"}
    (event,) = failed.get_step_failure_events()
    said = str(event.step_failure_data.user_failure_data.description)
    assert ["decision_tree" in said, "n_neighbors = 5000" in said] == [True, True]


def test_a_changed_depth_changes_the_code_version_of_that_model_only() -> None:
    deeper = replace(BREAST_CANCER, models={**BREAST_CANCER.models, "decision_tree": DecisionTree(max_depth=9)})
    changed = {name for name in MODELS if model_code(deeper, name) != model_code(BREAST_CANCER, name)}
    assert changed == {"decision_tree"}
    assert code_versions(deeper) - code_versions(BREAST_CANCER) == {
        ("breast_cancer/decision_tree", model_code(deeper, "decision_tree"))
    }


def code_versions(task: TableTask) -> set[tuple[str, str | None]]:
    pairs = ((key, code) for each in tabular_assets(task) for key, code in each.code_versions_by_key.items())
    return {(key.to_user_string(), code) for key, code in pairs}


@pytest.mark.slow
def test_two_datasets_run_by_themselves_and_stand_side_by_side(store: Pipeline) -> None:
    dropped = drop(store, "Half of it.csv", superstore().iloc[::2])
    first = store.run(*STORE, night=EMBEDDED, superstore_models=FEW_TREES)
    second = store.run(*STORE, night=dropped, superstore_models=FEW_TREES)
    assert made(first) == made(second) == set(STORE)
    facts = metadata(second, "superstore/raw_data")
    assert facts["dagster/row_count"] == 750
    assert facts["source"].endswith("Half of it.csv")
    assert facts["file_sha256"].startswith(dropped.rpartition("-")[2])
    rows = records(metadata(second, "superstore/dataset_comparison")["datasets_table"])
    assert {row["dataset"]: row["rows"] for row in rows} == {EMBEDDED: 1_500, dropped: 750}
    assert materialization(second, "superstore/comparison").partition == dropped
    assert (
        store.models.of_table("superstore").card(metadata(second, "superstore/knn")["version"]).dataset
        == f"superstore/{dropped}"
    )


@pytest.mark.slow
def test_a_dataset_that_is_alone_is_compared_with_none(store: Pipeline) -> None:
    only = store.run(*STORE, night=EMBEDDED, superstore_models=FEW_TREES)
    assert metadata(only, "superstore/dataset_comparison")["datasets"] == 1


def test_the_target_leaks_nowhere_and_what_is_left_out_is_said(store: Pipeline) -> None:
    result = store.run("superstore/raw_data", "superstore/prepared_data", night=EMBEDDED)
    told = records(metadata(result, "superstore/prepared_data")["left_out"])
    assert {"column": "Profit", "why": "the answer itself"} in told
    assert len(told) == len(SUPERSTORE.left_out)


def failure_of(pipeline: Pipeline, key: str) -> Any:
    failed = pipeline.try_run(*STORE[:2], night=key)
    assert made(failed) == set()
    (event,) = failed.get_step_failure_events()
    return event.step_failure_data


def test_bad_rows_fail_the_run_and_are_all_listed(store: Pipeline) -> None:
    table = superstore().astype({"Sales": object})
    table.loc[[4, 9], "Sales"] = "?"
    failure = failure_of(store, drop(store, "bad.csv", table))
    (listed,) = (entry for name, entry in failure.user_failure_data.metadata.items() if name == "bad_values")
    assert [row.data["row"] for row in listed.records] == [6, 11]
    assert "row 6, Sales: '?' is not a number" in failure.user_failure_data.description


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("Profit", "Gain", 1), "'Profit' is missing"),
        (lambda text: text[: len(text) // 2 - 30].rpartition(",")[0], "The file was cut"),
        (lambda _: "", "is empty"),
        (lambda text: text[:-3], "does not end with a line break, so its last value may have been cut"),
    ],
)
def test_what_is_no_table_fails_with_the_reason(store: Pipeline, change: Any, said: str) -> None:
    failure = failure_of(store, drop(store, "bad.csv", change(superstore().to_csv(index=False))))
    assert said in str(failure.error)


def test_one_class_only_fails_with_the_reason(store: Pipeline) -> None:
    key = drop(store, "losses.csv", superstore().assign(Profit="-1"))
    failed = store.try_run(*STORE[:2], night=key)
    (event,) = failed.get_step_failure_events()
    assert "at least 10 of each are needed" in str(event.step_failure_data.error)


def test_a_dataset_whose_file_is_gone_says_which_there_are(store: Pipeline) -> None:
    key = drop(store, "orders.csv", superstore())
    (store.state / "datasets" / "superstore" / "orders.csv").unlink()
    assert f"no file has the content of dataset '{key}' any more" in str(failure_of(store, key).error)


@pytest.fixture
def named(tmp_path: Path) -> Path:
    path = tmp_path / "named.csv"
    superstore().to_csv(path, index=False)
    return path


def test_a_variable_names_a_file_that_lies_elsewhere(named: Path, tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path / "state", SUPERSTORE_CSV=str(named))
    key = Datasets(tmp_path / "none", named).read(str(named)).key
    pipeline.instance.add_dynamic_partitions("superstore_datasets", [key])
    assert metadata(pipeline.run("superstore/raw_data", night=key), "superstore/raw_data")["source"] == str(named)
