"""Parts of a night: made once, named after what they are made of, whole or not there; the night's tables from them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from digit_files import parquet, png, strokes
from night_work import claimed, stored_model
from pipelines import flip_a_bit

from mnist_pipeline.inbox import shards
from mnist_pipeline.inbox.engines import Engine, LocalEngine
from mnist_pipeline.inbox.night import predict
from mnist_pipeline.inbox.parts import Worker
from mnist_pipeline.inbox.reach import check_reach, probed
from mnist_pipeline.inbox.scoring import schema_of
from mnist_pipeline.inbox.shards import Fetched, Shard
from mnist_pipeline.inbox.tables import Tally
from mnist_pipeline.inbox.work import Done, EngineFailed, StoredModel, Unreachable, Work, made_with
from mnist_pipeline.storage.locations import shelf_at
from mnist_pipeline.storage.s3_requests import Place

NIGHT = "2026-01-05"
NAMES = [str(digit) for digit in range(10)]


@dataclass
class Stopping:
    """An engine of this process that dies after so many shards, and remembers what it was given."""

    after: int = 1_000
    seen: list[Done] = field(default_factory=list)

    def run(self, work: Work, planned: Iterable[tuple[int, Shard]], fetched: Fetched) -> Iterator[Done]:
        for done in LocalEngine().run(work, planned, fetched):
            self.seen.append(done)
            yield done
            if len(self.seen) == self.after:
                raise KeyboardInterrupt


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return stored_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def work(tmp_path: Path, model: StoredModel, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A night of five shards: two of pictures, three of an array."""
    monkeypatch.setattr(shards, "FILES_A_SHARD", 2)
    monkeypatch.setattr(shards, "ROWS_A_SHARD", 4)
    claimed(tmp_path / "inbox", NIGHT, {f"{i}.png": png(image) for i, image in enumerate(strokes(3))})
    claimed(tmp_path / "inbox", NIGHT, {"2b.png": b"no image", "many.npy": strokes(11)})
    return Work(NIGHT, str(tmp_path / "inbox"), str(tmp_path / "out"), "", model, made_with())


def files_of(work: Work) -> list[str]:
    return sorted(path.name for path in (Path(work.inbox) / ".claimed" / NIGHT).iterdir())


def done(work: Work, engine: Engine | None = None) -> Tally:
    return predict(work, files_of(work), schema_of(NAMES), engine or LocalEngine())


def parts(work: Work) -> list[Path]:
    return sorted((Path(work.predictions) / "parts").glob("*.parquet"))


def stopped(work: Work, after: int) -> list[Path]:
    with pytest.raises(KeyboardInterrupt):
        done(work, Stopping(after))
    return parts(work)


def test_a_night_ends_as_its_tables_and_a_manifest_and_without_parts(work: Work) -> None:
    tally, out = done(work), Path(work.predictions)
    left = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert left == [f"{NIGHT}.parquet", f"manifests/{NIGHT}.json", f"quarantine/{NIGHT}.parquet"]
    data = (out / f"manifests/{NIGHT}.json").read_bytes()
    manifest = json.loads(data)
    assert tally.manifest == hashlib.sha256(data).hexdigest()
    assert manifest["predictions"] == {"sha256": tally.sha256, "rows": 14}
    assert manifest["quarantine"]["rows"] == 1
    assert [part["rows"] for part in manifest["parts"]] == [2, 1, 4, 4, 3]
    assert (manifest["model_version"], manifest["decision"]) == (work.model.version, 1)
    assert (tally.shards, tally.found) == (5, 0)


def test_what_was_scored_before_a_run_died_is_not_scored_again_and_the_bytes_are_the_same(
    work: Work, tmp_path: Path
) -> None:
    whole = done(replace(work, predictions=str(tmp_path / "whole")))
    kept = {path: path.stat().st_mtime_ns for path in stopped(work, 3)}
    assert len(kept) == 3
    engine = Stopping()
    tally = done(work, engine)
    assert [each.new for each in engine.seen] == [False, False, False, True, True]
    assert (tally.manifest, tally.sha256, tally.found) == (whole.manifest, whole.sha256, 3)
    assert not parts(work)


