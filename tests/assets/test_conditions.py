"""Each asset is made again when what it was made from has changed, once, and not otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
import pytest

from mnist_pipeline.assets.causes import follows, follows_only
from mnist_pipeline.assets.conditions import KEPT_UP_TO_DATE, patience
from mnist_pipeline.definitions import build_definitions

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # of Dagster's own evaluation for tests

RAW, PROCESSED, MODEL = "raw_mnist_data", "processed_mnist_data", "digit_classifier"
REPORT, PRODUCTION = "model_evaluation", "production_digit_classifier"
FEEDBACK = "feedback_digits"  # read again when its sensor says so
CODE = "dagster/code_version"
ALL = (RAW, PROCESSED, MODEL, REPORT, PRODUCTION)
DEPS = {
    RAW: [],
    PROCESSED: [RAW],
    MODEL: [PROCESSED],
    REPORT: [MODEL, PROCESSED],
    PRODUCTION: [MODEL, REPORT, PROCESSED],
}


class Graph:
    """Assets of the same names, edges and conditions, which make nothing; the clock is in the test's hands."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.content = dict.fromkeys(ALL, "1")
        self.code = dict.fromkeys(ALL, "a")
        self.failing: set[str] = set()
        self.refused: set[str] = set()  # by a blocking check
        self.later = timedelta()
        self.cursor: Any = None

    def definitions(self) -> dg.Definitions:
        return dg.Definitions([self._asset(name) for name in ALL], asset_checks=[self._check(name) for name in ALL])

    def _asset(self, name: str) -> dg.AssetsDefinition:
        def make() -> dg.MaterializeResult:
            if name in self.failing:
                raise RuntimeError("no disk")
            made = "-".join([self.content[name], *(self.version(dep) for dep in DEPS[name])])
            return dg.MaterializeResult(data_version=dg.DataVersion(made))

        return dg.asset(
            name=name,
            deps=DEPS[name],
            code_version=self.code[name],
            metadata=follows_only(REPORT) if name == PRODUCTION else {},
            automation_condition=None if name == RAW else KEPT_UP_TO_DATE,
        )(make)

    def _check(self, name: str) -> dg.AssetChecksDefinition:
        def check() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=name not in self.refused)

        return dg.asset_check(asset=dg.AssetKey(name), name="is_good", blocking=True)(check)

    def version(self, name: str) -> str:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(name))
        assert event
        assert event.asset_materialization
        return str((event.asset_materialization.tags or {})["dagster/data_version"])

    def run(self, *names: str) -> bool:
        job = self.definitions().resolve_implicit_global_asset_job_def()
        selection = [dg.AssetKey(name) for name in names]
        return job.execute_in_process(instance=self.instance, asset_selection=selection, raise_on_error=False).success

    def tick(self) -> set[str]:
        """What is asked for now. It is not run."""
        now = datetime.now(timezone.utc) + self.later
        seen = dg.evaluate_automation_conditions(self.definitions(), self.instance, None, now, self.cursor)
        self.cursor = seen.cursor
        return {key.to_user_string() for key in map(dg.AssetKey, ALL) if seen.get_num_requested(key)}

    def settle(self) -> list[set[str]]:
        """Tick and run what is asked for, until nothing is."""
        asked: list[set[str]] = []
        while wanted := self.tick():
            asked.append(wanted)
            assert len(asked) < 10, asked
            self.run(*wanted)
        return asked


STAGES: Sequence[set[str]] = [{PROCESSED}, {MODEL}, {REPORT}, {PRODUCTION}]


@pytest.fixture
def empty() -> Iterator[Graph]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Graph(instance)


@pytest.fixture
def graph(empty: Graph) -> Graph:
    """All made, and looked at once."""
    assert empty.run(*ALL)
    assert empty.settle() == []
    return empty


def test_the_real_assets_have_these_edges_and_this_condition() -> None:
    specs = {spec.key.to_user_string(): spec for spec in build_definitions({}).resolve_all_asset_specs()}
    edges = {name: sorted(dep.asset_key.to_user_string() for dep in specs[name].deps) for name in ALL}
    wanted = {**DEPS, PROCESSED: [RAW, FEEDBACK]}
    assert edges == {name: sorted(deps) for name, deps in wanted.items()}
    assert {name for name, spec in specs.items() if spec.automation_condition} == set(ALL) - {RAW}
    graph = build_definitions({}).get_repository_def().asset_graph
    followed = {name: follows(graph.get(dg.AssetKey(name))) for name in ALL}
    inputs = {name: sorted(key.to_user_string() for key in each.changes_of) for name, each in followed.items()}
    assert inputs == {name: sorted(deps) for name, deps in {**wanted, PRODUCTION: [REPORT]}.items()}
    assert {name for name, each in followed.items() if not each.own_code} == {PRODUCTION}


