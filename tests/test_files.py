"""Asset values between steps: what was written comes back, whole or not at all, and without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from digit_files import digits

from mnist_pipeline.files import AssetFiles, AssetFilesResource, DamagedValue, NotMaterialized
from mnist_pipeline.ml.digits import DigitData, Origin
from mnist_pipeline.ml.published import DIGIT_NAMES

DATA = DigitData({"train": digits(7), "test": digits(3, seed=1)}, Origin("idx", "made up", DIGIT_NAMES, fallback=True))


@pytest.fixture
def files(tmp_path: Path) -> AssetFiles:
    return AssetFilesResource(location=str(tmp_path)).create_io_manager(dg.build_init_resource_context())


def write(files: AssetFiles, name: str, value: Any) -> None:
    files.handle_output(dg.build_output_context(asset_key=name), value)


def read(files: AssetFiles, name: str) -> Any:
    return files.load_input(
        dg.build_input_context(asset_key=name, upstream_output=dg.build_output_context(asset_key=name))
    )


def test_digits_come_back_from_one_safetensors_file(files: AssetFiles, tmp_path: Path) -> None:
    write(files, "raw", DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["raw.safetensors"]
    back = read(files, "raw")
    assert (back.digest(), back.origin) == (DATA.digest(), DATA.origin)


@pytest.mark.parametrize("value", [{"version": "digitcnn", "nested": [1, 2.5, None, "é"]}, "a name", None, []])
def test_small_values_come_back_from_one_readable_file(files: AssetFiles, tmp_path: Path, value: Any) -> None:
    write(files, "model", value)
    assert json.loads((tmp_path / "model.json").read_text()) == value
    assert read(files, "model") == value


def test_a_new_value_replaces_the_one_before(files: AssetFiles, tmp_path: Path) -> None:
    write(files, "model", {"version": 1})
    write(files, "model", {"version": 2})
    assert read(files, "model") == {"version": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


@pytest.mark.parametrize(
    "value", [{"loss": float("nan")}, {"what": object()}, DigitData(DATA.parts, None)], ids=["NaN", "object", "origin"]
)
def test_a_value_that_cannot_be_written_leaves_the_one_before(files: AssetFiles, tmp_path: Path, value: Any) -> None:
    before = DATA if isinstance(value, DigitData) else {"version": 1}
    write(files, "kept", before)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises((ValueError, TypeError)):
        write(files, "kept", value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_a_value_that_nobody_made_yet_is_missed_by_name_with_what_to_do(files: AssetFiles) -> None:
    with pytest.raises(NotMaterialized, match=r"raw_mnist_data has no value yet .*: materialize it first"):
        read(files, "raw_mnist_data")


@pytest.mark.parametrize(("name", "value"), [("raw", DATA), ("model", {"version": 1})])
def test_a_damaged_file_is_named_with_what_to_do(files: AssetFiles, tmp_path: Path, name: str, value: Any) -> None:
    write(files, name, value)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedValue, match=rf"{path} is damaged .*: materialize {name} again"):
        read(files, name)


def test_assets_hand_values_on_through_files(tmp_path: Path) -> None:
    @dg.asset
    def first() -> DigitData:
        return DATA

    @dg.asset
    def second(first: DigitData) -> int:
        return len(first)

    result = dg.materialize([first, second], resources={"io_manager": AssetFilesResource(location=str(tmp_path))})
    assert result.output_for_node("second") == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.safetensors", "second.json"]
