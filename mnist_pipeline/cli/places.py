"""Which model store and which answers a command works on, from the environment; the names of the versions."""

from collections.abc import Callable
from typing import Annotated

import typer

from mnist_pipeline.cli.faults import BadSettings
from mnist_pipeline.environment import environment_name, model_store, places, shelf_of
from mnist_pipeline.night_tables import NightTables
from mnist_pipeline.storage.blobs import StoreUnavailable
from mnist_pipeline.store import ModelStore
from mnist_pipeline.traffic import Traffic


def opened() -> ModelStore:
    """The store of this environment. Raises BadSettings."""
    try:
        return model_store()
    except ValueError as error:
        raise BadSettings(str(error)) from error


def answers(fault: Callable[[str], object]) -> tuple[NightTables, Traffic]:
    """What was answered, at night and by the service. fault: is told of what cannot be read. Raises BadSettings."""
    try:
        log, feedback, predictions = (shelf_of(name) for name in ("prediction_log", "feedback", "predictions"))
    except ValueError as error:
        raise BadSettings(str(error)) from error
    return NightTables(predictions), Traffic(log, feedback, fault)


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
