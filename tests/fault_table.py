"""The table of faults: each test of a fault adds a line when it has passed, and the end of a test run prints them."""

from __future__ import annotations

from typing import Protocol

HEAD = "| fault | times tried | lost | doubled | |\n|---|---|---|---|---|"


class Tried(Protocol):
    """Adds a line to the table."""

    def __call__(self, fault: str, times: int, lost: int = 0, doubled: int = 0, remark: str = "") -> None: ...


def line(fault: str, times: int, lost: int, doubled: int, remark: str) -> str:
    """As Markdown."""
    return f"| {fault} | {times:,} | {lost} | {doubled} | {remark} |"
