"""What may pass by itself is tried again, three times at most; everything else fails at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import dagster as dg
import pytest

from mnist_pipeline import retries
from mnist_pipeline.acquire import SourceUnavailable, SourceUnreachable
from mnist_pipeline.files import AssetFiles
from mnist_pipeline.retries import RETRIES, retrying, wait_s
from mnist_pipeline.storage.blobs import StoreUnavailable, StoreUnreachable
from mnist_pipeline.storage.shelves import DiskShelf

PASSES = (StoreUnreachable("away"), SourceUnreachable("away"), ConnectionResetError("reset"), TimeoutError("late"))
STAYS = (ValueError("a bug"), StoreUnavailable("disk full"), SourceUnavailable("md5"), KeyError("a bug"))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)


def attempts(error: Exception, failing: int) -> tuple[int, bool]:
    """How often an asset was tried that fails so many times, and whether it was made in the end."""
    tried = []

    @dg.asset
    @retrying
    def stubborn() -> dg.MaterializeResult:
        """The decorator keeps name and signature."""
        tried.append(1)
        if len(tried) <= failing:
            raise error
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        success = dg.materialize([stubborn], instance=instance, raise_on_error=False).success
    return len(tried), success


@pytest.mark.parametrize("error", PASSES, ids=lambda error: type(error).__name__)
def test_what_passes_by_itself_is_tried_again(error: Exception) -> None:
    assert attempts(error, failing=2) == (3, True)


def test_it_is_given_up_after_three_retries() -> None:
    assert attempts(StoreUnreachable("away"), failing=10) == (1 + RETRIES, False)


@pytest.mark.parametrize("error", STAYS, ids=lambda error: type(error).__name__)
def test_what_does_not_pass_fails_at_once(error: Exception) -> None:
    assert attempts(error, failing=10) == (1, False)


def test_checks_are_tried_again_too() -> None:
    tried = []

    @dg.asset
    def thing() -> None: ...

    @dg.multi_asset_check(specs=[dg.AssetCheckSpec("whole", asset=thing)])
    @retrying
    def checks() -> Iterator[dg.AssetCheckResult]:
        tried.append(1)
        if len(tried) < 3:
            raise StoreUnreachable("away")
        yield dg.AssetCheckResult(passed=True, check_name="whole", asset_key="thing")

    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.Definitions([thing], asset_checks=[checks]).resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(instance=instance).success
    assert len(tried) == 3


class FlakyShelf(DiskShelf):
    """Cannot be reached the first two times, in each direction."""

    faults: ClassVar[list[str]] = []

    def put(self, name: str, data: bytes) -> None:
        self.fail_twice(name)
        super().put(name, data)

    def local(self, name: str) -> AbstractContextManager[Path]:
        if name == "number.json":
            self.fail_twice(name)
        return super().local(name)

    def fail_twice(self, name: str) -> None:
        self.faults.append(name)
        if len(self.faults) % 3:
            raise StoreUnreachable("away")


def test_values_that_cannot_be_read_or_written_now_are_tried_again(tmp_path: Path) -> None:
    @dg.asset
    def number() -> int:
        return 7

    @dg.asset
    def seen(number: int) -> dg.MaterializeResult[None]:
        assert number == 7
        return dg.MaterializeResult()

    FlakyShelf.faults.clear()
    files = AssetFiles(FlakyShelf(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([number, seen], instance=instance, resources={"io_manager": files}).success
    assert FlakyShelf.faults == ["number.json"] * 6


def test_the_wait_doubles_and_differs_from_step_to_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 10.0)
    for attempt, seconds in ((1, 10), (2, 20), (3, 40)):
        waits = {wait_s(attempt) for _ in range(50)}
        assert len(waits) > 1
        assert all(0.75 * seconds <= wait <= 1.25 * seconds for wait in waits)
