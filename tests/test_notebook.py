"""The history of an asset as a DataFrame: one row a materialization, one column a number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from pipelines import ROOT, Pipeline, call

import mnist_pipeline
from mnist_pipeline.notebook import PAGE

FIXED = ["time", "run", "partition", "data_version", "code_version"]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def report(instance: dg.DagsterInstance, key: str, partition: str | None = None, **metadata: Any) -> None:
    made = dg.AssetMaterialization(dg.AssetKey.from_user_string(key), metadata=metadata, partition=partition)
    instance.report_runless_asset_event(made)


def test_a_run_of_the_pipeline_is_a_row_with_its_numbers(finished: Pipeline, result: dg.ExecuteInProcessResult) -> None:
    table = mnist_pipeline.history("digit_classifier", finished.instance)
    assert list(table.columns)[: len(FIXED)] == FIXED
    (row,) = table.to_dict("records")
    (event,) = result.asset_materializations_for_node("digit_classifier")
    tags = event.tags or {}
    assert row["run"] == result.run_id
    assert (row["data_version"], row["code_version"]) == (tags["dagster/data_version"], tags["dagster/code_version"])
    assert row["validation_accuracy"] == event.metadata["validation_accuracy"].value
    assert row["parameters"] == event.metadata["parameters"].value
    assert row["partition"] is None
    assert str(table.dtypes["time"]) == "datetime64[ns, UTC]"


def test_only_numbers_become_columns(instance: dg.DagsterInstance) -> None:
    table = dg.MetadataValue.json({"a": 1})
    report(instance, "one", accuracy=0.5, images=3, source="a folder", fallback=True, table=table)
    assert list(mnist_pipeline.history("one", instance).columns) == [*FIXED, "accuracy", "images"]


def test_the_oldest_comes_first_and_what_a_row_has_not_is_nan(instance: dg.DagsterInstance) -> None:
    report(instance, "one", accuracy=0.5)
    report(instance, "one", loss=2)
    table = mnist_pipeline.history("one", instance)
    assert table["time"].is_monotonic_increasing
    assert table["accuracy"].tolist() == [0.5, pytest.approx(np.nan, nan_ok=True)]
    assert table["loss"].tolist() == [pytest.approx(np.nan, nan_ok=True), 2]


def test_a_number_that_is_named_as_a_column_of_every_history_keeps_both(instance: dg.DagsterInstance) -> None:
    report(instance, "one", time=1.5, run=7)
    (row,) = mnist_pipeline.history("one", instance).to_dict("records")
    assert (row["time_metadata"], row["run_metadata"]) == (1.5, 7)
    assert row["time"].year > 2000


@pytest.mark.slow
def test_more_than_dagster_gives_at_once(instance: dg.DagsterInstance) -> None:
    for number in range(PAGE + 2):
        report(instance, "one", number=number)
    assert mnist_pipeline.history("one", instance)["number"].tolist() == list(range(PAGE + 2))


def test_every_partition_has_its_rows(instance: dg.DagsterInstance) -> None:
    for partition in ("2016", "2017", "2016"):
        report(instance, "superstore/comparison", partition, rows=1)
    table = mnist_pipeline.history("superstore/comparison", instance)
    assert table["partition"].tolist() == ["2016", "2017", "2016"]


@pytest.mark.parametrize(
    "asset",
    ["superstore/comparison", ["superstore", "comparison"], dg.AssetKey(["superstore", "comparison"])],
    ids=["text", "list", "key"],
)
def test_an_asset_can_be_named_in_every_usual_way(instance: dg.DagsterInstance, asset: Any) -> None:
    report(instance, "superstore/comparison", rows=1)
    assert len(mnist_pipeline.history(asset, instance)) == 1


def test_what_was_never_made_has_an_empty_history(instance: dg.DagsterInstance) -> None:
    table = mnist_pipeline.history("digit_classifier", instance)
    assert len(table) == 0
    assert list(table.columns) == FIXED
    assert str(table.dtypes["time"]) == "datetime64[ns, UTC]"


def test_an_asset_that_nobody_has_heard_of_is_named_with_those_there_are(instance: dg.DagsterInstance) -> None:
    report(instance, "own/asset", rows=1)
    with pytest.raises(LookupError, match=r"no asset 'digit_clasifier'; there are: .*digit_classifier.*own/asset"):
        mnist_pipeline.history("digit_clasifier", instance)


def test_by_default_it_is_the_instance_of_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.delenv("DAGSTER_HOME")
    with dg.DagsterInstance.from_config(str(ROOT)) as made:
        report(made, "one", rows=4)
    assert mnist_pipeline.history("one")["rows"].tolist() == [4]


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, mnist_pipeline; print(*sorted({'dagster', 'pandas', 'numpy'} & set(sys.modules)))"
    done = call("-c", code)
    assert (done.returncode, done.stdout.split()) == (0, [])


def test_what_the_package_does_not_offer_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'future'"):
        mnist_pipeline.future  # noqa: B018
