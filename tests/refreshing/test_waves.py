"""A refresh runs exactly what is out of date, whatever the assets are, and says what it kept and why."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.assets.causes import Target, brought_by_people, follows_only, read_from
from mnist_pipeline.changes import Snapshot
from mnist_pipeline.console import brief_logger
from mnist_pipeline.files import ALL_THERE_ARE
from mnist_pipeline.refreshing.reports import Report
from mnist_pipeline.refreshing.standings import Standing
from mnist_pipeline.refreshing.waves import QUEUED_LOOKS, REFRESH, refresh

SETS = dg.DynamicPartitionsDefinition(name="sets")
RAW, PREPARED, TREE, FOREST = "toy/raw", "toy/prepared", "toy/tree", "toy/forest"
COMPARED, DECISION, ANSWER = "toy/compared", "decision", "answer"
ROWS, SUM, ALL_SETS = "sales/rows", "sales/sum", "sales/all_sets"
INPUTS: dict[str, list[str]] = {
    RAW: [],
    PREPARED: [RAW],
    TREE: [PREPARED],
    FOREST: [PREPARED],
    COMPARED: [TREE, FOREST],
    DECISION: [COMPARED, PREPARED],
    ANSWER: [DECISION],
    ROWS: [],
    SUM: [ROWS],
    ALL_SETS: [SUM],
}
TOY = [RAW, PREPARED, FOREST, TREE, COMPARED, DECISION]
DECLARED: dict[str, dict[str, Any]] = {
    RAW: read_from("files"),
    ROWS: read_from("files"),
    DECISION: follows_only(COMPARED),
    ANSWER: follows_only(),
}


class Needed(dg.Config):
    """Configuration without a default."""

    path: str


class Files(dg.ConfigurableResource):
    """A file for each partition, or the one named "whole"."""

    folder: str

    def snapshot(self, partition: str | None = None) -> Snapshot:
        return Snapshot.of(Path(self.folder) / (partition or "whole"))


class World:
    """Assets that only note from what they were made, by name; tests turn what is in the dictionaries."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        self.code = dict.fromkeys(INPUTS, "1")
        self.result: dict[str, str] = {}  # what comes out, where it is not what went in
        self.failing: set[str] = set()
        self.refused: set[str] = set()  # by a blocking check
        self.all_there_are = False  # whether ALL_SETS takes those sets that there are
        self.made: list[str] = []
        self.said: list[str] = []

    def write(self, text: str, partition: str = "whole") -> None:
        place = self.folder / partition
        place.mkdir(parents=True, exist_ok=True)
        (place / "data.csv").write_text(text)

    def add(self, partition: str, text: str) -> None:
        self.write(text, partition)
        self.instance.add_dynamic_partitions("sets", [partition])

    def definitions(self) -> dg.Definitions:
        alone = [self._asset(name) for name in INPUTS if name not in (TREE, FOREST)]
        checks = [self._check(name) for name in (RAW, PREPARED, ROWS, SUM)]
        return dg.Definitions(
            [*alone, self._models()],
            asset_checks=checks,
            resources={"files": Files(folder=str(self.folder))},
            loggers={"brief": brief_logger},
        )

    def refresh(self, pause: Callable[[], None] = pytest.fail) -> Report:
        """Of definitions as they are now, as a new process would see them. pause: what happens while it waits."""
        self.made.clear()
        self.said.clear()
        return refresh(self.definitions().get_repository_def(), self.instance, "abcd", self.said.append, pause)

    def run(self, *names: str) -> None:
        """By hand."""
        job = self.definitions().resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=self.instance, asset_selection=[key(name) for name in names])

    def _asset(self, name: str) -> dg.AssetsDefinition:
        partitioned = name in (ROWS, SUM)
        how = {ALL_THERE_ARE: True} if name == ALL_SETS and self.all_there_are else {}

        @dg.asset(
            key=key(name),
            ins={each.replace("/", "_"): after(key(each), how) for each in INPUTS[name]},
            code_version=self.code[name],
            metadata=DECLARED.get(name, {}),
            partitions_def=SETS if partitioned else None,
        )
        def make(context: dg.AssetExecutionContext, files: Files) -> dg.MaterializeResult:
            partition = context.partition_key if partitioned else None
            return self._result(name, partition, files.snapshot(partition).tags() if name in (RAW, ROWS) else {})

        return make

    def _models(self) -> dg.AssetsDefinition:
        """Two assets of one step, either of which can be made alone."""
        specs = [
            dg.AssetSpec(key(name), deps=[key(PREPARED)], code_version=self.code[name], skippable=True)
            for name in (TREE, FOREST)
        ]

        @dg.multi_asset(specs=specs, can_subset=True, name="models")
        def train(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
            for each in sorted(context.selected_asset_keys):
                yield self._result(each.to_user_string(), None, {})

        return train

    def _result(self, name: str, partition: str | None, tags: dict[str, str]) -> dg.MaterializeResult:
        if {name, str(Target(key(name), partition))} & self.failing:
            raise RuntimeError(f"no disk for {name}")
        self.made.append(str(Target(key(name), partition)))
        content = tags.get("mnist_pipeline/source_content") or "-".join(
            [str(self.code[name]), *(self._version(each, partition) for each in INPUTS[name])]
        )
        version = dg.DataVersion(self.result.get(name, hashlib.md5(content.encode()).hexdigest()))
        return dg.MaterializeResult(asset_key=key(name), data_version=version, tags=tags)

    def _version(self, name: str, partition: str | None) -> str:
        wanted = dg.AssetRecordsFilter(key(name), asset_partitions=[partition] if partition else None)
        newest = self.instance.fetch_materializations(wanted, limit=1).records[0]
        assert newest.asset_materialization
        return str((newest.asset_materialization.tags or {})["dagster/data_version"])

    def _check(self, name: str) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=key(name), name="is_good", blocking=True)
        def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=name not in self.refused)

        return check


