"""The page, in a real browser before the real service: drawing, photos, new versions, feedback, what goes wrong."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digit_files import png
from PIL import Image, ImageDraw
from pipelines import FACTS, UP_TO_DEPLOYMENT, Pipeline
from playwright.sync_api import Browser, expect
from processes import Process, answers, free_port, running
from served import deploy
from visits import DESKTOP, ONE, PHONE, ZERO, Visit, chromium

pytestmark = pytest.mark.slow
DEVICES = pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of this module only: while it is open, nothing else in this process can run an event loop."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A model that knows what people draw, which the tiny one of other tests does not."""
    made = Pipeline(tmp_path_factory.mktemp("trained"))
    made.run(*UP_TO_DEPLOYMENT)
    return made


@contextmanager
def served(state: Path, port: int, **env: str) -> Iterator[str]:
    """The service over this state; its address."""
    url = f"http://127.0.0.1:{port}/"
    given = {"MNIST_PIPELINE_STATE": str(state), "MNIST_SERVE_PORT": str(port), **env}
    command = [sys.executable, "-m", "mnist_pipeline.service"]
    process = Process("the service", command, given, state.parent / f"service-{port}.log")
    with running(process, lambda: answers(f"{url}ping")):
        yield url


@pytest.fixture(scope="module")
def service(trained: Pipeline) -> Iterator[str]:
    """For tests that change nothing but what is kept as feedback."""
    with served(trained.state, free_port()) as url:
        yield url


Serving = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serving]:
    """Starts services that live until the pages are closed: one that is left would say that it finds none."""
    with ExitStack() as running:
        yield lambda state, **env: running.enter_context(served(state, free_port(), **env))


@pytest.fixture
def own(trained: Pipeline, tmp_path: Path, serve: Serving) -> tuple[Pipeline, str]:
    """A pipeline to deploy in, and the service over it."""
    copy = trained.copy(tmp_path / "state")
    return copy, serve(copy.state)


Opening = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, serve: Serving) -> Iterator[Opening]:
    """Opens pages. In the end none may have complained, but of statuses that the test has said to expect."""
    opened: list[tuple[Visit, str]] = []

    def to(url: str, device: dict[str, Any] = DESKTOP, expects: str = "(?!)", **more: Any) -> Visit:
        opened.append((Visit.to(url, browser, **device, **more), expects))
        return opened[-1][0]

    yield to
    for each, expects in opened:
        each.page.context.close()
        assert [said for said in each.complaints if not re.search(expects, said)] == []


