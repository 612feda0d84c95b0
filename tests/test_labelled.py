"""From what people said to pictures: each through the front door, or left out with a reason."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from digit_files import hugging_face, parquet, png, strokes
from people import answered, in_a_file, night, on_the_page, places

from mnist_pipeline import labelled
from mnist_pipeline.corrections import Corrections
from mnist_pipeline.inbox.mailbox import Inbox, Opened
from mnist_pipeline.labelled import Gathered, Places, gather
from mnist_pipeline.measured import join
from mnist_pipeline.night_tables import NightTables
from mnist_pipeline.storage.shelves import DiskShelf
from mnist_pipeline.traffic import Traffic


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
    in_a_file(tmp_path, "b.csv", "file,label,time,row", "a.png,8,,", "many.npy,3,2020-01-01,0")
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


def test_pictures_may_be_in_rows_of_files_that_hold_many(tmp_path: Path) -> None:
    """In any order and number of runs; what is between them is not looked at."""
    images = strokes(5_000)
    rows = [4_998, 3, 4_097, 0]
    broken = hugging_face([png(image) if row in rows else b"no picture" for row, image in enumerate(images)])
    files = {"x.parquet": parquet(1_000, image=broken), "y.npy": npy(images)}
    night(tmp_path, "2026-01-05", files, rows=rows)
    lines = [f"{name},{row % 10},{row}" for name in files for row in rows]
    in_a_file(tmp_path, "a.csv", "file,label,row", *lines)
    found = gathered(tmp_path)
    assert found.left_out == {}
    assert len(found.pictures) == 8
    for each in found.pictures:
        assert each.image.tobytes() == images[each.said.row].tobytes()
        assert each.said.label == str(each.said.row % 10)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (0, "row 0 of 'x.parquet' of night 2026-01-05 has no digit on it"),
        (1, "night 2026-01-05 could not read row 1 of 'x.parquet': it is no image file"),
        (9, "in no table of any night (rows count from 0)"),
    ],
)
def test_a_row_that_gives_no_picture_says_what_the_night_made_of_it(tmp_path: Path, row: int, word: str) -> None:
    blank = parquet(image=hugging_face([png(np.zeros((28, 28), np.uint8)), b"no picture"]))
    night(tmp_path, "2026-01-05", {"x.parquet": blank}, refused={1: "it is no image file"})
    in_a_file(tmp_path, "a.csv", "file,label,row", f"x.parquet,8,{row}")
    assert word in reason(tmp_path)


def test_each_table_and_each_file_is_read_once_whatever_is_said_of_it(tmp_path: Path) -> None:
    """In a bucket each of them is a download: 5,000 labels of one file would be 5,000 of it, and of every night."""
    rows = range(50)
    for date in ("2026-01-05", "2026-01-06"):
        night(tmp_path, date, {f"{date}.npy": npy(strokes(50))}, rows=rows)
        in_a_file(tmp_path, f"{date}.csv", "file,label,row", *(f"{date}.npy,3,{row}" for row in rows))
    read, opened = list[str](), list[str]()

    class CountingShelf(DiskShelf):
        def local(self, name: str) -> AbstractContextManager[Path]:
            read.append(name)
            return super().local(name)

    class CountingInbox(Inbox):
        def opened(self, night: str, files: Sequence[str]) -> AbstractContextManager[Opened]:
            opened.extend(files)
            return super().opened(night, files)

    there = places(tmp_path)
    said = Corrections(there.traffic).all()
    nights = NightTables(CountingShelf(tmp_path / "predictions"))
    found = gather(said, Places(there.traffic, nights, CountingInbox(tmp_path / "inbox", 0.0)), "ink")
    assert (len(found.pictures), found.left_out) == (100, {})
    assert sorted(opened) == ["2026-01-05.npy", "2026-01-06.npy"]
    assert sorted(read) == ["2026-01-05.parquet", "2026-01-06.parquet"]
    read.clear()
    assert len(join(said, there.traffic, nights, 92).told) == 100
    assert sorted(read) == ["2026-01-05.parquet", "2026-01-06.parquet"]


def test_pictures_are_fetched_several_at_a_time(tmp_path: Path) -> None:
    """In a bucket each takes its time: 5,000 one after the other take minutes."""
    night(tmp_path, "2026-01-05", {f"{i}.png": png(image) for i, image in enumerate(strokes(8))})
    in_a_file(tmp_path, "a.csv", "file,label", *(f"{i}.png,3" for i in range(8)))
    for image in strokes(8, seed=1):
        on_the_page(tmp_path, image, "7")
    there, said = places(tmp_path), Corrections(places(tmp_path).traffic).all()
    together = threading.Barrier(8, timeout=10)

    class FarShelf(DiskShelf):
        def get(self, name: str) -> bytes:
            together.wait()
            return super().get(name)

    class FarInbox(Inbox):
        def opened(self, night: str, files: Sequence[str]) -> AbstractContextManager[Opened]:
            together.wait()
            return super().opened(night, files)

    traffic = Traffic(there.traffic.log, FarShelf(tmp_path / "feedback"))
    found = gather(said, Places(traffic, there.nights, FarInbox(tmp_path / "inbox", 0.0)), "ink")
    assert (len(found.pictures), found.left_out) == (16, {})


def test_a_table_that_is_damaged_leaves_those_out_that_may_be_in_it(tmp_path: Path) -> None:
    for date in ("2026-01-05", "2026-01-06"):
        night(tmp_path, date, {f"{date}.png": png(strokes(1)[0])})
    (tmp_path / "predictions" / "2026-01-06.parquet").write_bytes(b"PAR1")
    in_a_file(tmp_path, "a.csv", "file,label,night", "2026-01-05.png,7,2026-01-05", "2026-01-05.png,7,")
    in_a_file(tmp_path, "b.csv", "file,label,night", "a.png,7,../x")
    found = gathered(tmp_path)
    assert [each.said.night for each in found.pictures] == ["2026-01-05"]
    assert "2026-01-06.parquet cannot be read" in found.left_out["labels/a.csv, line 3"]
    assert "is no name" in found.left_out["labels/b.csv, line 2"]


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


def test_nor_is_one_that_holds_many_images(tmp_path: Path) -> None:
    night(tmp_path, "2026-01-05", {"many.npy": npy(strokes(3))})
    (tmp_path / "inbox" / ".claimed" / "2026-01-05" / "many.npy").write_bytes(npy(strokes(3, seed=1)))
    in_a_file(tmp_path, "a.csv", "file,label,row", "many.npy,7,0")
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
