"""What must not leave the house in a message: tokens, keys and passwords, found by value and by shape.

Not here: what is sent and where to (`messages.py`, `doors.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote

GONE = "[redacted]"
SHORTEST = 6  # characters; a shorter value stands in too many words that are no secret
SECRET_NAMES = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|_PWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|_KEY$|DSN|WEBHOOK|HEARTBEAT_URL",
    re.IGNORECASE,
)
IN_A_URL = re.compile(r"(?<=://)([^\s/@:'\"<>]{0,200}):([^\s'\"<>]{1,500})@")
SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), GONE),
    (re.compile(r"\b(?:xox[a-z]|xapp)-[\w-]+"), GONE),  # Slack
    (re.compile(r"hooks\.slack\.com/\S+"), GONE),
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}"), GONE),  # AWS
    (re.compile(r"\b(?:gh[a-z]|github_pat|glpat)[_-]\w{16,}"), GONE),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), GONE),  # JSON web tokens
    (IN_A_URL, rf"{GONE}@"),
    (re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{8,}"), rf"\1 {GONE}"),
    (
        re.compile(
            r"(?i)((?:token|secret|passw(?:or)?d|pwd|api[_-]?key|access[_-]?key|authorization)[\w.-]{0,40}"
            r"[\"']?\s{0,3}[=:]\s{0,3}[\"']?)(?!\[redacted\]|bearer |basic )([^\s\"',;&}\[\]]{6,})"
        ),
        rf"\1{GONE}",
    ),
)


@dataclass(frozen=True)
class Redaction:
    """Removes these values, and whatever has the shape of a secret."""

    secrets: tuple[str, ...] = ()

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Redaction:
        """Of the values of every variable whose name says secret, and of passwords inside URLs."""
        named = [value for name, value in env.items() if SECRET_NAMES.search(name)]
        in_urls = [match[2] for value in env.values() for match in IN_A_URL.finditer(value)]
        values = {value.strip() for value in [*named, *in_urls, *map(unquote, in_urls)]}
        return cls(tuple(sorted(value for value in values if len(value) >= SHORTEST)))

    def __call__(self, text: str) -> str:
        """The text without them; what cannot be sent as UTF-8 is replaced too."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        for spelling in sorted(_spellings(self.secrets), key=len, reverse=True):
            text = text.replace(spelling, GONE)
        for shape, instead in SHAPES:
            text = shape.sub(instead, text)
        return text


def _spellings(secrets: Iterable[str]) -> set[str]:
    """As they stand, in URLs, and in the repr and JSON of something."""
    ways = (
        *(str, quote, quote_plus, lambda s: quote(s, safe="")),
        *(lambda s: repr(s)[1:-1], lambda s: repr(s + "'\"")[1:-4], lambda s: json.dumps(s)[1:-1]),
    )
    return {way(secret.encode("utf-8", "replace").decode("utf-8")) for secret in secrets for way in ways}
