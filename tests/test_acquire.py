"""Getting hold of the digits, over real sockets: whole or not at all, in time, and never something else in silence."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from digit_files import digits, idx_contents, png, strokes, write_idx, write_published

import mnist_pipeline
from mnist_pipeline.acquire import DATASETS, DigitSource, SourceUnavailable, SourceUnreachable, download
from mnist_pipeline.ml.published import MNIST, PUBLISHED
from mnist_pipeline.ml.sources import BadSource

TRAIN, TEST = digits(40), digits(20, seed=1)
CONTENTS = idx_contents(TRAIN, TEST)


class Mirror:
    """An HTTP server on this machine that serves a folder, and can be told to fall silent inside a file, to cut one
    in the middle, or to have no time: each so many times."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[str] = []
        self.silent_in = ""
        self.cuts, self.busy = 0, 0
        self.closing = Event()
        mirror = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(folder))

            def do_GET(self) -> None:
                mirror.requests.append(self.path.lstrip("/"))
                if mirror.busy:
                    mirror.busy -= 1
                    self.send_error(503)
                    return
                if self.path.lstrip("/") != mirror.silent_in and not mirror.cuts:
                    super().do_GET()
                    return
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                self.wfile.write(b"\x1f\x8b")
                self.wfile.flush()
                if mirror.cuts:
                    mirror.cuts -= 1
                    return
                mirror.closing.wait()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    @property
    def asked_for(self) -> list[str]:
        """The files, in order; torchvision asks for each twice, to follow redirects first."""
        return list(dict.fromkeys(self.requests))

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(autouse=True)
def children_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The download is a child process: it needs the package, and no proxy to reach 127.0.0.1."""
    monkeypatch.setenv("PYTHONPATH", str(Path(mnist_pipeline.__file__).parents[1]))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is published as MNIST here: 60 images."""
    folder = tmp_path / "archives"
    monkeypatch.setitem(PUBLISHED, "mnist", write_published(folder, MNIST, CONTENTS))
    return folder


@pytest.fixture
def mirror(archives: Path) -> Iterator[Mirror]:
    mirror = Mirror(archives)
    yield mirror
    mirror.close()


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"


