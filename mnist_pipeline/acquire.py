"""Getting hold of the digits: which source is tried, in which order, and the download.

Reading and verifying what was got is in `ml.sources`. Run as a program, this module is the download itself: a child
process, because torchvision's download has no time limit of its own and a child can be ended.
"""

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from mnist_pipeline.ml.digits import DigitData, Preparation
from mnist_pipeline.ml.published import PUBLISHED
from mnist_pipeline.storage.s3_requests import Place

Dataset = Literal["auto", "mnist", "fashion_mnist", "kmnist", "qmnist", "embedded", "images", "idx"]
DATASETS: tuple[str, ...] = get_args(Dataset)
CONNECT_TIMEOUT = 5.0


class SourceUnavailable(RuntimeError):
    """The data could not be had; the message says what was tried and what to do."""


class SourceUnreachable(SourceUnavailable):
    """The network did not give it: no mirror answered, or not in time. Trying again may be all that it takes."""


@dataclass(frozen=True)
class DigitSource:
    """What to load and from where.

    dataset: "auto" is MNIST and, where `allow_embedded`, the embedded digits when MNIST cannot be had.
    directory: IDX files or image folder of the user, in a folder or in S3; downloads: where downloaded files are kept,
    and copies of those in S3.
    """

    dataset: str
    directory: Path | Place | None
    downloads: Path
    allow_embedded: bool
    preparation: Preparation = "ink"
    mirrors: tuple[str, ...] = ()
    timeout_s: float = 300.0
    attempts: int = 2

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise ValueError(f"unknown data set {self.dataset!r}: MNIST_DATASET is one of {', '.join(DATASETS)}")

    def load(self, log: logging.Logger) -> DigitData:
        """The data, verified. Raises BadSource, BadIdx or SourceUnavailable; never returns something else.

        StoreUnavailable and what it stands for, where the directory is in S3.
        """
        if isinstance(self.directory, Place):
            return self._load_from_s3(self.directory, log)
        from mnist_pipeline.ml import sources

        if self.dataset == "embedded":
            return sources.read_embedded()
        if self.dataset == "images":
            return sources.read_image_folder(self._own_directory(), self.preparation)
        if self.dataset == "idx":
            return sources.read_idx_directory(self._own_directory(), self.preparation)
        if self.dataset != "auto":
            return self._published(self.dataset, log)
        try:
            return self._published("mnist", log)
        except SourceUnavailable as error:
            if not self.allow_embedded:
                raise
            return self._fall_back(error, log)

    def _load_from_s3(self, place: Place, log: logging.Logger) -> DigitData:
        """As from a folder, which is brought up to date first; whatever is said names the bucket instead."""
        from mnist_pipeline.ml.idx import BadIdx
        from mnist_pipeline.ml.sources import BadSource
        from mnist_pipeline.storage.mirror import mirrored

        with mirrored(place, self.downloads / "s3", log) as folder:

            def told(text: str) -> str:
                return text.replace(str(folder), place.where("").rstrip("/"))

            try:
                data = replace(self, directory=folder).load(log)
            except (BadSource, BadIdx) as error:
                raise type(error)(told(str(error))) from error
        return replace(data, origin=replace(data.origin, source=told(data.origin.source)))

    def _own_directory(self) -> Path:
        if not isinstance(self.directory, Path):
            raise SourceUnavailable(f"MNIST_DATASET={self.dataset} needs MNIST_DATA_DIR, the folder to read")
        return self.directory

    def _published(self, dataset: str, log: logging.Logger) -> DigitData:
        """The user's folder when one is set, else the download. A folder that is bad is an error, not a reason
        to look elsewhere."""
        from mnist_pipeline.ml import sources

        if isinstance(self.directory, Path):
            return sources.read_published(self.directory, dataset)
        target = self.downloads / dataset
        if not sources.has_idx_files(target):
            log.info(f"downloading {dataset} to {target} (at most {self.timeout_s:.0f} s)")
            download(dataset, target, self.mirrors, self.timeout_s, self.attempts)
        return sources.read_published(target, dataset)

    def _fall_back(self, error: SourceUnavailable, log: logging.Logger) -> DigitData:
        from mnist_pipeline.ml import sources

        log.warning(
            "\n" + "!" * 78 + f"\nMNIST COULD NOT BE HAD: {error}\n"
            "Going on with 1,797 small embedded digits instead. Do not judge a model by them.\n"
            "Set MNIST_DATA_DIR to a folder with the four MNIST files for the real thing.\n" + "!" * 78
        )
        data = sources.read_embedded()
        return replace(data, origin=replace(data.origin, fallback=True))


