"""One header of a request. Starlette's `Headers` takes five times as long, and every request is asked for five."""

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str:
    """The first value under `name`, which is in small letters; "" where there is none."""
    for each, value in scope["headers"]:
        if each == name:
            return str(value, "latin-1")
    return ""