def after(each: dg.AssetKey, how: dict[str, Any]) -> dg.AssetIn:
    """An input of which no value is read."""
    return dg.AssetIn(each, metadata=how, dagster_type=dg.Nothing)


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey.from_user_string(name)


def why(report: Report, name: str, partition: str | None = None) -> str:
    """Why a target was kept."""
    (standing,) = (each for each in report.standings if each.target == Target(key(name), partition))
    return standing.why_kept


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(tmp_path / "files", instance)
        world.write("1")
        yield world


@pytest.fixture
def world(empty: World) -> World:
    """All made, with no partitions yet."""
    assert empty.refresh().well
    return empty


def test_the_first_time_everything_is_made_but_answers(empty: World) -> None:
    report = empty.refresh()
    assert report.well
    assert sorted(empty.made) == sorted(TOY)
    assert empty.made.index(RAW) < empty.made.index(PREPARED) < empty.made.index(TREE) < empty.made.index(COMPARED)
    assert why(report, ALL_SETS) == "sales/sum has no partition yet"
    assert all("never made" in line for line in empty.said if RAW in line)
    assert [each.to_user_string() for each in report.on_request] == [ANSWER]


def test_where_nothing_has_changed_nothing_runs(world: World) -> None:
    before = len(world.instance.get_runs())
    report = world.refresh()
    assert (report.well, world.made, world.said) == (True, [], [])
    assert len(world.instance.get_runs()) == before
    assert {each.why_kept for each in report.standings if each.target.key != key(ALL_SETS)} == {"up to date"}


def test_new_code_of_one_of_two_models_runs_this_model_and_what_follows(world: World) -> None:
    world.code[TREE] = "2"
    assert world.refresh().well
    assert world.made == [TREE, COMPARED, DECISION]
    assert "its code has changed" in world.said[0]
    assert re.search(r"toy/tree is [0-9a-f]{8}, was [0-9a-f]{8}$", world.said[1])
    assert world.refresh().done == []


