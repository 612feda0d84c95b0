"""Libraries that import others only where they are installed, imported without them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any


class _NotNeeded(MetaPathFinder):
    """While it stands first among the finders, what is not needed and not imported yet is not installed."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"no {name} is needed here", name=name)


@contextmanager
def without(*names: str) -> Iterator[None]:
    """In this block these packages count as not installed, unless they are imported already."""
    finder = _NotNeeded(set(names) - sys.modules.keys())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
