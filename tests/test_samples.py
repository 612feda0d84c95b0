"""Samples for the inbox: whole files that can be claimed at once and are read as what they are."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from digit_files import strokes

from mnist_pipeline.inbox.mailbox import Inbox
from mnist_pipeline.ml.images import read_image
from mnist_pipeline.samples import write_samples


def test_samples_are_png_files_that_pass_the_front_door_unchanged(tmp_path: Path) -> None:
    images = strokes(12)
    write_samples(tmp_path / "new" / "inbox", images, time.time())
    names = [path.name for path in sorted((tmp_path / "new" / "inbox").iterdir())]
    assert names == [f"digit-{i:04d}.png" for i in range(12)]
    for name, image in zip(names, images, strict=True):
        read = read_image((tmp_path / "new" / "inbox" / name).read_bytes())
        assert read is not None
        assert np.array_equal(read, image)


def test_samples_are_as_old_as_their_data_and_need_not_settle(tmp_path: Path) -> None:
    write_samples(tmp_path, strokes(3), made=1_000_000_000)
    assert {path.stat().st_mtime for path in tmp_path.iterdir()} == {1_000_000_000}
    assert len(Inbox(tmp_path, settle_s=3_600).claim("2026-01-05", over=False)) == 3


def test_files_of_others_stay_in_the_inbox(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    write_samples(tmp_path, strokes(1), time.time())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digit-0000.png", "mine.png"]
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_no_images_make_no_files(tmp_path: Path) -> None:
    write_samples(tmp_path / "inbox", strokes(0), time.time())
    assert list((tmp_path / "inbox").iterdir()) == []