def download(
    dataset: str, target: Path, mirrors: Sequence[str] = (), timeout_s: float = 300.0, attempts: int = 2
) -> None:
    """Fetch the files of a published data set with torchvision; appears in `target` whole or not at all.

    Raises SourceUnavailable; SourceUnreachable where it was the network.
    """
    published = PUBLISHED[dataset]
    files = [(archive, md5) for _, archive, md5 in published.files]
    target.parent.mkdir(parents=True, exist_ok=True)
    # made and removed here, not in the child: a child that ran out of time is killed, and removes nothing
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        error, fault = _fetch_in_child(files, whole, mirrors or published.mirrors, timeout_s, attempts)
        if fault:
            raise error(
                f"{dataset} was not downloaded: {fault}. Set MNIST_DATA_DIR to a folder with its IDX files, "
                f"or MNIST_MIRROR to a mirror that can be reached"
            )
        try:
            whole.rename(target)
        except OSError:
            from mnist_pipeline.ml.sources import has_idx_files

            if not has_idx_files(target):  # else another run was first
                raise


def _fetch_in_child(
    files: Sequence[tuple[str, str]], folder: Path, mirrors: Sequence[str], timeout_s: float, attempts: int
) -> tuple[type[SourceUnavailable], str]:
    """What went wrong in the last attempt, and of which kind it is; an empty text when all went well."""
    child = [sys.executable, "-m", "mnist_pipeline.acquire", str(folder), json.dumps(files), *mirrors]
    deadline, fault, status = time.monotonic() + timeout_s, "", 0
    for attempt in range(attempts):
        time.sleep(attempt)  # the first at once
        try:
            left = max(0.0, deadline - time.monotonic())
            ended = subprocess.run(child, capture_output=True, text=True, timeout=left, check=False)
        except subprocess.TimeoutExpired:
            return SourceUnreachable, f"the download took longer than {timeout_s:g} s"
        status = ended.returncode
        if status == 0:
            return SourceUnavailable, ""
        fault = (ended.stderr.strip().splitlines() or ["no reason given"])[-1]
        if status == UNREACHABLE:
            break
    return SourceUnreachable if status in (UNREACHABLE, BROKEN_OFF) else SourceUnavailable, fault


UNREACHABLE, BROKEN_OFF = 3, 4  # exit statuses of the child: nobody listens; the network failed in between


def _reachable(mirror: str) -> bool:
    """Whether anything listens at the mirror. Behind a proxy nobody can tell, so the download itself decides."""
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(mirror)
    if parts.scheme in getproxies() and not proxy_bypass(parts.hostname or ""):
        return True
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True


def _fetch(folder: str, files: Sequence[tuple[str, str]], mirrors: Sequence[str]) -> None:
    """The child process: every file from the first mirror that gives it whole."""
    import socket

    reachable = [mirror for mirror in mirrors if _reachable(mirror)]
    if not reachable:
        print(f"no mirror can be reached ({', '.join(mirrors)})", file=sys.stderr)
        raise SystemExit(UNREACHABLE)
    from torchvision.datasets.utils import download_url

    socket.setdefaulttimeout(CONNECT_TIMEOUT * 4)
    for archive, md5 in files:
        _from_first(download_url, reachable, folder, archive, md5)


def _from_first(download_url: Callable[..., None], mirrors: Sequence[str], folder: str, archive: str, md5: str) -> None:
    from urllib.error import HTTPError

    faults, by_network = [], True
    for mirror in mirrors:
        try:
            download_url(mirror.rstrip("/") + "/" + archive, folder, archive, md5)
            return
        except (OSError, RuntimeError, ValueError) as error:
            faults.append(f"{mirror}: {error}")
            by_network &= error.code >= 500 if isinstance(error, HTTPError) else isinstance(error, OSError)
    print("; ".join(faults).replace("\n", " "), file=sys.stderr)
    raise SystemExit(BROKEN_OFF if by_network else 1)


if __name__ == "__main__":
    _fetch(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:])