def photo(kind: str = "jpeg", size: tuple[int, int] = (900, 600), ink: bool = True) -> bytes:
    """A 1 in dark ink on a light page, as a camera would give it."""
    width, height = size
    image = Image.new("RGB", size, (214, 205, 190))
    if ink:
        across = [width * 0.5, height * 0.2, width * 0.5, height * 0.8]
        top = [width * 0.42, height * 0.36, width * 0.5, height * 0.2]
        for line in (across, top):
            ImageDraw.Draw(image).line(line, fill=(40, 40, 70), width=height // 12)
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


# --- drawing ---


@DEVICES
@pytest.mark.parametrize(("digit", "stroke"), [("1", ONE), ("0", ZERO)])
def test_a_drawn_digit_is_recognised(
    service: str, visit: Opening, device: dict[str, Any], digit: str, stroke: Any
) -> None:
    seen = visit(service, device)
    seen.draw(stroke)
    seen.shows(digit)
    expect(seen.page.locator("#percent")).to_contain_text("%")
    expect(seen.page.locator("#bars li")).to_have_count(10)
    expect(seen.page.locator("#bars .best .name")).to_have_text(digit)
    expect(seen.page.locator("#version")).to_contain_text("digitcnn-")
    assert max(seen.seen()) > 200
    assert seen.page.evaluate("scrollY") == 0, "the finger moved the page"


@DEVICES
def test_the_answer_changes_while_one_draws(service: str, visit: Opening, device: dict[str, Any]) -> None:
    seen = visit(service, device)
    seen.draw(ONE, lift=False)
    seen.shows("1")


def test_one_request_at_a_time_and_the_newest_drawing_last(service: str, visit: Opening) -> None:
    seen = visit(service)
    at_once, most, sent = 0, 0, 0
    keys = set()

    def begins(request: Any) -> None:
        nonlocal at_once, most, sent
        if "/predict" in request.url:
            at_once, sent = at_once + 1, sent + 1
            most = max(most, at_once)
            keys.add(request.headers["x-routing-key"])

    def ends(request: Any) -> None:
        nonlocal at_once
        at_once -= "/predict" in request.url

    seen.page.on("request", begins)
    seen.page.on("requestfinished", ends)
    for _ in range(4):
        seen.draw(ZERO)
        seen.page.keyboard.press("Escape")
    seen.draw(ONE)
    seen.shows("1")
    assert most == 1
    assert len(keys) == 1, "a challenger with a share would answer some of them"
    assert sent < 30, "as many requests as moves of the mouse"


def test_dark_ink_on_white_is_sent_in_the_dark_too(service: str, visit: Opening) -> None:
    pixels = []
    for scheme in ("light", "dark"):
        seen = visit(service, color_scheme=scheme)
        seen.draw(ZERO)
        seen.shows("0")
        seen.said("0.")
        pixels.append(seen.seen())
    assert pixels[0] == pixels[1]


def test_a_keyboard_is_enough(service: str, visit: Opening) -> None:
    """Drawing, taking back, clearing, and the buttons."""
    seen = visit(service)
    keys = seen.page.keyboard
    keys.press("Tab")
    expect(seen.page.locator("#drawing")).to_be_focused()
    for key in ("Space", *["ArrowDown"] * 10, "Space"):
        keys.press(key)
    expect(seen.page.locator("#label")).not_to_have_text("–")
    keys.press("Control+z")
    seen.shows("–")
    keys.press("Space")
    keys.press("ArrowDown")
    keys.press("Escape")
    seen.said("Cleared.")
    keys.press("Control+z")
    expect(seen.page.locator("#clear")).to_have_attribute("aria-disabled", "false")
    for name in ("Undo", "Clear"):
        keys.press("Tab")
        expect(seen.page.get_by_role("button", name=name)).to_be_focused()
    keys.press("Enter")
    expect(seen.page.get_by_role("button", name="Clear")).to_be_focused()
    seen.shows("–")


def test_undo_goes_back_stroke_by_stroke(service: str, visit: Opening) -> None:
    seen = visit(service)
    undo = seen.page.get_by_role("button", name="Undo")
    seen.draw(ONE)
    seen.draw([(0.2, 0.9), (0.8, 0.9)])
    undo.click()
    seen.shows("1")
    undo.click()
    seen.shows("–")
    expect(undo).to_have_attribute("aria-disabled", "true")


# --- photos ---


@DEVICES
@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_digit_of_mnist_is_read_as_it_is(
    service: str, trained: Pipeline, visit: Opening, device: dict[str, Any], way: str
) -> None:
    test = trained.digits()["test"]
    where = int(np.flatnonzero(test.labels == 7)[0])
    seen = visit(service, device)
    getattr(seen, way)(png(test.images[where]))
    seen.shows("7")
    assert seen.seen() == test.images[where].flatten().tolist()
    expect(seen.page.get_by_role("img", name="The photo photo.png")).to_be_visible()


@DEVICES
def test_a_photo_is_chosen_and_taken_back(service: str, visit: Opening, device: dict[str, Any]) -> None:
    seen = visit(service, device)
    with seen.page.expect_file_chooser() as chooser:
        seen.page.get_by_role("button", name="Choose a photo").click()
    chooser.value.set_files({"name": "one.jpg", "mimeType": "image/jpeg", "buffer": photo()})
    seen.shows("1")
    seen.draw(ZERO)
    seen.shows("0")
    expect(seen.page.locator("#preview")).to_be_hidden()


def test_a_photo_over_the_limit_is_made_smaller(service: str, visit: Opening) -> None:
    seen = visit(service)
    large = photo("bmp", (2400, 1600))
    assert len(large) > 10_000_000
    chosen = {"name": "large.bmp", "mimeType": "image/bmp", "buffer": large}
    seen.page.locator("#file").set_input_files(chosen)
    seen.shows("1")


def test_a_page_without_a_digit_is_told_in_a_sentence(service: str, visit: Opening) -> None:
    seen = visit(service)
    seen.drop(photo(ink=False), "blank.jpg", "image/jpeg")
    expect(seen.page.locator("#sure")).to_have_text("No answer")
    expect(seen.page.locator("#percent")).to_contain_text("no digit")
    expect(seen.page.locator("#wrong")).to_be_hidden()
    seen.said("no digit")


def test_a_file_that_is_no_image_is_told_in_a_sentence(service: str, visit: Opening) -> None:
    seen = visit(service, expects="422")
    seen.drop(b'{"pixels": []}', "letter.json", "application/json")
    expect(seen.page.locator("#problem")).to_contain_text("This file cannot be read. Not a PNG")
    expect(seen.page.locator("#nameplate")).to_contain_text("letter.json")
    seen.page.get_by_role("button", name="Clear").click()
    expect(seen.page.locator("#problem")).to_be_hidden()
    expect(seen.page.locator("#nameplate")).to_be_hidden()


@pytest.mark.parametrize("abstain", ["off", "on"])
def test_what_else_it_may_be_is_shown_read_out_and_can_be_put_right(
    trained: Pipeline, tmp_path: Path, serve: Serving, visit: Opening, abstain: str
) -> None:
    pipeline = trained.copy(tmp_path / "state")
    deploy(pipeline.store, pipeline.four_or_nine())
    seen = visit(serve(pipeline.state, MNIST_ABSTAIN=abstain))
    seen.draw(ONE)
    seen.shows("?" if abstain == "on" else "4")
    expect(seen.page.locator("#either")).to_have_text("4 or 9?")
    seen.said("Not sure enough to say which. 4 or 9?" if abstain == "on" else "4. Not sure, 62 %. 4 or 9?")
    expect(seen.page.get_by_role("button", name="It was a 9")).to_be_visible()
    seen.page.get_by_role("button", name="Clear").click()
    expect(seen.page.locator("#either")).to_be_empty()


# --- when it is wrong ---


def test_feedback_is_kept_with_its_label(own: tuple[Pipeline, str], visit: Opening) -> None:
    pipeline, url = own
    seen = visit(url)
    expect(seen.page.locator("#wrong")).to_be_hidden()
    seen.draw(ZERO)
    seen.shows("0")
    seen.page.get_by_role("button", name="It was a 6").click()
    expect(seen.page.locator("#thanks")).to_contain_text("Thank you")
    (kept,) = (pipeline.state / "feedback").rglob("*.png")
    assert kept.parent.name == "6"
    with Image.open(kept) as drawing:
        assert drawing.size == (160, 160)
    (record,) = (json.loads(path.read_text()) for path in (pipeline.state / "feedback").rglob("*.json"))
    assert record["request_id"]
    seen.page.get_by_role("button", name="It was a 5").click(force=True)
    seen.draw(ONE)
    expect(seen.page.locator("#thanks")).to_be_empty()
    assert len([*(pipeline.state / "feedback").rglob("*.png")]) == 1, "the same drawing under two labels"


def test_a_photo_that_is_too_large_in_base64_is_kept_smaller(own: tuple[Pipeline, str], visit: Opening) -> None:
    pipeline, url = own
    seen = visit(url)
    large = photo("bmp", (2000, 1400))
    assert 7_500_000 < len(large) < 10_000_000
    seen.page.locator("#file").set_input_files({"name": "large.bmp", "mimeType": "image/bmp", "buffer": large})
    seen.shows("1")
    seen.page.get_by_role("button", name="It was a 7").click()
    expect(seen.page.locator("#thanks")).to_contain_text("Thank you")
    assert [path.suffix for path in (pipeline.state / "feedback" / "images" / "7").iterdir()] == [".jpg"]


# --- what serves ---


@DEVICES
def test_a_new_version_is_noticed(own: tuple[Pipeline, str], visit: Opening, device: dict[str, Any]) -> None:
    """Without a reload; and it is asked about what is on the paper."""
    pipeline, url = own
    seen = visit(url, device)
    seen.draw(ZERO)
    seen.shows("0")
    version = pipeline.variant(always_three)
    number = deploy(pipeline.store, version).number
    seen.shows("3")
    expect(seen.page.locator("#version")).to_have_text(version)
    expect(seen.page.locator("#decision")).to_have_text(str(number))
    expect(seen.page.locator("#news")).to_contain_text(f"Version {version} answers, by decision {number}.")


def always_three(network: Any) -> None:
    network.classifier.bias[3] += 30


def test_classes_have_any_names(own: tuple[Pipeline, str], visit: Opening) -> None:
    """They come from the model, also where it is another one's turn, and the longest fit a phone."""
    pipeline, url = own
    seen = visit(url, PHONE)
    seen.draw(ZERO)
    seen.shows("0")
    things = ["T-shirt/top", "Trouser", "Pullover", "Ankle boot of an owl", *"EFGHIJ"]
    deploy(pipeline.store, pipeline.variant(always_three, class_names=things))
    seen.shows("Ankle boot of an owl")
    expect(seen.page.locator("#bars .name")).to_have_text(things)
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("Draw, or show a photo")
    seen.page.get_by_role("button", name="It was a Trouser").click()
    expect(seen.page.locator("#thanks")).to_contain_text("a Trouser")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390


def with_wrong_golden_answers(pipeline: Pipeline, like: str) -> str:
    """A version that is whole, and computes something else than it says."""
    from safetensors.numpy import load, save

    card, files = pipeline.store.card(like), dict(pipeline.store.load(like))
    golden = load(files["golden.safetensors"])
    files["golden.safetensors"] = save({**golden, "logits": golden["logits"] + 1})
    facts = {key: getattr(card, key) for key in FACTS}
    return pipeline.store.add_version(files, **{**facts, "label": "wrong"}).name


def test_a_version_that_is_refused_is_told(own: tuple[Pipeline, str], visit: Opening) -> None:
    pipeline, url = own
    seen = visit(url)
    before = pipeline.value("digit_classifier")
    version = with_wrong_golden_answers(pipeline, before)
    number = deploy(pipeline.store, version).number
    expect(seen.page.locator("#refused")).to_contain_text(f"Decision {number} wants version {version}")
    seen.draw(ZERO)
    seen.shows("0")
    expect(seen.page.locator("#version")).to_have_text(before)


def test_without_a_model_it_waits_for_one(trained: Pipeline, tmp_path: Path, serve: Serving, visit: Opening) -> None:
    seen = visit(serve(tmp_path / "state"), expects="503")
    expect(seen.page.locator("#problem")).to_contain_text("No model is deployed yet")
    expect(seen.page.locator("#problem code").first).to_have_text("make run")
    seen.draw(ZERO)
    shutil.copytree(trained.state / "models", tmp_path / "state" / "models", dirs_exist_ok=True)
    seen.shows("0")
    expect(seen.page.locator("#problem")).to_be_hidden()


def test_a_service_that_is_gone_is_told_until_it_is_back(trained: Pipeline, visit: Opening) -> None:
    port = free_port()
    with served(trained.state, port) as url:
        seen = visit(url, expects="ERR_CONNECTION_REFUSED")
        seen.draw(ONE)
        seen.shows("1")
    expect(seen.page.locator("#problem")).to_contain_text("The service cannot be reached")
    with served(trained.state, port):
        seen.shows("1")
        expect(seen.page.locator("#problem")).to_be_hidden()


def test_a_token_is_asked_for_and_kept(trained: Pipeline, serve: Serving, visit: Opening) -> None:
    seen = visit(serve(trained.state, MNIST_SERVE_TOKEN="for-the-test"), expects="401")
    token = seen.page.get_by_label("This service asks for a token")
    expect(token).to_be_focused()
    seen.page.keyboard.type("wrong")
    seen.page.keyboard.press("Enter")
    expect(seen.page.locator("#token-form")).to_contain_text("not accepted")
    token.fill("für-den-test")  # which no header can carry
    token.press("Enter")
    expect(seen.page.locator("#token-form")).to_contain_text("not accepted")
    expect(token).to_be_focused()
    token.fill("for-the-test")
    token.press("Enter")
    expect(token).to_be_hidden()
    seen.draw(ZERO)
    seen.shows("0")
    seen.page.reload()
    seen.draw(ONE)
    seen.shows("1")


# --- for everybody ---


def test_an_answer_is_read_out_when_drawing_pauses(service: str, visit: Opening) -> None:
    seen = visit(service)
    announcer = seen.page.locator("#announcer")
    expect(announcer).to_have_attribute("aria-live", "polite")
    seen.draw(ONE, lift=False)
    seen.shows("1")
    expect(announcer).to_be_empty()
    seen.page.mouse.up()
    seen.said("1. ")
    seen.said("%.")


def test_everything_has_a_name(service: str, visit: Opening) -> None:
    seen = visit(service)
    seen.draw(ONE)
    seen.shows("1")
    page = seen.page
    expect(page.get_by_role("application", name="Paper to draw on")).to_be_visible()
    expect(page.get_by_role("list", name="How likely each class is").get_by_role("listitem")).to_have_count(10)
    expect(page.get_by_role("img", name="The drawing, made 28 by 28 pixels")).to_be_visible()
    for i in range(10):
        expect(page.get_by_role("button", name=f"It was a{'n' * (i == 8)} {i}")).to_be_visible()
    for name in ("API", "Model", "Metrics"):
        address = page.get_by_role("link", name=name).evaluate("link => link.href")
        assert page.request.get(address).ok, address


@pytest.mark.parametrize("size", [(320, 640), (390, 844), (844, 390), (1024, 768), (1280, 800)], ids=str)
def test_nothing_runs_out_of_the_page(service: str, visit: Opening, size: tuple[int, int]) -> None:
    width, height = size
    seen = visit(service, {"viewport": {"width": width, "height": height}})
    seen.draw(ONE)
    seen.shows("1")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [seen.page.locator(f"#{name}").bounding_box() for name in ("drawing", "label", "seen")]
    assert all(box and box["y"] + box["height"] <= height for box in boxes), "paper and answer are not seen together"


@DEVICES
def test_a_share_of_any_length_stays_on_its_line(service: str, visit: Opening, device: dict[str, Any]) -> None:
    seen = visit(service, device)
    seen.draw(ONE)
    seen.shows("1")
    share = seen.page.locator(".bars .best .share")
    share.evaluate("share => (share.textContent = '> 99.9 %')")
    assert share.evaluate("share => share.scrollWidth <= share.clientWidth"), "it is cut off"
    assert (share.bounding_box() or {})["height"] < 30


CONTRAST = """([fore, back]) => {
  const probe = document.body.appendChild(document.createElement("i"));
  const light = (name) => {
    probe.style.color = `var(--${name})`;
    const parts = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [low, high] = [light(fore), light(back)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""
PAIRS = {
    *(("text", back) for back in ("page", "card", "wash", "red-wash", "track")),
    *(("quiet", back) for back in ("page", "card", "paper", "wash")),
    *(("accent", back) for back in ("page", "card", "wash")),
    *(("on-accent", "accent"), ("red", "red-wash")),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(service: str, visit: Opening, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    seen = visit(service, color_scheme=scheme)
    low = {pair: ratio for pair in PAIRS if (ratio := seen.page.evaluate(CONTRAST, list(pair))) < 4.5}
    assert low == {}


def test_nothing_moves_for_who_wants_that(service: str, visit: Opening) -> None:
    for motion, moves in (("no-preference", True), ("reduce", False)):
        seen = visit(service, reduced_motion=motion)
        bar = seen.page.locator("#bars .track span").first
        bar.wait_for(state="attached")
        assert (bar.evaluate("bar => getComputedStyle(bar).transitionDuration") != "0s") is moves