def test_another_file_another_model_another_setting_or_other_code_is_another_part(work: Work, tmp_path: Path) -> None:
    stopped(work, 2)
    for other in (
        replace(work, model=stored_model(tmp_path / "other", width_1=3, width_2=2, width_3=2)),
        replace(work, model=replace(work.model, abstain=True)),  # type: ignore[type-var]
    ):
        assert done(replace(other, predictions=work.predictions)).found == 0
        stopped(work, 2)
    (Path(work.inbox) / ".claimed" / NIGHT / "0.png").write_bytes(png(strokes(9)[8]))
    assert done(work).found == 1


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
@pytest.mark.parametrize("harm", ["flipped", "gone", "cut"])
def test_a_part_that_is_damaged_is_made_again(work: Work, tmp_path: Path, suffix: str, harm: str) -> None:
    whole = done(replace(work, predictions=str(tmp_path / "whole")))
    path = stopped(work, 3)[0].with_suffix(suffix)
    if harm == "flipped":
        flip_a_bit(path)
    elif harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:50])
    tally = done(work)
    assert (tally.found, tally.manifest) == (2, whole.manifest)


@dataclass
class Sweeping:
    """An engine beside which another run of the same night ends first, and sweeps: the first time, or each time."""

    always: bool = False
    runs: int = 0

    def run(self, work: Work, planned: Iterable[tuple[int, Shard]], fetched: Fetched) -> Iterator[Done]:
        yield from LocalEngine().run(work, planned, fetched)
        self.runs += 1
        if self.always or self.runs == 1:
            for path in parts(work)[:2]:
                path.unlink()


def test_a_part_that_another_run_has_swept_meanwhile_is_made_again(work: Work, tmp_path: Path) -> None:
    whole = done(replace(work, predictions=str(tmp_path / "whole")))
    engine = Sweeping()
    assert done(work, engine).manifest == whole.manifest
    assert engine.runs == 2


def test_parts_that_vanish_again_and_again_are_an_error(work: Work) -> None:
    with pytest.raises(EngineFailed, match="vanish"):
        done(work, Sweeping(always=True))