def test_the_first_time_everything_follows_the_data(empty: Graph) -> None:
    assert empty.settle() == []  # nothing to begin with
    empty.run(RAW)
    assert empty.settle() == STAGES


def test_what_was_there_before_the_daemon_is_gone_on_with(empty: Graph) -> None:
    empty.run(RAW, PROCESSED)
    assert empty.settle() == STAGES[1:]


def test_new_data_is_trained_on_evaluated_and_decided_about(graph: Graph) -> None:
    graph.content[RAW] = "2"
    graph.run(RAW)
    assert graph.settle() == STAGES


def test_equal_data_that_was_rebuilt_changes_nothing(graph: Graph) -> None:
    graph.run(RAW)
    assert graph.settle() == []
    graph.run(RAW, PROCESSED)
    assert graph.settle() == []


def test_a_model_that_came_out_the_same_is_not_evaluated_again(graph: Graph) -> None:
    graph.run(MODEL)
    assert graph.settle() == []


@pytest.mark.parametrize(("name", "asked"), [(PROCESSED, [{PROCESSED}]), (MODEL, [{MODEL}]), (REPORT, [{REPORT}])])
def test_new_code_makes_its_asset_again(graph: Graph, name: str, asked: list[set[str]]) -> None:
    graph.code[name] = "b"
    assert graph.settle() == asked  # and nothing more, since what it made is the same


def test_new_code_is_seen_on_the_first_tick_too(graph: Graph) -> None:
    """It came while the daemon was down, and the cursor is lost."""
    graph.code[MODEL], graph.content[MODEL], graph.cursor = "b", "2", None
    assert graph.settle() == STAGES[1:]


def test_new_code_of_the_deployment_decides_nothing_by_itself(graph: Graph) -> None:
    graph.code[PRODUCTION] = "b"  # a rollback would be undone by an upgrade
    assert graph.settle() == []


def test_a_rollback_stays(graph: Graph) -> None:
    graph.content[PRODUCTION] = "the one before"
    graph.run(PRODUCTION)
    assert graph.settle() == []


@pytest.mark.parametrize("refused", [RAW, PROCESSED, MODEL, REPORT])
def test_a_failed_blocking_check_stops_what_is_behind_it_until_it_passes(graph: Graph, refused: str) -> None:
    before = graph.version(PRODUCTION)
    graph.refused = {refused}
    graph.content[RAW] = "2"
    graph.run(RAW)
    assert graph.settle() == STAGES[: ALL.index(refused)]
    assert graph.version(PRODUCTION) == before
    graph.refused = set()
    graph.run(refused)
    assert graph.settle() == STAGES[ALL.index(refused) :]


def begin(graph: Graph, *names: str) -> str:
    """A run that is under way and has made nothing yet."""
    job = graph.definitions().resolve_implicit_global_asset_job_def()
    part = job.get_subset(asset_selection={dg.AssetKey(name) for name in names})
    run = graph.instance.create_run_for_job(
        part, asset_selection=frozenset(map(dg.AssetKey, names)), status=dg.DagsterRunStatus.STARTED
    )
    return run.run_id


def test_while_a_run_is_under_way_nothing_is_asked_for_twice(graph: Graph) -> None:
    graph.content[RAW] = "2"
    graph.run(RAW)
    run = begin(graph, PROCESSED, MODEL)
    assert graph.tick() == set()
    end(graph, run)
    graph.run(PROCESSED, MODEL)
    assert graph.settle() == STAGES[2:]


def end(graph: Graph, run_id: str) -> None:
    run = graph.instance.get_run_by_id(run_id)
    assert run
    graph.instance.report_run_canceled(run)