def test_a_wave_ends_where_the_same_came_out(world: World) -> None:
    world.code[PREPARED] = "2"
    world.result[PREPARED] = world._version(PREPARED, None)
    report = world.refresh()
    assert (report.well, world.made) == (True, [PREPARED])
    assert why(report, TREE) == "up to date"


def test_new_data_goes_through(world: World) -> None:
    world.write("2")
    assert world.refresh().well
    assert world.made == TOY
    assert "its source has changed" in world.said[0]


def test_files_that_were_only_touched_are_no_change(world: World) -> None:
    world.write("1")
    assert (world.refresh().well, world.made) == (True, [])


def test_a_source_that_cannot_be_read_holds_up_what_follows_and_nothing_else(world: World) -> None:
    (world.folder / "whole" / "data.csv").unlink()
    (world.folder / "whole").rmdir()
    world.code[TREE] = "2"
    world.add("2016", "a")
    report = world.refresh()
    assert (report.well, world.made) == (False, [f"{ROWS} [2016]", f"{SUM} [2016]", ALL_SETS])
    assert "its source cannot be read" in why(report, RAW)
    assert "toy/raw before it is out of date" in why(report, TREE)


def test_what_was_made_by_hand_is_gone_on_from(world: World) -> None:
    world.write("2")
    world.run(RAW)
    assert world.refresh().well
    assert world.made == TOY[1:]


def test_a_code_version_that_nobody_gave_is_no_cause(empty: World) -> None:
    empty.code[COMPARED] = None  # type: ignore[assignment]
    empty.result[COMPARED] = "same"
    assert empty.refresh().well
    assert empty.refresh().done == []


def test_a_decision_follows_its_evidence_only(world: World) -> None:
    world.code[DECISION] = "2"
    world.result[DECISION] = "the one before"
    assert (world.refresh().well, world.made) == (True, [])
    world.run(DECISION)  # a rollback
    assert (world.refresh().well, world.made) == (True, [])
    world.code[COMPARED] = "2"
    assert (world.refresh().well, world.made) == (True, [COMPARED, DECISION])


def test_answers_are_never_given_again(world: World) -> None:
    world.run(ANSWER)
    world.code[ANSWER], world.code[COMPARED] = "2", "2"
    report = world.refresh()
    assert ANSWER not in world.made
    assert "made on request only: answer" in "\n".join(report.lines())


def test_what_fails_is_told_and_what_follows_waits_while_the_rest_goes_on(world: World) -> None:
    world.write("2")
    world.add("2016", "a")
    world.failing = {TREE}
    report = world.refresh()
    assert not report.well
    assert sorted(world.made) == sorted([RAW, PREPARED, FOREST, f"{ROWS} [2016]", f"{SUM} [2016]", ALL_SETS])
    (failed,) = (each for each in report.done if each.fault)
    assert (str(failed.target), failed.fault) == (TREE, "RuntimeError: no disk for toy/tree")
    assert "before it is out of date" in why(report, COMPARED)
    world.failing = set()
    assert world.refresh().well
    assert world.made == [TREE, COMPARED, DECISION]


@pytest.mark.parametrize("refused", [RAW, PREPARED])
def test_a_failed_blocking_check_keeps_what_is_behind_it(world: World, refused: str) -> None:
    world.write("2")
    world.refused = {refused}
    report = world.refresh()
    assert not report.well
    assert world.made == TOY[: TOY.index(refused) + 1]
    behind = TOY[TOY.index(refused) + 1]
    assert f"check is_good of {refused} failed" in why(report, behind)
    assert f"{behind} before it is out of date" in why(report, COMPARED) or refused == PREPARED
    again = world.refresh()  # the verdict stands, and nothing is run into it
    assert (again.well, world.made) == (False, [])
    world.refused = set()
    world.run(refused)
    assert world.refresh().well
    assert world.made == TOY[TOY.index(refused) + 1 :]