@dataclass
class Writing:
    """An engine beside which somebody writes to a file that was planned whole, when one part of it is made."""

    write: Callable[[Path], None]
    name: str = "many.npy"

    def run(self, work: Work, planned: Iterable[tuple[int, Shard]], fetched: Fetched) -> Iterator[Done]:
        def written() -> Iterator[tuple[int, Shard]]:
            for index, shard in planned:
                if shard.files == (self.name,) and shard.begin == 4:
                    self.write(Path(work.inbox) / ".claimed" / NIGHT / self.name)
                yield index, shard

        yield from LocalEngine().run(work, written(), fetched)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def replace_rows(path: Path) -> None:
    """By as many others in the same number of bytes, in the file itself; its date stays, but for an instant."""
    status = path.stat()
    path.write_bytes(path.read_bytes()[:128] + strokes(11, seed=7).tobytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def replace_file(path: Path) -> None:
    """By another one under its name."""
    np.save(path.with_name("other.npy"), strokes(11, seed=7))
    path.with_name("other.npy").replace(path)


@pytest.mark.parametrize("write", [cut, replace_rows, replace_file])
def test_a_file_that_is_written_meanwhile_is_quarantined_by_name_once_and_the_rest_goes_on(
    work: Work, write: Callable[[Path], None]
) -> None:
    tally = done(work, Writing(write))
    out = Path(work.predictions)
    answered = pq.read_table(out / f"{NIGHT}.parquet")["file"].to_pylist()
    refused = pq.read_table(out / "quarantine" / f"{NIGHT}.parquet").to_pylist()
    assert answered == ["0.png", "1.png", "2.png"]
    assert [row["file"] for row in refused] == ["2b.png", "many.npy"]
    assert "it was written anew while its night was scored" in refused[1]["reason"]
    assert (tally.predictions, tally.quarantined) == (3, 2)


def test_a_table_of_images_that_is_replaced_meanwhile_is_quarantined_too(work: Work) -> None:
    claimed(Path(work.inbox), NIGHT, {"table.parquet": parquet(image=pa.array([png(each) for each in strokes(11)]))})

    def replace_table(path: Path) -> None:
        path.with_name("new").write_bytes(parquet(image=pa.array([png(each) for each in strokes(11, seed=7)])))
        path.with_name("new").replace(path)

    tally = done(work, Writing(replace_table, "table.parquet"))
    assert (tally.predictions, tally.quarantined) == (14, 2)
    assert "it was written anew" in tally.reasons["table.parquet"]


def test_a_file_that_is_only_touched_or_copied_is_the_same(work: Work, tmp_path: Path) -> None:
    whole = done(replace(work, predictions=str(tmp_path / "whole")))

    def copy(path: Path) -> None:
        path.with_name("copy").write_bytes(path.read_bytes())
        path.with_name("copy").replace(path)

    assert done(work, Writing(copy)).manifest == whole.manifest


def test_a_night_that_is_interrupted_leaves_its_tables_as_they_were(work: Work) -> None:
    done(work)
    out = Path(work.predictions)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    stopped(work, 3)
    assert {path: path.read_bytes() for path in out.rglob("*") if path in before} == before


def test_the_quarantine_of_a_night_may_be_all_of_it(work: Work) -> None:
    for name in files_of(work):
        (Path(work.inbox) / ".claimed" / NIGHT / name).write_bytes(b"?")
    tally = done(work)
    assert (tally.predictions, tally.quarantined, tally.mean_confidence) == (0, 5, None)
    assert pq.read_table(Path(work.predictions) / f"{NIGHT}.parquet").num_rows == 0


# --- who scores ---


def test_a_worker_loads_the_model_of_the_decision_and_no_other(work: Work, tmp_path: Path) -> None:
    assert isinstance(work.model, StoredModel)
    scorer = work.model.load(threads=1)
    assert (scorer.version, scorer.decision, scorer.digest) == (work.model.version, 1, work.model.card)
    other = stored_model(tmp_path / "other", width_1=3, width_2=2, width_3=2)
    with pytest.raises(EngineFailed, match="it is another model store"):
        replace(work.model, location=other.location).load()


def test_a_worker_with_other_code_scores_nothing(work: Work) -> None:
    with pytest.raises(EngineFailed, match=r"other code or other libraries .* start the nodes .* anew"):
        Worker.open(replace(work, made_with="0" * 12))


def test_a_machine_that_sees_other_folders_says_so(work: Work) -> None:
    with probed(work) as told:
        check_reach(told)
        laid = next((Path(work.inbox) / ".claimed" / NIGHT).glob(".probe-*"))
        laid.unlink()
        with pytest.raises(Unreachable, match=f"does not see the inbox {work.inbox}"):
            check_reach(told)
        laid.touch()
        next((Path(work.predictions) / "parts").glob("*probe*")).unlink()
        with pytest.raises(Unreachable, match=f"does not see the predictions {work.predictions}"):
            check_reach(told)
    assert not list(Path(work.inbox).rglob("*probe*"))


def test_tables_of_many_rows_are_a_row_group_a_shard(work: Work) -> None:
    done(work)
    assert pq.ParquetFile(Path(work.predictions) / f"{NIGHT}.parquet").num_row_groups == 5


# --- in a bucket ---


def test_a_night_in_a_bucket_gives_the_same_rows_from_parts_in_the_bucket(
    work: Work, place: Place, tmp_path: Path
) -> None:
    whole = done(replace(work, predictions=str(tmp_path / "whole")))
    files = files_of(work)
    for name in files:
        place.put(f"inbox/.claimed/{NIGHT}/{name}", Path(work.inbox) / ".claimed" / NIGHT / name)
    root = f"s3://{place.bucket}/{place.prefix}"
    there = replace(work, inbox=f"{root}/inbox", predictions=f"{root}/predictions", endpoint=place.endpoint)
    with pytest.raises(KeyboardInterrupt):
        predict(there, files, schema_of(NAMES), Stopping(3))
    shelf = shelf_at(there.predictions, place.endpoint)
    assert len(shelf.list(there.parts)) == 2 * 3
    tally = predict(there, files, schema_of(NAMES), LocalEngine())
    assert (tally.manifest, tally.found) == (whole.manifest, 3)
    assert shelf.list("parts/") == []
