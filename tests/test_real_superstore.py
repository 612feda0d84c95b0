"""The real Superstore table, through the commands that users have. Needs SUPERSTORE_CSV; skipped without."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from pipelines import at_home, call, instance_of
from real_data import SUPERSTORE_CSV

from mnist_pipeline.ml.tables.door import BadRows, checked
from mnist_pipeline.ml.tables.learning import answers, learn
from mnist_pipeline.ml.tables.models import LogisticRegression
from mnist_pipeline.ml.tables.preparing import prepared, shared_rows, split
from mnist_pipeline.ml.tables.reading import BadTable, read_csv
from mnist_pipeline.ml.tables.superstore import SUPERSTORE
from mnist_pipeline.ml.tables.task import TARGET

pytestmark = pytest.mark.skipif(not SUPERSTORE_CSV, reason="SUPERSTORE_CSV is not set")
COLUMNS = [column.name for column in SUPERSTORE.columns]


@pytest.fixture(scope="module")
def data() -> bytes:
    return Path(SUPERSTORE_CSV).read_bytes()


@pytest.fixture(scope="module")
def rows(data: bytes) -> pd.DataFrame:
    return checked(read_csv(data, COLUMNS, "superstore"), SUPERSTORE, "superstore")


def test_it_passes_the_door_with_its_mark_its_dates_and_what_is_missing(rows: pd.DataFrame) -> None:
    assert len(rows) == 9_994
    assert rows["Postal Code"].isna().sum() == 11
    assert str(rows["Order Date"].min().date()) == "2016-01-03"
    assert (rows["Profit"] > 0).mean() == pytest.approx(0.806, abs=0.001)


def test_profit_is_learned_without_profit(rows: pd.DataFrame) -> None:
    table = split(prepared(rows, SUPERSTORE), SUPERSTORE, 0)
    assert shared_rows(table) <= 5
    learned = learn(table, SUPERSTORE, LogisticRegression())
    assert learned.report["test"]["roc_auc"] > 0.97
    shuffled = table.assign(**{TARGET: table[TARGET].sample(frac=1, random_state=0).to_numpy()})
    truth, probability = answers(learn(shuffled, SUPERSTORE, LogisticRegression()).pipeline, shuffled, "test")
    assert abs(probability[truth].mean() - probability[~truth].mean()) < 0.03  # nothing is learned from noise


@pytest.mark.parametrize("share", [0.2, 0.55, 0.9])
def test_cut_in_a_row_it_is_refused(data: bytes, share: float) -> None:
    line_end = data.index(b"\r\n", int(share * len(data)))
    with pytest.raises(BadTable, match="The file was cut"):
        read_csv(data[: line_end + 30], COLUMNS, "superstore")


def test_cut_in_the_last_value_it_is_refused(data: bytes) -> None:
    lines = data.split(b"\r\n")
    with pytest.raises(BadTable, match="last value may have been cut"):
        read_csv(b"\r\n".join(lines[:5_000])[:-2], COLUMNS, "superstore")


def test_a_blank_line_moves_no_row_number(data: bytes) -> None:
    lines = data.split(b"\r\n")
    lines.insert(10, b"")
    lines[20] = re.sub(rb"Consumer|Corporate|Home Office", b"Robots", lines[20])
    with pytest.raises(BadRows, match="1 bad values in 1 rows") as caught:
        checked(read_csv(b"\r\n".join(lines), COLUMNS, "superstore"), SUPERSTORE, "superstore")
    assert [(each["row"], each["column"]) for each in caught.value.rows] == [(21, "Segment")]


@pytest.mark.slow
def test_the_commands_of_the_readme_take_it_to_a_comparison(tmp_path: Path) -> None:
    env = at_home(tmp_path, SUPERSTORE_CSV=SUPERSTORE_CSV, MLFLOW_TRACKING_URI="none")
    told = call("-m", "mnist_pipeline.datasets", **env)
    assert told.returncode == 0, told.stderr
    (key,) = set(re.findall(r"sample-superstore-[0-9a-f]{8}", told.stdout))
    command = ("-m", "dagster", "asset", "materialize", "-m", "mnist_pipeline.definitions")
    done = call(*command, "--select", "key:superstore/*", "--partition", key, **env)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "state" / "assets" / "superstore" / "comparison" / f"{key}.json").read_text())
    assert found["models"][0]["score"] > 0.97
    assert len(list((tmp_path / "state" / "pictures" / "superstore").rglob("*.png"))) == 10
    with instance_of(env) as instance:
        (run,) = instance.get_runs()
        assert run.is_success
