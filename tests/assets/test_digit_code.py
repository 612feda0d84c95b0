"""Code versions of the assets of digits name every module of ml/ that their values come from."""

from __future__ import annotations

import ast
import re

import pytest
from test_tabular_code import PACKAGE, below, reached

NAMED = re.compile(r"ml/\w+\.py")
SHARED = ("assets/model.py", "assets/evaluation.py")  # whose lists and functions other assets take
PICTURES = {f"ml/{name}.py" for name in ("drawing", "plots", "evidence_pictures")}  # of values, and no part of them
WITHOUT_INFLUENCE = {  # reached, but for another part of the module, or for types of arrays alone
    "data": set(),
    "feedback": {"calibration"},
    "model": {"digits", "metrics"},
    "evaluation": {"digits", "gate", "paired"},
    "deployment": {"digits", "calibration", "conformal"},
    "leaderboard": {"digits", "gate"},
    "label_errors": {"digits", "metrics"},
    "monitoring": {"digits"},
}


def modules_of(asset: str) -> list[str]:
    """The file, and those of other assets that it takes lists or functions from."""
    source = (PACKAGE / f"assets/{asset}.py").read_text()
    taken = [each for each in SHARED if f"from mnist_pipeline.{each[:-3].replace('/', '.')} import" in source]
    return [f"assets/{asset}.py", *taken]


def named(modules: list[str]) -> set[str]:
    """The modules of ml/ that stand in their lists: the whole of a text, and not a word in one."""
    trees = [ast.parse((PACKAGE / module).read_text()) for module in modules]
    texts = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {text for text in texts if isinstance(text, str) and NAMED.fullmatch(text)}


@pytest.mark.parametrize("asset", WITHOUT_INFLUENCE)
def test_no_module_is_forgotten(asset: str) -> None:
    modules = modules_of(asset)
    imported = reached(found for module in modules for found in below(module))
    missing = imported - named(modules) - PICTURES
    assert missing == {f"ml/{name}.py" for name in WITHOUT_INFLUENCE[asset]}