def test_what_is_still_out_of_date_after_it_ran_is_not_run_again(world: World) -> None:
    """Two inputs that disagree: a source that changes whenever somebody looks."""
    world.write("2")
    world.result[RAW] = "x"
    original = world._result

    def restless(name: str, partition: str | None, tags: dict[str, str]) -> dg.MaterializeResult:
        if name == RAW:
            world.write("while it was read")
        return original(name, partition, tags)

    world._result = restless  # type: ignore[method-assign]
    report = world.refresh()
    assert world.made == TOY
    assert not report.well
    assert "STILL" in (text := "\n".join(report.lines()))
    assert "out of date after it ran: its source has changed" in text


def begin(world: World, name: str, status: dg.DagsterRunStatus, partition: str | None = None) -> dg.DagsterRun:
    """A run of another process that is to make this."""
    job = world.definitions().resolve_implicit_global_asset_job_def()
    part = job.get_subset(asset_selection={key(name)})
    tags = {"dagster/partition": partition} if partition else {}
    return world.instance.create_run_for_job(part, asset_selection=frozenset([key(name)]), status=status, tags=tags)


def test_what_another_run_is_making_is_waited_for(world: World) -> None:
    world.code[COMPARED] = "2"
    run = begin(world, COMPARED, dg.DagsterRunStatus.STARTED)

    def it_ends() -> None:
        world.run(COMPARED)
        world.instance.report_run_canceled(run)

    report = world.refresh(it_ends)
    assert (report.well, [str(each.target) for each in report.done]) == (True, [DECISION])
    assert f"run {run.run_id[:8]} is to make it" in world.said[0]


def test_each_of_several_runs_of_partitions_is_waited_for(world: World) -> None:
    for partition in ("2016", "2017"):
        world.add(partition, "a")
    runs = [begin(world, ROWS, dg.DagsterRunStatus.STARTED, partition) for partition in ("2016", "2017")]

    def one_ends() -> None:
        assert not [each for each in world.made if each.startswith(ROWS)]
        for run in runs:
            world.instance.report_run_canceled(run)

    assert world.refresh(one_ends).well
    assert sum("is to make it" in line for line in world.said) == 2


def test_what_another_run_could_not_make_is_made_here(world: World) -> None:
    world.code[COMPARED] = "2"
    run = begin(world, COMPARED, dg.DagsterRunStatus.STARTED)
    report = world.refresh(lambda: world.instance.report_run_failed(run))
    assert (report.well, world.made) == (True, [COMPARED, DECISION])


def test_a_run_that_never_begins_is_waited_for_a_while_and_then_not(world: World) -> None:
    world.code[COMPARED] = "2"
    begin(world, COMPARED, dg.DagsterRunStatus.NOT_STARTED)
    pauses: list[None] = []
    report = world.refresh(lambda: pauses.append(None))
    assert (report.well, world.made, len(world.said)) == (True, [COMPARED, DECISION], 3)
    assert len(pauses) == QUEUED_LOOKS + 1


# --- partitions ---


@pytest.fixture
def sets(world: World) -> World:
    world.add("2016", "a")
    world.add("2017", "b")
    assert world.refresh().well
    return world


def test_every_partition_that_exists_is_made_in_a_run_of_its_own(world: World) -> None:
    world.add("2016", "a")
    world.add("2017", "b")
    report = world.refresh()
    assert report.well
    assert world.made == [f"{ROWS} [2016]", f"{ROWS} [2017]", f"{SUM} [2016]", f"{SUM} [2017]", ALL_SETS]
    assert len(report.runs) == 5
    assert world.refresh().done == []


def test_only_the_partition_whose_file_has_changed_is_made_again(sets: World) -> None:
    sets.write("c", "2017")
    assert sets.refresh().well
    assert sets.made == [f"{ROWS} [2017]", f"{SUM} [2017]", ALL_SETS]


def test_a_new_partition_leaves_the_others_alone(sets: World) -> None:
    sets.add("2018", "c")
    assert sets.refresh().well
    assert sets.made == [f"{ROWS} [2018]", f"{SUM} [2018]", ALL_SETS]


