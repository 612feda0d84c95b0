"""Headers: one of a request, and those that every answer has."""

from starlette.types import Scope

SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
POLICY = (
    b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)


def header(scope: Scope, name: bytes) -> str:
    """The first value under `name`, which is in small letters; "" where there is none.

    Starlette's `Headers` takes five times as long, and every request is asked for five.
    """
    for each, value in scope["headers"]:
        if each == name:
            return str(value, "latin-1")
    return ""


def every_header(own: list[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """Those that every answer has, unless it has set its own."""
    names = {name for name, _ in own}
    every = [*SECURITY, (b"content-security-policy", POLICY), (b"x-request-id", request_id.encode())]
    return [*own, *(each for each in every if each[0] not in names)]
