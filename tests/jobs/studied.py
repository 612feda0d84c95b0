"""Running the job `tuning`, and looking at what it left behind."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
from pipelines import BARELY, Pipeline

from mnist_pipeline.studies import Studies, Study


def tune(pipeline: Pipeline, trials: int, **config: Any) -> dg.ExecuteInProcessResult:
    """A run of the job. fixed: BARELY, if not given."""
    return pipeline.definitions.resolve_job_def("tuning").execute_in_process(
        instance=pipeline.instance,
        run_config={
            "loggers": {"brief": {}},
            "ops": {"start_study": {"config": {"trials": trials, "fixed": BARELY, **config}}},
        },
        raise_on_error=False,
    )


def studies(pipeline: Pipeline) -> Studies:
    found: Studies = (pipeline.definitions.resources or {})["tuning"].studies()
    return found


def study(pipeline: Pipeline) -> Study:
    (found,) = studies(pipeline).all()
    return found


def steps(result: dg.ExecuteInProcessResult, kind: str) -> list[str]:
    """Steps that this became of: STEP_SUCCESS, STEP_SKIPPED, STEP_FAILURE."""
    return [str(event.step_key).split("[")[0] for event in result.all_events if event.event_type_value == kind]


def kept(pipeline: Pipeline, name: str = "digit_classifier") -> dict[str, Any]:
    record: dict[str, Any] = json.loads((pipeline.state / "tuning" / "best" / f"{name}.json").read_text())
    return record


def failure(result: dg.ExecuteInProcessResult) -> str:
    error: Any = result.get_step_failure_events()[0].step_failure_data.error
    while error.cause:
        error = error.cause
    return str(error.message)
