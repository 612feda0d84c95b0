"""Models as files: equal models are equal bytes, and what comes back answers as before or not at all."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from pipelines import call

from mnist_pipeline.ml.tables.artifacts import GOLDEN, MODEL, BadModel, canonical, load, pack
from mnist_pipeline.ml.tables.models import MODELS, pipeline_of
from mnist_pipeline.ml.tables.preparing import part_of
from mnist_pipeline.ml.tables.superstore import SUPERSTORE

NAMES = SUPERSTORE.target.names


def files_of(name: str, orders: pd.DataFrame) -> dict[str, bytes]:
    features, target = part_of(orders, "train")
    return pack(pipeline_of(SUPERSTORE.models[name], SUPERSTORE).fit(features, target), features, NAMES)


@pytest.fixture(scope="module")
def tree(orders: pd.DataFrame) -> dict[str, bytes]:
    return files_of("decision_tree", orders)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_equal_models_are_equal_bytes_and_come_back_as_they_were(name: str, orders: pd.DataFrame) -> None:
    files = files_of(name, orders)
    assert files == files_of(name, orders)
    features, target = part_of(orders, "train")
    before = pipeline_of(SUPERSTORE.models[name], SUPERSTORE).fit(features, target)
    asked = part_of(orders, "test")[0]
    assert np.array_equal(load(files).predict_proba(asked), before.predict_proba(asked))


def test_a_model_with_missing_values_among_its_golden_rows_comes_back(orders: pd.DataFrame) -> None:
    features, target = part_of(orders, "train")
    fitted = pipeline_of(SUPERSTORE.models["knn"], SUPERSTORE).fit(features, target)
    holes = features.head(5).copy()
    holes["Sales"] = np.nan
    holes.iloc[0, holes.columns.get_loc("State")] = None
    load(pack(fitted, holes, NAMES))


def test_canonical_bytes_are_canonical(tree: dict[str, bytes]) -> None:
    assert canonical(tree[MODEL]) == tree[MODEL]


def test_a_model_that_answers_otherwise_is_refused(tree: dict[str, bytes]) -> None:
    golden = json.loads(tree[GOLDEN])
    golden["probabilities"][0] = 1 - golden["probabilities"][0] / 2
    with pytest.raises(BadModel, match="answers otherwise than when it was stored"):
        load({**tree, GOLDEN: json.dumps(golden).encode()})


def test_a_type_that_no_model_of_ours_has_is_refused_before_it_is_made(tree: dict[str, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(tree[MODEL])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(parts["schema.json"])
    parts["schema.json"] = json.dumps({**schema, "__class__": "Popen", "__module__": "subprocess"}).encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    with pytest.raises(BadModel, match=r"subprocess\.Popen"):
        load({**tree, MODEL: written.getvalue()})


STORE = """
import sys
from sklearn.dummy import DummyClassifier
import pandas as pd
from mnist_pipeline.ml.tables.artifacts import pack
rows = pd.DataFrame({"size": [1.0, 2.0]})
pack(DummyClassifier().fit(rows, [True, False]), rows, ("no", "yes"))
print("torch" in sys.modules, "pytest" in sys.modules)
import torch, pytest
"""


@pytest.mark.slow
def test_storing_a_model_does_not_import_torch_or_pytest() -> None:
    """It would take as long as everything else together, and both can still be imported afterwards."""
    done = call("-c", STORE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "False"]


def test_other_names_of_the_classes_are_another_version(orders: pd.DataFrame) -> None:
    features, target = part_of(orders, "train")
    fitted = pipeline_of(SUPERSTORE.models["decision_tree"], SUPERSTORE).fit(features, target)
    assert pack(fitted, features, ("loss", "profit")) != pack(fitted, features, ("profit", "loss"))