def test_new_code_makes_all_partitions_again_and_an_equal_result_ends_it(sets: World) -> None:
    sets.code[SUM] = "2"
    sets.result[SUM] = "equal"
    assert sets.refresh().well
    assert sets.made == [f"{SUM} [2016]", f"{SUM} [2017]", ALL_SETS]
    sets.code[SUM] = "3"
    assert sets.refresh().well
    assert sets.made == [f"{SUM} [2016]", f"{SUM} [2017]"]


def test_a_check_that_failed_on_one_partition_keeps_back_this_one_only(sets: World) -> None:
    sets.refused = {ROWS}
    sets.write("c", "2016")
    sets.refresh()
    sets.refused = set()
    sets.write("d", "2017")
    report = sets.refresh()
    assert sets.made == [f"{ROWS} [2017]", f"{SUM} [2017]"]
    assert f"check is_good of {ROWS} [2016] failed" in why(report, SUM, "2016")
    assert f"{SUM} [2016] before it is out of date" in why(report, ALL_SETS)


@pytest.fixture
def taken(sets: World) -> World:
    """All sets made, and what reads them takes those that there are."""
    sets.all_there_are = True
    assert sets.refresh().done == []
    return sets


def test_a_partition_that_was_never_made_holds_back_no_other(taken: World) -> None:
    taken.add("2018", "c")
    taken.add("2019", "d")
    taken.failing = {f"{ROWS} [2018]"}
    report = taken.refresh()
    assert (report.well, taken.made) == (False, [f"{ROWS} [2019]", f"{SUM} [2019]", ALL_SETS])
    assert why(report, SUM, "2018") == f"out of date (never made), but {ROWS} [2018] before it is out of date"
    assert (taken.refresh().well, taken.made) == (False, [])
    taken.failing = set()
    assert taken.refresh().well
    assert taken.made == [f"{ROWS} [2018]", f"{SUM} [2018]", ALL_SETS]


def test_a_partition_that_cannot_be_made_again_is_taken_as_it_was(taken: World) -> None:
    for year in ("2016", "2017"):
        taken.write("other", year)
    taken.failing = {f"{SUM} [2016]"}
    report = taken.refresh()
    assert (report.well, taken.made[-2:]) == (False, [f"{SUM} [2017]", ALL_SETS])
    assert why(report, ALL_SETS) == "up to date"


def test_what_reads_all_there_are_waits_for_those_that_can_be_made(taken: World) -> None:
    taken.code[ROWS] = taken.code[SUM] = "2"
    assert taken.refresh().well
    assert taken.made == [f"{ROWS} [2016]", f"{ROWS} [2017]", f"{SUM} [2016]", f"{SUM} [2017]", ALL_SETS]


def test_a_check_that_failed_on_one_partition_holds_back_no_other(taken: World) -> None:
    taken.refused = {SUM}
    taken.code[SUM] = "2"
    taken.refresh()
    assert ALL_SETS not in taken.made  # nothing is good
    taken.refused = set()
    taken.write("c", "2016")
    assert taken.refresh().well
    assert taken.made == [f"{ROWS} [2016]", f"{SUM} [2016]", ALL_SETS]


def test_where_no_partition_could_be_made_there_is_nothing_to_read(world: World) -> None:
    world.all_there_are = True
    world.add("2016", "a")
    world.failing = {SUM}
    report = world.refresh()
    assert why(report, ALL_SETS) == f"no partition of {SUM} was made yet"
    assert world.made == [f"{ROWS} [2016]"]


def test_partitions_that_stand_alike_share_a_line(sets: World) -> None:
    for year in range(2018, 2022):
        sets.add(str(year), "x")
    sets.refresh()
    (line,) = (line for line in sets.refresh().lines() if ROWS in line)
    assert f"{ROWS} [2016, 2017, 2018 … 3 more]" in line


# --- what is left behind ---


def test_the_seconds_of_a_step_are_counted_once(empty: World) -> None:
    by_name = {str(each.target): each.seconds for each in empty.refresh().done}
    assert by_name[FOREST] > 0
    assert by_name[TREE] == 0


