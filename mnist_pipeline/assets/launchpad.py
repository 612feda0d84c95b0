"""From the types of `ml` to what Dagster's launchpad can show: it knows enums, but no Literal."""

from enum import Enum
from typing import Any, Literal, get_args, get_origin

import dagster as dg
from pydantic import BaseModel, Field, create_model


def choice(literal: Any, name: str) -> Any:
    """Literal["a", "b"] -> an enum whose members are their own values, which the launchpad offers for choosing."""
    return Enum(name, {value: value for value in get_args(literal)}, type=str)


def optional_fields(model: type[BaseModel], base: type[dg.Config], name: str, module: str) -> Any:
    """A config class with every field of a pydantic model, none of them required: what is left out is None."""
    fields: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        literal = get_origin(field.annotation) is Literal
        kind: Any = choice(field.annotation, key) if literal else field.annotation
        fields[key] = (kind | None, Field(None, description=field.description))
    return create_model(name, __base__=base, __module__=module, **fields)


def given(config: dg.Config) -> dict[str, Any]:
    """The fields that were set, as plain values."""
    return {key: value for key, value in config.model_dump(mode="json").items() if value is not None}
