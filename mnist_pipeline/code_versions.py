"""Code versions that cannot be forgotten: a digest of the source that an asset runs through."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path

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
    return ast.dump(ast.parse(source)).encode()