def test_of_many_causes_two_are_named() -> None:
    standing = Standing(Target(key("a")), ("one", "two", "three", "four"), "there is no disk")
    assert standing.why_kept == "out of date (one; two; and 2 more), but there is no disk"


def test_all_runs_of_a_refresh_are_found_by_its_tag(world: World) -> None:
    world.write("2")
    report = world.refresh()
    tagged = [run.run_id for run in world.instance.get_runs(dg.RunsFilter(tags={REFRESH: "abcd"}))]
    assert set(report.runs) <= set(tagged)


def test_the_sum_says_how_much_ran_and_how_it_ended(world: World) -> None:
    world.code[COMPARED] = "2"
    assert list(world.refresh().lines())[-1].strip() == "2 ran, 5 kept: everything is up to date"
    world.code[COMPARED] = "3"
    world.failing = {COMPARED}
    assert list(world.refresh().lines())[-1].strip() == "0 ran, 1 failed, 6 kept: not everything is up to date"


# --- other shapes ---


def made_by(instance: dg.DagsterInstance, assets: Sequence[Any], checks: Sequence[Any] = (), **more: Any) -> list[str]:
    """What a refresh of these definitions runs."""
    repository = dg.Definitions(
        assets, asset_checks=checks, loggers={"brief": brief_logger}, **more
    ).get_repository_def()
    return [str(each.target) for each in refresh(repository, instance, "x", lambda line: None).done]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_what_cannot_be_made_alone_is_made_together(instance: dg.DagsterInstance) -> None:
    def assets(code: str) -> list[dg.AssetsDefinition]:
        @dg.multi_asset(
            specs=[dg.AssetSpec("one", code_version=code), dg.AssetSpec("two", code_version="1", deps=["one"])]
        )
        def both() -> Iterator[dg.MaterializeResult]:
            yield dg.MaterializeResult("one", data_version=dg.DataVersion(code))
            yield dg.MaterializeResult("two", data_version=dg.DataVersion("same"))

        return [both]

    assert sorted(made_by(instance, assets("1"))) == ["one", "two"]
    assert made_by(instance, assets("1")) == []
    assert sorted(made_by(instance, assets("2"))) == ["one", "two"]
    assert made_by(instance, assets("2")) == []


def test_partitions_of_two_kinds_that_bear_the_same_name_are_two_runs(instance: dg.DagsterInstance) -> None:
    def asset(name: str) -> dg.AssetsDefinition:
        @dg.asset(name=name, partitions_def=dg.DynamicPartitionsDefinition(name=f"sets of {name}"))
        def make() -> None: ...

        instance.add_dynamic_partitions(f"sets of {name}", ["2016"])
        return make

    assert made_by(instance, [asset("one"), asset("two")]) == ["one [2016]", "two [2016]"]
    assert len(instance.get_runs()) == 2


def test_an_input_from_outside_that_was_observed_is_followed(instance: dg.DagsterInstance) -> None:
    outside = dg.AssetSpec("outside")

    @dg.asset(deps=[outside], code_version="1")
    def inside() -> None: ...

    def observe(version: str) -> None:
        tags = {"dagster/data_version": version}
        instance.report_runless_asset_event(dg.AssetObservation("outside", tags=tags))

    assert made_by(instance, [outside, inside]) == ["inside"]
    assert made_by(instance, [outside, inside]) == []
    observe("1")
    assert made_by(instance, [outside, inside]) == ["inside"]
    assert made_by(instance, [outside, inside]) == []
    observe("1")
    assert made_by(instance, [outside, inside]) == []


def test_what_needs_an_answer_that_nobody_asked_for_waits_for_it(instance: dg.DagsterInstance) -> None:
    @dg.asset(metadata=follows_only())
    def answer() -> None: ...

    @dg.asset(deps=[answer])
    def digest() -> None: ...

    repository = dg.Definitions([answer, digest]).get_repository_def()
    report = refresh(repository, instance, "x", lambda line: None)
    assert (report.well, report.done) == (False, [])
    assert "answer before it was never made: it is made on request only" in why(report, "digest")


