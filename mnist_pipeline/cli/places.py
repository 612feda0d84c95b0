"""Which model store a command works on, from the environment, and the names of the versions in it."""

from typing import Annotated

import typer

from mnist_pipeline.cli.faults import BadSettings
from mnist_pipeline.environment import environment_name, model_store, places
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.store import ModelStore


def opened() -> ModelStore:
    """The store of this environment. Raises BadSettings."""
    try:
        return model_store()
    except ValueError as error:
        raise BadSettings(str(error)) from error


def where() -> str:
    """The environment and its store, so that nobody decides in the wrong one. Raises BadSettings."""
    try:
        return f"{environment_name()}, {places()('models')}"
    except ValueError as error:
        raise BadSettings(str(error)) from error


def is_prod() -> bool:
    """Whether people rely on what is decided here."""
    return environment_name() == "prod"


def known_versions(incomplete: str) -> list[str]:
    """For the shell's completion, which has nobody to tell that there are none to be had."""
    try:
        return [name for name in opened().versions() if name.startswith(incomplete)]
    except (BadSettings, StoreUnavailable):
        return []


AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
