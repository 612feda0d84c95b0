"""What is shown: tables on a terminal, aligned columns in a pipe, one JSON document for scripts, complaints on stderr.

Colours only on a terminal, and none where NO_COLOR is set. Names come from outside: what is not printable in them is
shown as an escape, so that none can command the terminal.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import typer

Row = Sequence[str]
SHORT = 16  # characters; a column that has no longer cells is not wrapped


def show_json(document: Any) -> None:
    """One document, in ASCII, so that no encoding can spoil it."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def show_table(columns: Sequence[str], rows: Iterable[Row]) -> None:
    """On a terminal a table that wraps what is too wide; else columns of which nothing is cut."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(columns, cells)
    else:
        _align([list(columns), *cells])


def show_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Names and values, a line each."""
    _align([[name, printable(value)] for name, value in facts])


def complain(text: str) -> None:
    """A message on stderr; what it says is up to whoever raised it: what, where, what to do."""
    said = "\n".join(map(printable, text.splitlines()))
    typer.echo(f"{typer.style('error:', fg='red', bold=True) if _in_colour() else 'error:'} {said}", err=True)


def note(text: str) -> None:
    """What a person wants to know and a script does not, on stderr."""
    typer.echo(printable(text), err=True)


def printable(text: str) -> str:
    r"""The text with line ends, escape sequences and bytes that are no UTF-8 as \n, \x1b, \udcff."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def moment(text: str) -> str:
    """A stored time (ISO 8601) to the minute, in UTC."""
    return datetime.fromisoformat(text).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M")


def share(value: float | None, digits: int = 2) -> str:
    """0.9919 as 99.19 %; – where there is none."""
    return "–" if value is None else f"{value:.{digits}%}".replace("%", " %")


def _in_colour() -> bool:
    from rich.console import Console

    console = Console(stderr=True)
    return console.color_system is not None and not console.no_color  # a dumb terminal has no system


def _draw(columns: Sequence[str], rows: Sequence[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name, cells in zip(columns, zip(*rows, strict=True), strict=True):
        table.add_column(Text(name), overflow="fold", no_wrap=max(map(len, cells)) <= SHORT)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _align(rows: Sequence[Row]) -> None:
    """Two spaces between columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    typer.echo("\n".join(lines))
