"""Search spaces: for every knob that is searched, the range it is drawn from.

Not here: who draws (an Optuna trial is a `Source`), and the spaces themselves, which stand beside what they are for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Source(Protocol):
    """What values are drawn from."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from low to high; log: as likely below as above the geometric mean."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number from low to high, both included."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of these."""


@dataclass(frozen=True)
class Floats:
    """Numbers from low to high."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: Any) -> bool:
        return _is_number(value) and self.low <= value <= self.high

    def draw(self, name: str, source: Source) -> float:
        """One of them, with the four digits that matter."""
        return float(f"{source.suggest_float(name, self.low, self.high, log=self.log):.4g}")


@dataclass(frozen=True)
class Integers:
    """Whole numbers from low to high, both included."""

    low: int
    high: int
    log: bool = False

    def __contains__(self, value: Any) -> bool:
        return _is_number(value) and value == int(value) and self.low <= value <= self.high

    def draw(self, name: str, source: Source) -> int:
        """One of them."""
        return source.suggest_int(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choices:
    """Single values, without an order."""

    options: tuple[Any, ...]

    def __contains__(self, value: Any) -> bool:
        return value in self.options

    def draw(self, name: str, source: Source) -> Any:
        """One of them."""
        return source.suggest_categorical(name, self.options)


Range = Floats | Integers | Choices
Space = Mapping[str, Range]


def without(space: Space, fixed: Mapping[str, Any]) -> Space:
    """The knobs that are left to search."""
    return {name: values for name, values in space.items() if name not in fixed}


def inside(space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that the space could have given."""
    return {name: settings[name] for name, values in space.items() if settings[name] in values}


def draw(space: Space, source: Source, kept: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every knob. kept: values that are not drawn, because they lie outside of the space."""
    return {name: kept[name] if name in kept else values.draw(name, source) for name, values in space.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
