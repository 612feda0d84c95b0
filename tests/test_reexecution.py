"""A run that failed goes on from where it failed: what was made is not made again."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from pipelines import DATA, TINY

from mnist_pipeline.definitions import build_definitions


def broken_then_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first evaluation fails."""
    from mnist_pipeline.ml import report

    measure, calls = report.measure, []

    def once(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("the cause, which goes away")
        return measure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(report, "measure", once)


def made(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    found = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    return {str(record.asset_key and record.asset_key.to_user_string()) for record in found}


@pytest.mark.slow
def test_a_run_that_failed_in_the_evaluation_is_continued_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_then_whole(monkeypatch)
    monkeypatch.setenv("MNIST_PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MNIST_DATASET", "embedded")
    job = dg.reconstructable(training_job)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        config = {"ops": {"digit_classifier": {"config": TINY}}}
        with dg.execute_job(job, instance, run_config=config) as first:
            assert not first.success
        assert made(instance, first.run_id) == {*DATA, "digit_classifier"}
        from_failure = dg.ReexecutionOptions.from_failure(first.run_id, instance)
        with dg.execute_job(job, instance, reexecution_options=from_failure) as second:
            assert second.success
        assert made(instance, second.run_id) == {"model_evaluation"}


def training_job() -> dg.JobDefinition:
    """For `reconstructable`, which loads it by name."""
    return build_definitions().resolve_job_def("training")
