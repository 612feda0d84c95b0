"""Where asset values live between steps: one file an asset, in a format that needs no pickle.

Digits become .safetensors, everything else that assets hand on is small and becomes .json. Models and decisions are
not here but in the store: an asset hands on their names.
"""

import json
import os
from pathlib import Path
from typing import Any

import dagster as dg
from upath import UPath

from mnist_pipeline.ml.digits import DigitData, from_tensors, to_tensors
from mnist_pipeline.retries import retried


class NotMaterialized(dg.DagsterError):
    """An input was asked for that no run has made yet."""


class DamagedValue(dg.DagsterError):
    """The file of an asset value is not whole."""


class AssetFiles(dg.UPathIOManager):
    """Reads and writes asset values under one folder. A file is replaced whole or stays as it was."""

    def load_input(self, context: dg.InputContext) -> Any:
        """As Dagster's own; tried again where the storage cannot be reached."""
        with retried(lambda: context.step_context.previous_attempt_count):
            return super().load_input(context)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """The same for writing."""
        with retried(lambda: context.step_context.previous_attempt_count):
            super().handle_output(context, obj)

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: UPath) -> None:
        """Write to a temporary file beside the target, then rename."""
        target = _target(path, obj)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            part.write_bytes(_encode(obj))
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)

    def get_metadata(self, context: dg.OutputContext, obj: Any) -> dict[str, dg.MetadataValue]:
        """The path of the file itself, with its suffix."""
        return {"path": dg.MetadataValue.path(str(_target(self._get_path(context), obj)))}

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Any:
        """The value, by the file's extension. Raises NotMaterialized, DamagedValue."""
        digits, small = (path.with_name(path.name + suffix) for suffix in (".safetensors", ".json"))
        name = context.asset_key.to_user_string()
        for file, read in ((digits, read_digits), (small, _read_json)):
            if file.exists():
                try:
                    return read(file)
                except OSError:  # the disk, not the file
                    raise
                except Exception as error:  # safetensors has an error class of its own, which is no ValueError
                    raise DamagedValue(f"{file} is damaged ({error}): materialize {name} again") from error
        raise NotMaterialized(
            f"{name} has no value yet (looked for {small}): materialize it first, or select it too with '+key:…'"
        )


def _target(path: UPath, value: Any) -> UPath:
    return path.with_name(path.name + (".safetensors" if isinstance(value, DigitData) else ".json"))


def read_digits(path: UPath | Path) -> DigitData:
    """Arrays and origin from one .safetensors file."""
    import numpy as np
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        return from_tensors(arrays, file.metadata())


def _read_json(path: UPath) -> Any:
    return json.loads(path.read_text())


def _encode(value: Any) -> bytes:
    if isinstance(value, DigitData):
        from safetensors.numpy import save

        arrays, metadata = to_tensors(value)
        return save(arrays, metadata)
    return json.dumps(value, allow_nan=False, indent=2).encode()


class AssetFilesResource(dg.ConfigurableIOManagerFactory):
    """The folder under which asset values are kept."""

    folder: str

    def create_io_manager(self, context: dg.InitResourceContext) -> AssetFiles:
        """The IO manager over that folder."""
        return AssetFiles(UPath(self.folder))
