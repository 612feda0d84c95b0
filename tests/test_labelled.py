"""From what people said to pictures: each through the front door, or left out with a reason."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from digit_files import hugging_face, parquet, png, strokes
from people import answered, in_a_file, night, on_the_page, places

from mnist_pipeline import labelled
from mnist_pipeline.corrections import Corrections
from mnist_pipeline.labelled import Gathered, gather


def gathered(state: Path) -> Gathered:
    there = places(state)
    return gather(Corrections(there.traffic).all(), there, "ink")


def reason(state: Path) -> str:
    """Why the only thing that was said gives no picture."""
    found = gathered(state)
    assert found.pictures == []
    (why,) = found.left_out.values()
    return why


def npy(images: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, images)
    return buffer.getvalue()


def test_pictures_come_from_page_answers_and_nights_the_newest_first(tmp_path: Path) -> None:
    images = strokes(4)
    answered(tmp_path, "r-1", images[:2], [1, 2], at=1_700_000_000)
    night(tmp_path, "2026-01-05", {"a.png": png(images[2]), "many.npy": npy(images)})
    in_a_file(tmp_path, "a.csv", "request_id,label,index", "r-1,7,1")
    in_a_file(tmp_path, "b.csv", "file,label,time", "a.png,8,", "many.npy,3,2020-01-01")
    on_the_page(tmp_path, images[3], "9")
    found = gathered(tmp_path)
    assert found.left_out == {}
    assert [(each.said.label, each.said.origin) for each in found.pictures] == [
        ("9", "page"),
        ("8", "nights"),
        ("7", "answers"),
        ("3", "nights"),
    ]
    for each, image in zip(found.pictures, images[[3, 2, 1, 0]], strict=True):
        assert each.image.tobytes() == image.tobytes()


def test_a_picture_may_be_in_a_row_of_a_parquet_file(tmp_path: Path) -> None:
    (image,) = strokes(1)
    night(tmp_path, "2026-01-05", {"x.parquet": parquet(image=hugging_face([png(image), b"no picture"]))})
    in_a_file(tmp_path, "a.csv", "file,label,row", "x.parquet,8,0")
    (found,) = gathered(tmp_path).pictures
    assert found.image.tobytes() == image.tobytes()


def test_an_answer_whose_pixels_were_not_kept_is_named(tmp_path: Path) -> None:
    answered(tmp_path, "r-1", strokes(1), [1], kept=False)
    in_a_file(tmp_path, "a.csv", "request_id,label", "r-1,7")
    assert "MNIST_KEEP_IMAGES=yes" in reason(tmp_path)


def test_what_a_challenger_answered_in_the_shadow_is_no_second_image(tmp_path: Path) -> None:
    answered(tmp_path, "r-1", strokes(1), [1])
    answered(tmp_path, "r-1", strokes(1), [2], role="shadow", version="v-2")
    in_a_file(tmp_path, "a.csv", "request_id,label", "r-1,7")
    assert len(gathered(tmp_path).pictures) == 1


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("request_id,label\nr-2,7", "no request 'r-2'"),
        ("request_id,label\nr-1,7", "a column index"),
        ("request_id,label,index\nr-1,7,5", "a column index"),
        ("file,label\nno.png,7", "in no table of any night"),
        ("file,label\n../../secret.png,7", "in no table of any night"),
        ("file,label,night\na.png,7,../x", "is no name"),
        ("file,label\na.png,7", "in several nights (2026-01-06, 2026-01-05)"),
        ("file,label,night,row\na.png,7,2026-01-05,3", "row 3"),
        ("file,label\nblank.png,7", "no digit"),
        ("file,label\nbroken.png,7", "cannot be had"),
    ],
)
def test_what_cannot_be_found_says_why(tmp_path: Path, line: str, word: str) -> None:
    answered(tmp_path, "r-1", strokes(2), [1, 2])
    night(tmp_path, "2026-01-05", {"a.png": png(strokes(1)[0]), "blank.png": png(np.zeros((28, 28), np.uint8))})
    night(tmp_path, "2026-01-06", {"a.png": png(strokes(1)[0]), "broken.png": b"\x89PNG and no more"})
    in_a_file(tmp_path, "a.csv", line)
    assert word in reason(tmp_path)


def test_a_file_that_was_changed_since_its_night_is_not_learned_from(tmp_path: Path) -> None:
    night(tmp_path, "2026-01-05", {"a.png": png(strokes(1)[0])})
    (tmp_path / "inbox" / ".claimed" / "2026-01-05" / "a.png").write_bytes(png(strokes(1, seed=1)[0]))
    in_a_file(tmp_path, "a.csv", "file,label", "a.png,7")
    assert "not the file that the night has read" in reason(tmp_path)


def test_one_bad_picture_takes_no_other_with_it(tmp_path: Path) -> None:
    good, gone = (on_the_page(tmp_path, image, "3") for image in strokes(2))
    (tmp_path / "feedback" / gone).unlink()
    (tmp_path / "feedback" / "images" / "5").mkdir()
    (tmp_path / "feedback" / "images" / "5" / "torn.png").write_bytes(b"no picture")
    found = gathered(tmp_path)
    assert [each.said.image for each in found.pictures] == [good]
    assert set(found.left_out) == {gone, "images/5/torn.png"}


def test_only_the_newest_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "MOST", 1)
    older, newer = (on_the_page(tmp_path, image, "3") for image in strokes(2))
    found = gathered(tmp_path)
    assert [each.said.image for each in found.pictures] == [newer]
    assert "newer ones" in found.left_out[older]
