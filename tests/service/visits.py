"""Visits of the page in Debian's chromium: a hand that draws, and eyes that miss no error."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page, Request, expect, sync_playwright

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
Stroke = Sequence[tuple[float, float]]  # shares of the paper's side, from the top left
ONE: Stroke = [
    *((0.38 + 0.14 * i / 4, 0.34 - 0.14 * i / 4) for i in range(4)),
    *((0.52, 0.2 + i / 20) for i in range(13)),
]
ZERO: Stroke = [(0.5 + 0.2 * math.sin(math.tau * i / 24), 0.5 - 0.32 * math.cos(math.tau * i / 24)) for i in range(25)]
DROP = """([bytes, name, type]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(bytes)], name, { type }));
  for (const kind of ["dragenter", "dragover", "drop"])
    document.getElementById("drawing").dispatchEvent(
      new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
PASTE = """([bytes, name, type]) => {
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([Uint8Array.from(bytes)], name, { type }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""
SEEN = """canvas => Array.from(canvas.getContext("2d").getImageData(0, 0, 28, 28).data).filter((_, i) => i % 4 === 0)"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser. Fails, rather than skips, where there is none: the page would go untested."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        pytest.fail("there is no chromium to drive the page with: apt-get install chromium")
    expect.set_options(timeout=20_000)  # ms, not 5,000: nothing here is timed, and machines are busy
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visit:
    """One page in one device. complaints: what the browser said in its console, and asked of other hosts."""

    page: Page
    url: str
    touch: bool = False
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def to(cls, url: str, browser: Browser, **device: Any) -> Visit:
        """Open the page and listen from the first moment."""
        page = browser.new_context(**device).new_page()
        page.set_default_timeout(20_000)
        visit = cls(page, url, bool(device.get("has_touch")))
        page.on("console", lambda said: visit._complain(said.type in ("error", "warning"), said.text))
        page.on("pageerror", lambda error: visit._complain(True, str(error)))
        page.on("request", visit._note)
        page.goto(url)
        return visit

    def _note(self, request: Request) -> None:
        self._complain(not request.url.startswith((self.url, "blob:", "data:")), f"asked for {request.url}")

    def _complain(self, wrong: bool, what: str) -> None:
        if wrong:
            self.complaints.append(what)

    def draw(self, stroke: Stroke, *, lift: bool = True) -> None:
        """By mouse, or by finger where the device has a touch screen. lift: whether the stroke ends."""
        box = self.page.locator("#drawing").bounding_box()
        assert box
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        if self.touch:
            _draw_by_finger(self.page.context.new_cdp_session(self.page), points, lift)
        else:
            self._draw_by_mouse(points, lift)

    def _draw_by_mouse(self, points: list[tuple[float, float]], lift: bool) -> None:
        mouse = self.page.mouse
        mouse.move(*points[0])
        mouse.down()
        for point in points[1:]:
            mouse.move(*point)
        if lift:
            mouse.up()

    def drop(self, data: bytes, name: str = "photo.png", kind: str = "image/png") -> None:
        """A file, as it would be dragged in from a folder."""
        self.page.evaluate(DROP, [list(data), name, kind])

    def paste(self, data: bytes, name: str = "photo.png", kind: str = "image/png") -> None:
        """A file from the clipboard."""
        self.page.evaluate(PASTE, [list(data), name, kind])

    def shows(self, label: str) -> None:
        """The label in big type, and who says so."""
        expect(self.page.locator("#label")).to_have_text(label)
        expect(self.page.locator("#served-by")).to_have_text("champion" if label != "–" else "–")

    def seen(self) -> list[int]:
        """The 784 grey values under "What the network saw"."""
        return self.page.locator("#seen").evaluate(SEEN)

    def said(self, text: str) -> None:
        """What a screen reader was given to read out."""
        expect(self.page.locator("#announcer")).to_contain_text(text)


def _draw_by_finger(screen: CDPSession, points: list[tuple[float, float]], lift: bool) -> None:
    for i, (x, y) in enumerate(points):
        kind = "touchMove" if i else "touchStart"
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    if lift:
        screen.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