def test_data_that_changes_while_a_training_runs_is_trained_on_afterwards(graph: Graph) -> None:
    graph.content[MODEL] = "being trained"
    run = begin(graph, MODEL)
    graph.content[RAW] = "2"
    graph.run(RAW)
    assert graph.tick() == {PROCESSED}
    old = graph.version(PROCESSED)
    training_on_old = dg.AssetMaterialization(
        MODEL, tags={"dagster/data_version": "3", f"dagster/input_data_version/{PROCESSED}": old, CODE: "a"}
    )
    graph.run(PROCESSED)
    assert graph.tick() == set()
    graph.instance.report_runless_asset_event(training_on_old)  # it ends, having read what there was before
    graph.instance.delete_run(run)
    assert graph.tick() == {MODEL}


def test_what_failed_is_tried_again_with_growing_patience_and_not_in_a_loop(graph: Graph) -> None:
    graph.content[RAW] = "2"
    graph.failing = {PROCESSED}
    graph.run(RAW)
    assert graph.tick() == {PROCESSED}
    for failures, minutes in ((1, 10), (2, 20), (3, 40)):
        graph.run(PROCESSED)
        graph.later = timedelta(minutes=minutes - 1)
        assert graph.tick() == set(), failures
        graph.later = timedelta(minutes=minutes + 1)
        assert graph.tick() == {PROCESSED}, failures
    graph.failing = set()  # the cause is gone
    assert graph.settle() == STAGES


def test_new_data_does_not_wait_for_the_patience_with_the_old(graph: Graph) -> None:
    graph.content[RAW], graph.failing = "2", {PROCESSED}
    graph.run(RAW)
    graph.run(PROCESSED)
    assert graph.tick() == set()
    graph.content[RAW], graph.failing = "3", set()
    graph.run(RAW)
    assert graph.settle() == STAGES


def test_what_a_person_cancelled_is_not_begun_again_until_something_is_new(graph: Graph) -> None:
    graph.content[RAW] = "2"
    graph.run(RAW)
    end(graph, begin(graph, PROCESSED))
    graph.later = timedelta(days=3)
    assert graph.tick() == set()
    graph.content[RAW] = "3"
    graph.run(RAW)
    assert graph.settle() == STAGES


def others_fail(graph: Graph, count: int) -> None:
    """Runs of something else, such as single predictions, that failed since."""
    for _ in range(count):
        run = dg.DagsterRun("digit_predictions", status=dg.DagsterRunStatus.STARTED)
        graph.instance.add_run(run)
        graph.instance.report_run_failed(run)


def test_failures_of_other_runs_hide_neither_a_cancelled_run_nor_a_failed_one(graph: Graph) -> None:
    graph.content[RAW] = "2"
    graph.run(RAW)
    end(graph, begin(graph, PROCESSED))
    others_fail(graph, 60)
    graph.later = timedelta(days=3)
    assert graph.tick() == set()
    graph.content[RAW], graph.failing, graph.later = "3", {PROCESSED}, timedelta()
    graph.run(RAW)
    graph.run(PROCESSED)
    others_fail(graph, 60)
    assert graph.tick() == set()


def test_patience_grows_to_four_hours() -> None:
    minutes = [patience(failures).total_seconds() / 60 for failures in range(8)]
    assert minutes == [0, 10, 20, 40, 80, 160, 240, 240]
    assert patience(10_000) == timedelta(hours=4)


def test_of_an_asset_in_partitions_only_those_that_are_out_of_date_are_asked_for() -> None:
    """Each has its own inputs."""
    years = dg.DynamicPartitionsDefinition(name="years")
    content = {"2016": "1", "2017": "1"}

    @dg.asset(partitions_def=years, code_version="1")
    def rows() -> dg.MaterializeResult:
        year = dg.AssetExecutionContext.get().partition_key
        return dg.MaterializeResult(data_version=dg.DataVersion(content[year]))

    @dg.asset(partitions_def=years, deps=[rows], code_version="1", automation_condition=KEPT_UP_TO_DATE)
    def total() -> None: ...

    definitions = dg.Definitions([rows, total])
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("years", list(content))

        def asked() -> set[str | None]:
            seen = dg.evaluate_automation_conditions(definitions, instance)
            (result,) = (each for each in seen.results if each.key == total.key)
            return set(result.true_subset.expensively_compute_partition_keys())

        def run(*assets: dg.AssetsDefinition) -> None:
            for year in content:
                assert dg.materialize([rows, total], instance=instance, partition_key=year, selection=assets).success

        run(rows)
        assert asked() == {"2016", "2017"}
        run(total)
        assert asked() == set()
        content["2017"] = "2"
        run(rows)
        assert asked() == {"2017"}
