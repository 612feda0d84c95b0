"""Where asset values live between steps: one file an asset, in a format that needs no pickle.

Digits become .safetensors, tables .parquet; everything else that assets hand on is small and becomes .json. Models and
decisions are not here but in the store: an asset hands on their names.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg

from mnist_pipeline.ml.digits import DigitData, from_tensors, to_tensors
from mnist_pipeline.retries import retried
from mnist_pipeline.storage.locations import shelf_at
from mnist_pipeline.storage.shelves import Missing, Shelf


class NotMaterialized(dg.DagsterError):
    """An input was asked for that no run has made yet."""


class DamagedValue(dg.DagsterError):
    """The file of an asset value is not whole."""


class AssetFiles(dg.IOManager):
    """Reads and writes asset values on one shelf, where a file is replaced whole or stays as it was."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Put the value, and tell where. Raises TypeError or ValueError for one that cannot be written."""
        suffix, data = _encoded(obj)
        name = _name(context) + suffix
        with retried(lambda: context.step_context.previous_attempt_count):
            self.shelf.put(name, data)
        context.add_output_metadata({"path": dg.MetadataValue.path(self.shelf.where(name))})

    def load_input(self, context: dg.InputContext) -> Any:
        """The value; of several partitions a dictionary by partition. Raises NotMaterialized, DamagedValue."""
        with retried(lambda: context.step_context.previous_attempt_count):
            return self._loaded(context)

    def _loaded(self, context: dg.InputContext) -> Any:
        if not context.has_asset_key:
            assert context.upstream_output
            return read_value(self.shelf, _name(context.upstream_output), f"step {context.upstream_output.step_key}")
        name, asset = "/".join(context.asset_key.path), context.asset_key.to_user_string()
        if not context.has_asset_partitions:
            return read_value(self.shelf, name, asset)
        if (context.definition_metadata or {}).get(ALL_THERE_ARE):
            return dict(self._there(name, asset, context.asset_partition_keys))
        values = {key: read_value(self.shelf, f"{name}/{key}", asset) for key in context.asset_partition_keys}
        return values if len(values) != 1 else next(iter(values.values()))

    def _there(self, name: str, asset: str, partitions: Sequence[str]) -> Iterator[tuple[str, Any]]:
        for key in partitions:
            with suppress(NotMaterialized):
                yield key, read_value(self.shelf, f"{name}/{key}", asset)


def read_value(shelf: Shelf, name: str, asset: str) -> Any:
    """The value under a name without suffix, by the suffix that is there. Raises NotMaterialized, DamagedValue."""
    for suffix, read in READERS.items():
        try:
            with shelf.local(name + suffix) as path:
                return read(path)
        except Missing:
            continue
        except OSError:  # the disk or the network, not the file
            raise
        except Exception as error:  # safetensors has an error class of its own, which is no ValueError
            where = shelf.where(name + suffix)
            raise DamagedValue(f"{where} is damaged ({error}): materialize {asset} again") from error
    where = shelf.where(f"{name}.json")
    raise NotMaterialized(
        f"{asset} has no value yet (looked for {where}): materialize it first, or select it too with '+key:…'"
    )


def read_digits(path: Path) -> DigitData:
    """Arrays and origin from one .safetensors file."""
    import numpy as np
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        return from_tensors(arrays, file.metadata())


def _name(context: dg.OutputContext) -> str:
    """Without suffix. What an op hands on is kept by run and step: steps/<run>/try_configuration.007/result."""
    if context.has_asset_key:
        return "/".join(context.get_asset_identifier())
    return "/".join(["steps", *(re.sub(r"\[(.*)\]", r".\1", part) for part in context.get_identifier())])


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def _read_table(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path, engine="pyarrow")


READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": read_digits,
    ".parquet": _read_table,
    ".json": _read_json,
}
ALL_THERE_ARE = "all_there_are"  # metadata of an input: every partition that has a value, always by partition


def _encoded(value: Any) -> tuple[str, bytes]:
    """Suffix and bytes."""
    if isinstance(value, DigitData):
        from safetensors.numpy import save

        return ".safetensors", save(*to_tensors(value))
    if hasattr(value, "to_parquet"):  # a frame; asked so, pandas is imported only where there is one
        return ".parquet", value.to_parquet(engine="pyarrow")
    return ".json", json.dumps(value, allow_nan=False, indent=2).encode()


class AssetFilesResource(dg.ConfigurableIOManagerFactory):
    """The location under which asset values are kept."""

    location: str
    endpoint: str = ""

    def open(self) -> Shelf:
        """The shelf they lie on."""
        return shelf_at(self.location, self.endpoint)

    def create_io_manager(self, context: dg.InitResourceContext) -> AssetFiles:
        """The IO manager over it."""
        return AssetFiles(self.open())
