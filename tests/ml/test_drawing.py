"""Names as they can be drawn, and looks that can be told apart."""

from __future__ import annotations

import pytest
from pngs import fits_the_page

from mnist_pipeline.ml import drawing


def test_a_long_name_keeps_both_ends() -> None:
    short = drawing.labels(["superstore export of 2014, version 1", "superstore export of 2014, version 2"], 20)
    assert len(set(short)) == 2
    assert all(len(name) == 20 and name.startswith("superstore") for name in short)


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("two\nlines\tand tabs", "two lines and tabs"),
        ("$x$", r"\$x\$"),
        ("Größe łß", "Größe łß"),
        ("売上 🎉", "□□ □"),
        ("\x07bell", "bell"),
        ("", ""),
    ],
)
def test_a_name_is_one_line_of_text_in_the_font(name: str, drawn: str) -> None:
    assert drawing.labels([name]) == [drawn]


@pytest.mark.parametrize("longest", [1, 2, 3, 10])
def test_a_label_is_never_longer_than_asked(longest: int) -> None:
    assert len(drawing.labels(["x" * 80], longest)[0]) == longest


@pytest.mark.parametrize("name", ["short", "W" * 80, "i" * 200, "$" * 50, "a name of some words, rather long"])
def test_a_name_is_fitted_by_what_it_measures(name: str) -> None:
    label = drawing.fitted(name, 1.0, 8)
    assert drawing.inches_of(label, 8) <= 1.0
    assert drawing.inches_of(label, 8) > 0.8 or label == name


def test_narrow_letters_leave_room_for_more_of_them() -> None:
    assert len(drawing.fitted("i" * 80, 1, 8)) > 2 * len(drawing.fitted("W" * 80, 1, 8))


def test_the_same_series_look_the_same_in_any_order_and_all_differ() -> None:
    names = [f"model {i:02d}" for i in range(30)]
    looks = drawing.looks_of(names)
    assert looks == drawing.looks_of(reversed(names))
    assert len({(color, marker) for color, marker, _ in looks.values()}) == 30
    assert len({(color, str(line)) for color, _, line in looks.values()}) == 30


def test_a_message_is_as_wide_as_its_words() -> None:
    fits_the_page(drawing.message("no"))
    fits_the_page(drawing.message("Nothing is missing: 1,234,567,890 rows, 12,345 columns."))


@pytest.mark.parametrize("word", ["iii", "WWW", "some words"])
def test_words_are_wrapped_by_what_they_measure(word: str) -> None:
    lines = drawing.wrapped(" ".join([word] * 50), 3.0, 8)
    assert " ".join(lines) == " ".join([word] * 50)
    assert all(drawing.inches_of(line, 8) <= 3.0 for line in lines)
    assert drawing.inches_of(lines[0], 8) > 2.2
