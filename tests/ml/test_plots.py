"""Every plot is a picture that can be opened, whatever there is to show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from digit_files import strokes
from pngs import fits_the_page, picture

from mnist_pipeline.ml import plots
from mnist_pipeline.ml.drawing import inches_of
from mnist_pipeline.ml.metrics import evaluate
from mnist_pipeline.ml.training import Epoch

LONG = tuple(f"a class with quite a long name, number {i}" for i in range(10))
NAMES = [("0", "1"), LONG, tuple(f"{i:03d}" for i in range(30))]
SIZES = pytest.mark.parametrize("names", NAMES, ids=["two", "long", "thirty"])
EPOCH = Epoch(
    number=1,
    of=3,
    train_loss=1.5,
    losses=(2.0, 1.0),
    validation_loss=1.2,
    validation_accuracy=0.6,
    images_per_s=1_000.0,
    seconds=1.0,
    seconds_left=2.0,
    best=True,
)


def report(names: tuple[str, ...], wrong: int) -> dict:
    truth = np.arange(5 * len(names)) % len(names)
    shares = np.full((len(truth), len(names)), 0.1 / len(names))
    answered = np.where(np.arange(len(truth)) < wrong, (truth + 1) % len(names), truth)
    shares[np.arange(len(truth)), answered] += 0.9
    return evaluate(truth, shares, names)


@SIZES
@pytest.mark.parametrize("parts", [1, 4])
def test_class_distribution(names: tuple[str, ...], parts: int) -> None:
    counts = {f"part {i}": [i * 10_000 + j for j in range(len(names))] for i in range(parts)}
    assert picture(plots.class_distribution(counts, names)).min() < 200


def test_class_distribution_shows_other_counts_as_another_picture() -> None:
    one, other = (plots.class_distribution({"train": [5, n]}, ("0", "1")) for n in (5, 6))
    assert one != other


@pytest.mark.parametrize("count", [1, 11, 12, 13, 36])
def test_a_contact_sheet_of_any_number_of_images(count: int) -> None:
    sheet = picture(plots.contact_sheet(strokes(count), [f"cap {i}" for i in range(count)]))
    assert sheet.min() < 100
    assert sheet.max() == 255


def test_a_contact_sheet_of_nothing_says_so() -> None:
    empty = picture(plots.contact_sheet(np.zeros((0, 28, 28), np.uint8), []))
    assert empty.min() < 100


def test_a_contact_sheet_needs_a_caption_an_image() -> None:
    with pytest.raises(ValueError, match="zip"):
        plots.contact_sheet(strokes(2), ["only one"])


def sheet_of(count: int, images: int = 99) -> tuple[str, tuple[np.ndarray, list[str]]]:
    return f"{images} images", (strokes(count), [f"cap {i}" for i in range(count)])


@pytest.mark.parametrize(("one", "other"), [(36, 36), (1, 10), (0, 3), (3, 0), (0, 0)])
def test_contact_sheets_of_any_number_of_images_stand_below_each_other(one: int, other: int) -> None:
    drawn = plots.contact_sheets(dict([sheet_of(one), sheet_of(other, 98)]), columns=9)
    rows = -(-one // 9) + -(-other // 9)
    assert fits_the_page(drawn).shape[0] >= 100 * rows


def test_contact_sheets_show_each_image_and_title() -> None:
    pictures = {
        plots.contact_sheets(dict(sheets))
        for sheets in ([sheet_of(2)], [sheet_of(3)], [sheet_of(2, 7)], [sheet_of(0)], [sheet_of(2), sheet_of(1, 7)])
    }
    assert len(pictures) == 5


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_training_curves(epochs: int) -> None:
    history = [replace(EPOCH, number=i + 1, of=epochs, train_loss=1 / (i + 1), best=i == 0) for i in range(epochs)]
    assert picture(plots.training_curves(history)).min() < 200


@pytest.mark.parametrize(
    ("names", "wrong"), [(NAMES[0], 0), (NAMES[1], 1), (NAMES[2], 7)], ids=["none", "one", "seven"]
)
def test_confusion_and_scores_with_and_without_mistakes(names: tuple[str, ...], wrong: int) -> None:
    found = report(names, wrong)
    fits_the_page(plots.confusion({"validation": report(names, 0)["confusion"], "test": found["confusion"]}, names))
    assert picture(plots.per_class(found["per_class"])).min() < 200


def test_scores_of_one_image_only() -> None:
    found = evaluate(np.array([1]), np.array([[0.2, 0.8]]), ("0", "1"))
    assert picture(plots.per_class(found["per_class"])).min() < 200
    fits_the_page(plots.confusion({"validation": found["confusion"], "test": found["confusion"]}, ("0", "1")))


def test_confusion_shows_the_counts_of_both_parts() -> None:
    none, one = ([[9, 0], [0, 9]], [[9, 0], [1, 8]])
    pictures = {
        plots.confusion({"validation": first, "test": second}, ("0", "1"))
        for first in (none, one)
        for second in (none, one)
    }
    assert len(pictures) == 4


@pytest.mark.parametrize(("count", "names"), [(0, LONG), (1, LONG), (1, ("0", "1")), (10, LONG)])
def test_answers_to_any_number_of_images(count: int, names: tuple[str, ...]) -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(len(names)), count).astype(np.float32)
    assert picture(plots.answers(strokes(count), shares, names)).min() < 200


def test_names_are_text_and_no_formulas() -> None:
    """Class names are names of folders."""
    names = (r"$\frac{1}$", "a_b^c", "$", "100 %", "{x}")
    found = report(names, 3)
    picture(plots.class_distribution({"train": [1, 2, 3, 4, 5]}, names))
    picture(plots.confusion({"validation": found["confusion"], "test": found["confusion"]}, names))
    picture(plots.per_class(found["per_class"]))
    picture(plots.contact_sheet(strokes(5), names))
    picture(plots.contact_sheets({name: (strokes(5), names) for name in names}))
    picture(plots.answers(strokes(1), np.full((1, 5), 0.2, np.float32), names))


@pytest.mark.parametrize(
    ("caption", "lines"),
    [
        ("5→9 88%", ["5→9 88%"]),
        ("T-shirt/top→Ankle boot 97%", ["T-shirt/top→", "Ankle boot", "97%"]),
        ("", [""]),
    ],
)
def test_a_caption_that_is_wider_than_its_image_takes_several_lines(caption: str, lines: list[str]) -> None:
    assert plots.caption_lines(caption) == lines


def test_no_line_of_a_caption_is_wider_than_its_image() -> None:
    lines = plots.caption_lines("a_class_of_one_endless_word_WWWWWWWWWWWWWW→another$one 100%")
    assert len(lines) > 1
    assert max(inches_of(line, plots.SMALL) for line in lines) <= plots.CAPTION
