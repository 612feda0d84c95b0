"""Code versions that cannot be forgotten: a digest of the source that an asset runs through."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent


def code_version(*modules: str, settings: object = None) -> str:
    """12 hex digits over these files, e.g. "ml/split.py"; comments, blank lines and formatting do not count.

    settings: what else an asset depends on, of a kind whose repr says all there is to it.
    """
    digest = hashlib.sha256(b"" if settings is None else repr(settings).encode())
    for module in modules:
        digest.update(_meaning((PACKAGE / module).read_text()))
    return digest.hexdigest()[:12]


def source_of(function: Callable[..., object] | None) -> str:
    """The meaning of one function as text; of one whose source cannot be told apart, such as a lambda, its name."""
    if function is None:
        return ""
    try:
        return ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, SyntaxError):
        return function.__qualname__


@cache
def _meaning(source: str) -> bytes:
    """The syntax tree as text; once for each module, though several assets run through it."""
    return "".join(_words(ast.parse(source))).encode()


def _words(tree: ast.AST) -> Iterator[str]:
    """Every node and value, from the root down; in half the time of `ast.dump`, which writes for people."""
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.AST):
            yield type(node).__name__
            waiting.extend(getattr(node, field, None) for field in node._fields)
        elif isinstance(node, list):
            yield f"[{len(node)}"
            waiting.extend(node)
        else:
            yield repr(node)