def test_an_asset_that_cannot_begin_for_want_of_configuration_says_so(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def choosy(config: Needed) -> None: ...

    report = refresh(dg.Definitions([choosy]).get_repository_def(), instance, "x", lambda line: None)
    assert not report.well
    assert 'Missing required config entry "ops"' in report.done[0].fault


def test_days_that_were_never_made_are_a_backfills_matter(instance: dg.DagsterInstance) -> None:
    def assets(code: str) -> list[dg.AssetsDefinition]:
        @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2026-01-01"), code_version=code)
        def daily() -> None: ...

        return [daily]

    assert made_by(instance, assets("1")) == []
    dg.materialize(assets("1"), instance=instance, partition_key="2026-01-03")
    assert made_by(instance, assets("1")) == []
    assert made_by(instance, assets("2")) == ["daily [2026-01-03]"]


def test_a_resource_that_does_not_exist_is_named(instance: dg.DagsterInstance) -> None:
    @dg.asset(metadata=read_from("flies"))
    def rows() -> None: ...

    with pytest.raises(dg.DagsterInvalidDefinitionError, match="it reads from 'flies': no such resource"):
        made_by(instance, [rows])


# --- what people bring and take away ---


class Brought(dg.ConfigurableResource):
    """Sets that somebody brought; those that are taken away are noted by their names."""

    taken_away: list[str]

    def gone(self, name: str, partitions: Sequence[str]) -> dict[str, str]:
        assert name == "sets"
        return {each: "it is gone: put it back" for each in partitions if each in self.taken_away}


def brought_sets(code: str, failing: str, *taken_away: str) -> dg.Definitions:
    @dg.asset(partitions_def=SETS, code_version=code, metadata=brought_by_people("brought", "sets"))
    def rows(context: dg.AssetExecutionContext) -> None:
        if context.partition_key == failing:
            raise RuntimeError("bad rows")

    @dg.asset(partitions_def=SETS, deps=[rows], code_version=code)
    def total() -> None: ...

    @dg.asset(ins={"total": after(key("total"), {ALL_THERE_ARE: True})}, code_version="1")
    def totals() -> None: ...

    brought = Brought(taken_away=list(taken_away))
    return dg.Definitions([rows, total, totals], resources={"brought": brought}, loggers={"brief": brief_logger})


def refreshed(instance: dg.DagsterInstance, definitions: dg.Definitions) -> Report:
    return refresh(definitions.get_repository_def(), instance, "x", lambda line: None)


def test_what_was_taken_away_is_kept_as_it_is_and_nobody_failed(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("sets", ["old", "new"])
    assert refreshed(instance, brought_sets("1", "")).well
    assert refreshed(instance, brought_sets("1", "", "old")).done == []
    report = refreshed(instance, brought_sets("2", "", "old"))
    assert [str(each.target) for each in report.done] == ["rows [new]", "total [new]", "totals"]
    assert report.well
    assert why(report, "rows", "old") == "out of date (its code has changed), but it is gone: put it back"
    blocked = "out of date (its code has changed), but rows [old] before it cannot be made any more"
    assert why(report, "total", "old") == blocked
    assert list(report.lines())[-1].strip() == "3 ran, 2 kept: everything else is up to date"
    assert refreshed(instance, brought_sets("2", "", "old")).done == []
    back = refreshed(instance, brought_sets("2", ""))
    assert [str(each.target) for each in back.done] == ["rows [old]", "total [old]", "totals"]


def test_what_never_could_be_made_is_no_failure_any_more_once_it_is_taken_away(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("sets", ["good", "bad"])
    report = refreshed(instance, brought_sets("1", "bad"))
    assert (report.well, len(report.done)) == (False, 4)
    assert not refreshed(instance, brought_sets("1", "bad")).well  # as long as it is there
    report = refreshed(instance, brought_sets("1", "bad", "bad"))
    assert (report.well, report.done) == (True, [])
    assert why(report, "rows", "bad") == "out of date (never made), but it is gone: put it back"
