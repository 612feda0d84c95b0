"""The part of requirements.lock that an image installs: `python pinned.py requirements.lock packages/service.txt`.

Prints each named package as the lock pins it, with its hashes, for `pip install --no-deps --require-hashes`.
--version-only leaves the hashes out, for wheels of the same version from another index. Standard library only: it runs
before anything is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9._-]+")


def blocks(lock: str) -> dict[str, list[str]]:
    """Package -> what the lock says of it, one text for each version, hashes on continued lines."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\S)", lock.rstrip()):
        if name := NAME.match(block):
            found.setdefault(normal(name[0]), []).append(block)
    return found


def normal(name: str) -> str:
    """As packages are compared: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(lock: str, names: list[str], *, version_only: bool = False) -> str:
    """Requirements for exactly these packages. Raises ValueError naming those that the lock does not pin."""
    known = blocks(lock)
    if missing := sorted(set(map(normal, names)) - set(known)):
        raise ValueError(f"requirements.lock does not pin {', '.join(missing)}: run `make lock`, or mend the list")
    chosen = [block for name in sorted(set(map(normal, names))) for block in known[name]]
    return "\n".join(block.split("\\\n")[0].rstrip() if version_only else block for block in chosen) + "\n"


def listed(text: str) -> list[str]:
    """The names in a list of packages: one a line, # begins a comment."""
    return [line for raw in text.splitlines() if (line := raw.split("#")[0].strip())]


def main() -> int:
    """Exit status 2 for a package that is not pinned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", type=Path)
    parser.add_argument("lists", type=Path, nargs="+")
    parser.add_argument("--version-only", action="store_true")
    options = parser.parse_args()
    names = [name for path in options.lists for name in listed(path.read_text())]
    try:
        print(pinned(options.lock.read_text(), names, version_only=options.version_only), end="")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
