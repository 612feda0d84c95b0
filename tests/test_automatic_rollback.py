"""In one piece: the sensor sees what people say of a promoted version, production goes back, and a run tells of it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from pipelines import Pipeline, at_home, instance_of
from processes import daemon, wait
from served import People, service_at

from mnist_pipeline.automation import contest_job
from mnist_pipeline.deciding import Case, Choice, record
from mnist_pipeline.ml.network import DigitCNN

pytestmark = pytest.mark.slow
PATIENCE_S = 240.0
REPORT = dg.AssetKey("ab_report")
REPORTED = dg.RunsFilter(job_name=contest_job.name, statuses=[dg.DagsterRunStatus.SUCCESS])


def mix_up(network: DigitCNN) -> None:
    """Every digit is taken for the next one."""
    for each in (network.classifier.weight, network.classifier.bias):
        each.copy_(each.roll(1, 0))


def test_a_promoted_version_that_people_correct_is_rolled_back_by_the_daemon_and_the_service_follows(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    good, bad = str(pipeline.store.production()), pipeline.variant(mix_up)
    for strategy in ("challenge", "promotion"):
        record(Case.after(pipeline.store, pipeline.store.current()), Choice(strategy, bad, "a mistake"))
    env = at_home(tmp_path, MNIST_DATASET="embedded", MLFLOW_TRACKING_URI="none")
    process = daemon(env, tmp_path / "daemon.log").start()
    try:
        with instance_of(env) as instance, service_at(pipeline.state, tmp_path / "service.log") as url:
            wait("the first report", lambda: instance.get_runs(REPORTED), PATIENCE_S)
            people = People(url)
            people.wait_for("challenger", good)
            asked = pipeline.digits()["test"].take(range(60))
            answers = people.ask(asked.images)
            assert {answer["model_version"] for answer in answers} == {bad}
            assert people.correct(asked, answers) > 50
            wait("production goes back", lambda: pipeline.store.production() == good, PATIENCE_S, every=0.1)
            people.wait_for("champion", good)
            people.wait_for("challenger", None)
            wait("the second report", lambda: len(instance.get_runs(REPORTED)) == 2, PATIENCE_S)
            newest = pipeline.store.current()
            (told,) = instance.fetch_materializations(REPORT, limit=1).records
    except TimeoutError as error:
        raise AssertionError(f"{error}:\n{process.tail()}") from error
    finally:
        process.end()
    assert newest
    assert (newest.strategy, newest.number, pipeline.store.verify_chain()) == ("automatic_rollback", 4, [])
    said = {
        name: each.value
        for name, each in (told.asset_materialization.metadata if told.asset_materialization else {}).items()
    }
    assert (said["decision"], said["strategy"], said["champion"]) == (4, "automatic_rollback", bad)
    assert newest.request.startswith("contests/")
