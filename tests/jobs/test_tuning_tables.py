"""The job `tuning` on a table's model."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import yaml
from pipelines import Pipeline
from studied import failure, steps, studies, study, tune

from mnist_pipeline.jobs.ranking import result_name
from mnist_pipeline.jobs.targets import TableModel, target_named
from mnist_pipeline.ml.tables.breast_cancer import BREAST_CANCER
from mnist_pipeline.ml.tables.models import DecisionTree
from mnist_pipeline.ml.tables.preparing import counted, prepared, sampled, split
from mnist_pipeline.studies import FAILED, SCORED


def put(pipeline: Pipeline, fraction: float, name: str = "breast_cancer/train_test") -> pd.DataFrame:
    """A share of the rows, split, where the asset puts them."""
    assert BREAST_CANCER.embedded
    rows = sampled(counted(BREAST_CANCER.embedded()), BREAST_CANCER, fraction, 0)
    table = split(prepared(rows, BREAST_CANCER), BREAST_CANCER, 0)
    shelf = (pipeline.definitions.resources or {})["io_manager"].open()
    shelf.put(f"{name}.parquet", table.to_parquet(engine="pyarrow"))
    return table


def test_a_tables_model_is_tuned_on_its_training_rows_only(fresh: Pipeline) -> None:
    table = put(fresh, 0.5)
    assert tune(fresh, 3, target="breast_cancer/logistic_regression", fixed={}).success
    first = study(fresh).trials()
    assert [trial.state for trial in first] == [SCORED] * 3
    assert first[0].settings == {"c": 0.5}  # as in the description
    tested = table["part"] == "test"
    table.loc[tested, list(BREAST_CANCER.features)] = -1.0
    shelf = (fresh.definitions.resources or {})["io_manager"].open()
    shelf.put("breast_cancer/train_test.parquet", table.to_parquet(engine="pyarrow"))
    assert tune(fresh, 3, target="breast_cancer/logistic_regression", fixed={}).success
    ours, other = (each.trials() for each in studies(fresh).all())
    assert [trial.scored for trial in ours] == [trial.scored for trial in other]


def test_what_is_said_trains_the_asset(fresh: Pipeline) -> None:
    put(fresh, 0.5)
    assert tune(fresh, 3, target="breast_cancer/decision_tree", fixed={"min_samples_leaf": 7}).success
    best = study(fresh).ranked()[0].settings
    said = target_named("breast_cancer/decision_tree").use(best)
    config = yaml.safe_load(said.split("in the launchpad:\n")[1])["ops"]["breast_cancer_models"]["config"]
    fresh.run("breast_cancer/decision_tree", breast_cancer_models=config)
    made = fresh.value("breast_cancer/decision_tree")["version"]
    card = (fresh.definitions.resources or {})["models"].of_table("breast_cancer").card(made)
    assert card.config.items() >= best.items()


def test_a_trial_that_fails_loses_none_of_the_others(fresh: Pipeline) -> None:
    put(fresh, 0.1)  # 46 rows to train on, 37 of them at a time: more than 37 neighbours there are not
    result = tune(fresh, 12, target="breast_cancer/knn", fixed={"weights": "uniform"})
    assert result.success
    trials = study(fresh).trials()
    failed = [trial for trial in trials if trial.state == FAILED]
    assert failed
    assert all(trial.settings["neighbours"] > 36 for trial in failed)
    assert all("ValueError: Expected n_neighbors <= n_samples_fit" in trial.reason for trial in failed)
    assert sum(trial.state == SCORED for trial in trials) >= 4
    assert steps(result, "STEP_SUCCESS").count("try_configuration") == 12
    assert any(f"trial {failed[0].number} failed: ValueError" in line for line in fresh.messages(result))


def test_settings_that_were_scored_already_are_not_tried_again(fresh: Pipeline) -> None:
    put(fresh, 0.3)
    result = tune(fresh, 6, target="breast_cancer/knn", fixed={"neighbours": 9})  # two are left: the weights
    assert len({trial.settings["weights"] for trial in study(fresh).ranked()}) == 2
    assert len([line for line in fresh.messages(result) if "once more: its score is known" in line]) == 4


def test_today_is_what_the_description_says(fresh: Pipeline) -> None:
    resources = fresh.definitions.resources or {}
    shelf, store = resources["io_manager"].open(), resources["models"].open()
    tree = target_named("breast_cancer/decision_tree")
    assert tree.current(shelf, store) == {"max_depth": 4, "min_samples_leaf": 5}
    assert tree.changed({"max_depth": 4, "min_samples_leaf": 5}, {"max_depth": 9})["max_depth"] == 9
    with pytest.raises(ValueError, match="max_depth"):
        tree.changed({"max_depth": 4, "min_samples_leaf": 5}, {"max_depth": 0})


def test_a_model_is_searched_by_its_kind_whatever_it_is_called(fresh: Pipeline) -> None:
    resources = fresh.definitions.resources or {}
    deep = TableModel(replace(BREAST_CANCER, models={"deep": DecisionTree(max_depth=9)}), "deep")
    current = deep.changed(deep.current(resources["io_manager"].open(), resources["models"].open()), {"max_depth": 8})
    problem = deep.problem(put(fresh, 0.2), current, {"max_depth": 8})
    assert set(problem.space) == {"min_samples_leaf"}
    assert problem.score(current, lambda step, score: None).score > 0.5
    assert '"deep": DecisionTree(max_depth=8,' in deep.use(current)


def test_every_result_has_a_file_of_its_own() -> None:
    assert result_name("breast_cancer/knn") == "best/breast_cancer/knn.json"
    assert result_name("superstore/knn", "orders") == "best/superstore/knn/orders.json"


def test_what_is_said_to_be_pasted_gives_these_settings() -> None:
    said = target_named("breast_cancer/random_forest").use({"trees": 50, "max_depth": None, "min_samples_leaf": 3})
    assert '"random_forest": RandomForest(trees=50, max_depth=None, min_samples_leaf=3),' in said
    launchpad = yaml.safe_load(said.split("in the launchpad:\n")[1])
    assert launchpad["ops"]["breast_cancer_models"]["config"] == {"random_forest": {"trees": 50, "min_samples_leaf": 3}}


def test_a_dataset_of_a_table_is_named_by_its_partition(fresh: Pipeline) -> None:
    result = tune(fresh, 1, target="superstore/knn", partition="orders", fixed={})
    assert f"{fresh.state}/assets/superstore/train_validation_test/orders" in failure(result)


@pytest.mark.parametrize(("name", "partition"), [("superstore/knn", ""), ("breast_cancer/knn", "orders")])
def test_a_partition_is_named_where_there_are_some(name: str, partition: str) -> None:
    with pytest.raises(ValueError, match="partition"):
        target_named(name, partition)