class Journal(logging.Handler):
    """A log that can be read afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.log = logging.Logger("journal")
        self.log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def at(self, level: int) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelno == level]


@pytest.fixture
def journal() -> Journal:
    return Journal()


def source(tmp_path: Path, dataset: str = "mnist", **settings: Any) -> DigitSource:
    return DigitSource(
        **{
            "dataset": dataset,
            "directory": None,
            "downloads": tmp_path / "downloads",
            "allow_embedded": False,
            "attempts": 1,
            **settings,
        }
    )


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- the download ---


@pytest.mark.slow
def test_a_download_comes_from_the_first_mirror_that_has_it_and_is_kept(
    tmp_path: Path, mirror: Mirror, nobody: str, journal: Journal
) -> None:
    (tmp_path / "empty").mkdir()
    broken = Mirror(tmp_path / "empty")
    fetched = source(tmp_path, mirrors=(nobody, broken.url, mirror.url))
    try:
        data = fetched.load(journal.log)
    finally:
        broken.close()
    assert np.array_equal(data["train"].images, TRAIN.images)
    assert data.origin.dataset == "mnist"
    assert not data.origin.fallback
    assert journal.at(logging.INFO) == [f"downloading mnist to {tmp_path}/downloads/mnist (at most 300 s)"]
    names = [archive for _, archive, _ in PUBLISHED["mnist"].files]
    assert broken.asked_for == mirror.asked_for == names
    assert files_below(tmp_path / "downloads") == ["mnist", *sorted(f"mnist/{name}" for name in names)]
    requests = list(mirror.requests)
    assert fetched.load(journal.log).digest() == data.digest()
    assert mirror.requests == requests  # nobody was asked again


@pytest.mark.slow
def test_other_content_than_the_published_is_refused_and_nothing_is_kept(
    tmp_path: Path, archives: Path, mirror: Mirror, journal: Journal
) -> None:
    name = PUBLISHED["mnist"].files[1][1]
    (archives / name).write_bytes(b"another file")
    message = rf"mnist was not downloaded: {mirror.url}: .*not found or corrupted"
    with pytest.raises(SourceUnavailable, match=message) as refused:
        source(tmp_path, mirrors=(mirror.url,)).load(journal.log)
    assert not isinstance(refused.value, SourceUnreachable)  # trying again would not change that
    assert mirror.asked_for[-1] == name
    assert files_below(tmp_path / "downloads") == []


@pytest.mark.slow
def test_a_mirror_that_falls_silent_costs_no_more_than_the_time_limit(
    tmp_path: Path, mirror: Mirror, journal: Journal
) -> None:
    mirror.silent_in = PUBLISHED["mnist"].files[0][1]
    message = r"the download took longer than 1\.5 s\. Set MNIST_DATA_DIR .*MNIST_MIRROR"
    with pytest.raises(SourceUnreachable, match=message):
        source(tmp_path, mirrors=(mirror.url,), timeout_s=1.5, attempts=5).load(journal.log)
    assert files_below(tmp_path / "downloads") == []


@pytest.mark.slow
def test_a_mirror_that_falls_silent_inside_the_second_file_leaves_nothing_behind(
    tmp_path: Path, mirror: Mirror, journal: Journal
) -> None:
    first, second = (archive for _, archive, _ in PUBLISHED["mnist"].files[:2])
    mirror.silent_in = second
    with pytest.raises(SourceUnreachable, match="the download took longer than 15 s"):
        source(tmp_path, mirrors=(mirror.url,), timeout_s=15).load(journal.log)
    assert mirror.asked_for == [first, second]
    assert files_below(tmp_path / "downloads") == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", [{"busy": 1}, {"cuts": 2}], ids=["no time", "a file cut short"])
def test_a_download_that_fails_is_tried_again_and_then_whole(
    tmp_path: Path, mirror: Mirror, journal: Journal, fault: dict[str, int]
) -> None:
    vars(mirror).update(fault)
    data = source(tmp_path, mirrors=(mirror.url,), attempts=2).load(journal.log)
    assert (mirror.busy, mirror.cuts) == (0, 0)
    assert np.array_equal(data["train"].images, TRAIN.images)
    assert (data.origin.dataset, data.origin.fallback) == ("mnist", False)
    names = [archive for _, archive, _ in PUBLISHED["mnist"].files]
    assert mirror.requests.count(names[0]) > mirror.requests.count(names[1])
    assert files_below(tmp_path / "downloads") == ["mnist", *sorted(f"mnist/{name}" for name in names)]


@pytest.mark.slow
def test_a_download_that_fails_each_time_is_given_up_with_the_reason(
    tmp_path: Path, mirror: Mirror, journal: Journal
) -> None:
    mirror.busy = 99
    with pytest.raises(SourceUnreachable, match=rf"mnist was not downloaded: {mirror.url}: .*503"):
        source(tmp_path, mirrors=(mirror.url,), attempts=2).load(journal.log)
    assert mirror.busy == 97
    assert files_below(tmp_path / "downloads") == []


@pytest.mark.slow
def test_of_two_downloads_at_once_the_second_takes_what_the_first_has_put_there(tmp_path: Path, mirror: Mirror) -> None:
    target = tmp_path / "downloads" / "mnist"
    download("mnist", target, [mirror.url])
    before = {path.name: path.stat().st_ino for path in target.iterdir()}
    download("mnist", target, [mirror.url])
    assert {path.name: path.stat().st_ino for path in target.iterdir()} == before
    assert files_below(tmp_path / "downloads")[0] == "mnist"


def test_without_a_mirror_that_can_be_reached_it_is_said_which_were_tried(
    tmp_path: Path, nobody: str, journal: Journal
) -> None:
    with pytest.raises(SourceUnreachable, match=rf"mnist was not downloaded: no mirror can be reached \({nobody}\)"):
        source(tmp_path, mirrors=(nobody,), attempts=5).load(journal.log)
    assert files_below(tmp_path / "downloads") == []


# --- falling back ---


def test_auto_falls_back_to_the_embedded_digits_where_allowed_and_says_so_loudly(
    tmp_path: Path, nobody: str, journal: Journal
) -> None:
    data = source(tmp_path, "auto", mirrors=(nobody,), allow_embedded=True).load(journal.log)
    assert (data.origin.dataset, data.origin.fallback, len(data)) == ("embedded", True, 1797)
    (warning,) = journal.at(logging.WARNING)
    assert "MNIST COULD NOT BE HAD: mnist was not downloaded: no mirror can be reached" in warning
    assert "Set MNIST_DATA_DIR" in warning


def test_the_embedded_digits_asked_for_are_no_fallback(tmp_path: Path, journal: Journal) -> None:
    assert not source(tmp_path, "embedded").load(journal.log).origin.fallback
    assert journal.records == []


@pytest.mark.parametrize(("dataset", "allowed"), [("auto", False), ("mnist", True), ("fashion_mnist", True)])
def test_nothing_else_falls_back(tmp_path: Path, nobody: str, journal: Journal, dataset: str, allowed: bool) -> None:
    with pytest.raises(SourceUnavailable, match="was not downloaded"):
        source(tmp_path, dataset, mirrors=(nobody,), allow_embedded=allowed).load(journal.log)


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
@pytest.mark.parametrize("content", ["missing", "empty", "changed"])
def test_a_bad_folder_is_an_error_and_no_reason_to_look_elsewhere(
    tmp_path: Path, mirror: Mirror, journal: Journal, dataset: str, content: str
) -> None:
    folder = tmp_path / "mine"
    if content != "missing":
        folder.mkdir()
    if content == "changed":
        write_idx(folder, idx_contents(TEST, TRAIN))
    with pytest.raises(BadSource, match=str(folder)):
        source(tmp_path, dataset, directory=folder, mirrors=(mirror.url,), allow_embedded=True).load(journal.log)
    assert mirror.asked_for == []


# --- folders of one's own ---


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
def test_a_folder_with_mnist_is_taken_before_any_download(
    tmp_path: Path, archives: Path, mirror: Mirror, journal: Journal, dataset: str
) -> None:
    data = source(tmp_path, dataset, directory=archives, mirrors=(mirror.url,)).load(journal.log)
    assert (data.origin.dataset, len(data), mirror.asked_for) == ("mnist", 60, [])
    assert str(archives) in data.origin.source
    assert not (tmp_path / "downloads").exists()


def test_an_idx_folder_is_read_with_the_preparation_asked_for(tmp_path: Path, journal: Journal) -> None:
    folder = write_idx(tmp_path / "mine", CONTENTS)
    data = source(tmp_path, "idx", directory=folder, preparation="resize").load(journal.log)
    assert (data.origin.dataset, data.origin.preparation) == ("idx", "resize")


def test_an_image_folder_is_read_with_the_preparation_asked_for(tmp_path: Path, journal: Journal) -> None:
    for i, name in enumerate(("moon", "star")):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for j, image in enumerate(strokes(5, seed=i)):
            (tmp_path / "mine" / name / f"{j}.png").write_bytes(png(image))
    data = source(tmp_path, "images", directory=tmp_path / "mine", preparation="resize").load(journal.log)
    assert (data.origin.dataset, data.origin.preparation, len(data)) == ("images", "resize", 10)


@pytest.mark.parametrize("dataset", ["idx", "images"])
def test_a_folder_of_ones_own_must_be_named(tmp_path: Path, journal: Journal, dataset: str) -> None:
    with pytest.raises(SourceUnavailable, match=f"MNIST_DATASET={dataset} needs MNIST_DATA_DIR"):
        source(tmp_path, dataset).load(journal.log)


def test_an_unknown_data_set_is_refused_at_once_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"unknown data set 'minst': MNIST_DATASET is one of {', '.join(DATASETS)}"):
        source(tmp_path, "minst")
    with pytest.raises(ValueError, match="unknown data set"):
        replace(source(tmp_path), dataset="")
