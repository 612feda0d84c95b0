"""Digits from data to deployed model to predictions, as Dagster assets. For notebooks: `mnist_pipeline.history(asset)`.

Importing this does nothing and takes no time: what is offered here is imported when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_pipeline.notebook import history

__all__ = ["history"]


def __getattr__(name: str) -> Any:
    if name == "history":
        from mnist_pipeline.notebook import history

        return history
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
