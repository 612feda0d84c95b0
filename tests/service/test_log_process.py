"""The process that writes the prediction log: no row is lost and none is there twice, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from processes import wait

from mnist_pipeline.service.log_process import LogProcess
from mnist_pipeline.service.prediction_log import PredictionLog
from mnist_pipeline.service.rows import Predicted, columns_of
from mnist_pipeline.storage.blobs import StoreUnavailable

PART = "2026-03-01/120000-tests-00001.parquet"


def predicted(request: str) -> Predicted:
    image, shares = np.zeros((1, 28, 28), np.uint8), np.array([[0.25, 0.75]], np.float32)
    return Predicted(1e9, request, "predict", "champion", "v-1", 3, ["no", "yes"], image, shares)


def requests(folder: Path) -> list[str]:
    """Of all rows there are, sorted."""
    parts = [pq.read_table(path, columns=["request_id"]) for path in folder.rglob("*.parquet")]
    return sorted(pa.concat_tables(parts)["request_id"].to_pylist()) if parts else []


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LogProcess]:
    writer = LogProcess(str(tmp_path / "log"))
    writer.start()
    yield writer
    writer.stop()


def kill(writer: LogProcess) -> None:
    """kill -9, and until it is dead."""
    pid = writer.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.slow
def test_where_it_is_killed_another_goes_on_with_the_same_part(writer: LogProcess, tmp_path: Path) -> None:
    log = PredictionLog(writer)
    for request in "abcdef":
        log.add(predicted(request))
        log.flush()
        kill(writer)
    log.add(predicted("g"))
    log.flush()
    assert requests(tmp_path / "log") == list("abcdefg")
    assert len(list((tmp_path / "log").rglob("*.parquet"))) == 1


def test_rows_that_it_had_not_written_are_written_by_the_next(writer: LogProcess, tmp_path: Path) -> None:
    writer.take(PART, columns_of([predicted("a")]))
    kill(writer)
    writer.put(PART)
    assert requests(tmp_path / "log") == ["a"]


SERVICE = """
import sys, time
from test_log_process import PART, LogProcess, columns_of, predicted
writer = LogProcess(sys.argv[1])
writer.start()
writer.take(PART, columns_of([predicted("a")]))
print("taken", flush=True)
time.sleep(60)
"""


def test_what_was_handed_on_is_written_when_the_service_is_killed(tmp_path: Path) -> None:
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SERVICE, str(tmp_path / "log")]
    with subprocess.Popen(command, env=here, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "taken\n"
        service.kill()
    wait("the row", lambda: requests(tmp_path / "log") == ["a"], 10, every=0.05)


def test_signals_that_are_meant_for_the_service_do_not_end_it(writer: LogProcess, tmp_path: Path) -> None:
    log = PredictionLog(writer)
    log.add(predicted("a"))
    log.flush()
    pid = writer.pid
    assert pid is not None
    for each in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, each)
    log.add(predicted("b"))
    log.flush()
    assert writer.pid == pid
    assert requests(tmp_path / "log") == ["a", "b"]


def test_storage_that_is_away_is_told_and_the_rows_wait(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder would be")
    writer = LogProcess(str(tmp_path / "log"))
    log = PredictionLog(writer)
    writer.start()
    try:
        log.add(predicted("a"))
        with pytest.raises(StoreUnavailable, match="log"):
            log.flush()
        (tmp_path / "log").unlink()
        log.flush()
        assert requests(tmp_path / "log") == ["a"]
    finally:
        writer.stop()


def test_a_process_that_cannot_start_is_told(tmp_path: Path) -> None:
    writer = LogProcess("gs://nowhere")
    log = PredictionLog(writer)
    writer.start()
    log.add(predicted("a"))
    with pytest.raises(StoreUnavailable, match="again and again"):
        log.flush()
    writer.stop()
