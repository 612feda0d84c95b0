"""Code versions of the assets of tables name every module that they run through, so that none changes unseen."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

import mnist_pipeline
from mnist_pipeline.assets.tabular_models import LEARNING
from mnist_pipeline.assets.tabular_results import COMPARING
from mnist_pipeline.assets.tabular_rows import DOOR, EXPLORING, PREPARING

PACKAGE = Path(mnist_pipeline.__file__).parent
# reached, and without influence: constants of a module, or what another part of it is for
WITHOUT_INFLUENCE = {
    "prepared": {"reading"},
    "explored": {"reading"},
    "learned": {"reading"},
    "compared": {"reading", "models", "importance"},
}
HOW = {"ml/copies.py", "ml/lean_imports.py"}  # how work is done, not what comes of it


def below(module: str) -> set[str]:
    """The modules of ml/ that one imports, anywhere but for the eyes of a type checker."""
    tree = ast.parse((PACKAGE / module).read_text())
    hidden = {
        id(each)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for each in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and id(node) not in hidden
            and str(node.module).startswith("mnist_pipeline")
        ):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            paths = ("/".join(name.split(".")[1:]) + ".py" for name in names)
            found |= {path for path in paths if path.startswith("ml/") and (PACKAGE / path).is_file()}
    return found


def reached(starts: Iterable[str]) -> set[str]:
    """These modules of ml/ and all that they import of it."""
    seen, waiting = set[str](), [*starts]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += below(module)
    return seen


def tables(*names: str) -> set[str]:
    return {f"ml/tables/{name}.py" for name in names}


@pytest.mark.parametrize(
    ("what", "starts", "named"),
    [
        ("raw", ("reading", "door", "preparing", "embedded"), {*DOOR}),
        ("prepared", ("preparing",), {*PREPARING}),
        ("explored", ("eda", "preparing", "column_pictures", "eda_pictures"), {*tables(*EXPLORING)}),
        ("learned", ("artifacts", "learning", "preparing"), {*LEARNING}),
        ("compared", ("comparing", "artifacts", "result_pictures", "comparison_pictures"), {*tables(*COMPARING)}),
    ],
)
def test_no_module_is_forgotten(what: str, starts: tuple[str, ...], named: set[str]) -> None:
    shared = {"ml/drawing.py", "ml/metrics.py", "ml/calibration.py"}  # which those that draw name beside their lists
    assert reached(tables(*starts)) - named - shared - HOW == tables(*WITHOUT_INFLUENCE.get(what, ()))
