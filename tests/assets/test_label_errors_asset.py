"""label_errors: rows of the raw data, with a sheet and a table."""

from __future__ import annotations

import dagster as dg
import numpy as np
import pytest
from pipelines import TINY, Pipeline, metadata

QUICK = {**TINY, "min_steps": 40}


@pytest.mark.slow
def test_what_is_suspected_is_shown_with_its_row_and_settings_are_read(pipeline: Pipeline) -> None:
    config = {"folds": 2, "settings": QUICK}
    result = pipeline.run("label_errors", label_errors=config)
    value, said = pipeline.value("label_errors"), metadata(result, "label_errors")
    raw = pipeline.digits("raw_mnist_data")
    assert (value["folds"], value["config"]["min_steps"], value["images"]) == (2, 40, 1437)
    assert value["data_digest"] == raw.digest()
    assert said["found"] == value["found"] == len(value["suspects"])
    assert said["accuracy_out_of_fold"] > 0.7
    given = [raw.origin.class_names[label] for label in raw["train"].labels[[row["row"] for row in value["suspects"]]]]
    assert given == [row["given"] for row in value["suspects"]]
    assert np.all(np.diff([row["quality"] for row in value["suspects"]]) >= 0)
    assert (pipeline.state / "pictures" / "label_errors" / "worst.png").exists()


def test_a_setting_that_does_not_exist_is_named(pipeline: Pipeline) -> None:
    with pytest.raises((dg.DagsterError, ValueError), match="colour"):
        pipeline.run("label_errors", label_errors={"settings": {"colour": 1}})
