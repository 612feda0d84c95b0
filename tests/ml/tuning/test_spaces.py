"""Search spaces hold what can be set and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mnist_pipeline.ml.config import PRESETS, ModelConfig, configure
from mnist_pipeline.ml.tables.models import MODELS
from mnist_pipeline.ml.tables.tasks import TASKS
from mnist_pipeline.ml.tuning.network import SPACE
from mnist_pipeline.ml.tuning.spaces import Choices, Floats, Integers, draw, inside, without
from mnist_pipeline.ml.tuning.table import SPACES


class Corner:
    """Draws the lowest of everything, or the highest."""

    def __init__(self, *, high: bool) -> None:
        self.at = -1 if high else 0

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return (low, high)[self.at]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return (low, high)[self.at]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[self.at]


@pytest.mark.parametrize("high", [False, True])
def test_every_corner_of_the_spaces_can_be_set(high: bool) -> None:
    ModelConfig(**draw(SPACE, Corner(high=high), {}))
    for kind, space in SPACES.items():
        MODELS[kind](**draw(space, Corner(high=high), {}))


def test_every_kind_of_table_model_can_be_searched_and_contains_its_defaults() -> None:
    assert SPACES.keys() == MODELS.keys()
    for task in TASKS:
        for kind, settings in task.models.items():
            assert inside(SPACES[kind], settings.model_dump()).keys() == SPACES[kind].keys(), (task.name, kind)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_lie_inside(preset: Any) -> None:
    assert inside(SPACE, configure(preset).model_dump()).keys() == SPACE.keys()


def test_what_is_in_a_range() -> None:
    assert 0.5 in Floats(0, 1)
    assert 1.01 not in Floats(0, 1)
    assert 3 in Integers(1, 3)
    assert 2.5 not in Integers(1, 3)
    assert True not in Integers(0, 1)
    assert None not in Integers(0, 1)
    assert None in Choices((None, 4))


def test_a_value_outside_is_kept_and_the_fixed_are_not_searched() -> None:
    space = {"a": Floats(0, 1), "b": Integers(1, 3), "c": Choices(("x", "y"))}
    assert inside(space, {"a": 7.0, "b": 2, "c": "y", "more": 0}) == {"b": 2, "c": "y"}
    assert draw(space, Corner(high=True), {"a": 7.0}) == {"a": 7.0, "b": 3, "c": "y"}
    assert without(space, {"b": 1}).keys() == {"a", "c"}


def test_drawn_numbers_have_four_digits() -> None:
    class Third(Corner):
        def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
            return 1 / 3

    assert draw({"a": Floats(0, 1)}, Third(high=True), {}) == {"a": 0.3333}
