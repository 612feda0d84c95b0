"""Steps as jobs of a Ray cluster: each in a process of its own, on a node that has room for it.

Built on dagster-ray, with what it leaves out: an end to everything that is waited for, an asset's own wishes before
those that hold for all, steps that are lost tried again, and no end of a step believed twice.
Not here: the way to the cluster (`ray_jobs.py`), who wants it (`executor.py`). Imported only by runs; dagster-ray, an
extra, only inside functions.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)
from dagster_shared.error import SerializableErrorInfo

from mnist_pipeline.lost_steps import KeepsTrying
from mnist_pipeline.ray_jobs import ANSWER_S, jobs_at

if TYPE_CHECKING:
    from dagster_ray.core.executor import RayStepHandler
    from ray.job_submission import JobDetails, JobSubmissionClient

LOOK_S = 0.5  # between two looks at Dagster's events
HEALTH_S = 5  # between two looks at Ray's jobs: so long a step that was killed is not missed
SILENT_S = 4 * ANSWER_S  # that a cluster may not answer, while its head is started anew
NO_ROOM = "no node had room"


@dataclass(frozen=True)
class Wishes:
    """What each step asks of the cluster, unless its asset has its own in the tag dagster-ray/config.

    cpus: that are reserved for it. wait_s: seconds until it has them. settings: environment variables of its process.
    """

    cpus: float
    gpus: float
    wait_s: float
    settings: Mapping[str, str]


@dataclass
class Jobs(StepHandler):
    """Submits steps, looks after them and ends them. at_work: steps whose end is still to come."""

    client: "JobSubmissionClient"
    wishes: Wishes
    at_work: set[str] = field(default_factory=set)
    _since: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """In Dagster's log."""
        return "Ray"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Submit the job of one step."""
        self.at_work.add(_step(step_handler_context))
        yield from self._handler(step_handler_context).launch_step(step_handler_context)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Unhealthy is what will never tell an end: a job that is gone, or waits too long, or is asked for in vain."""
        self.at_work.add(_step(step_handler_context))
        handler = self._handler(step_handler_context)
        job = handler._get_ray_job_submission_id(step_handler_context)
        try:
            details = self.client.get_job_info(job)
            found = self._judged(job, details, self._asked(handler, step_handler_context))
        except Exception as error:  # whatever it is: Dagster would write it down, and look again for ever
            if self._for(job, "unknown") <= SILENT_S:
                return CheckStepHealthResult.healthy()
            return CheckStepHealthResult.unhealthy(f"for {SILENT_S:.0f} s Ray has not said how job {job} is: {error}")
        self._since.pop((job, "unknown"), None)
        return found

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """End the job of one step."""
        yield from self._handler(step_handler_context).terminate_step(step_handler_context)

    def _judged(self, job: str, details: "JobDetails", asked: str) -> CheckStepHealthResult:
        state = str(details.status.value)
        waited = self._for(job, state)
        if state == "PENDING" and waited > self.wishes.wait_s:
            self.client.stop_job(job)
            return CheckStepHealthResult.unhealthy(
                f"{NO_ROOM} for {asked} within {waited:.0f} s. Ask for less (MNIST_STEP_CPUS, or the asset's tag "
                f"dagster-ray/config), add nodes, or wait longer (MNIST_STEP_WAIT_S). Ray says: {details.message}"
            )
        if details.status.is_terminal() and waited > 0:  # at the second look: what it said has arrived by then
            why = f"job {job} is {state}, and the step has not said how it ended: {details.message}"
            return CheckStepHealthResult.unhealthy(f"{why} (its output: ray job logs {job})")
        return CheckStepHealthResult.healthy()

    def _asked(self, handler: "RayStepHandler", context: StepHandlerContext) -> str:
        from dagster_ray.configs import RayExecutionConfig

        own = RayExecutionConfig.from_tags(context.step_tags[_step(context)])
        return f"{handler.num_cpus or own.num_cpus or 0:g} CPUs and {handler.num_gpus or own.num_gpus or 0:g} GPUs"

    def _for(self, job: str, state: str) -> float:
        """Seconds since this was first seen, 0 the first time."""
        now = time.monotonic()
        return now - self._since.setdefault((job, state), now)

    def _handler(self, context: StepHandlerContext) -> "RayStepHandler":
        """Dagster-ray's, for this step: what it is given goes before an asset's own wishes, so those are left out."""
        from dagster_ray.configs import RayExecutionConfig
        from dagster_ray.core.executor import RayStepHandler

        own = RayExecutionConfig.from_tags(context.step_tags[_step(context)])
        return RayStepHandler(
            client=self.client,
            env_vars=[f"{name}={value}" for name, value in self.wishes.settings.items()],
            runtime_env=None,
            num_cpus=None if own.num_cpus is not None else self.wishes.cpus,
            num_gpus=None if own.num_gpus is not None else self.wishes.gpus or None,
            memory=None,
            resources=None,
        )


class RaySteps(KeepsTrying, StepDelegatingExecutor):
    """Dagster's executor for steps that run elsewhere, over such jobs. at_once: steps at the same time, 0 for any."""

    def __init__(self, jobs: Jobs, at_once: int = 0) -> None:
        super().__init__(
            jobs,
            retries=RetryMode.ENABLED,
            sleep_seconds=LOOK_S,
            check_step_health_interval_seconds=HEALTH_S,
            max_concurrent=at_once or None,
            # A step that was killed before it said that it began could not be tried again; and no job of Ray's begins
            # twice by itself, against which this is meant.
            should_verify_step=False,
        )
        self._jobs, self._resumed = jobs, False

    def is_lost(self, error: SerializableErrorInfo) -> bool:
        return error.cls_name is None and NO_ROOM not in error.message  # what Dagster makes of an unhealthy step

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        self._resumed = plan_context.resume_from_failure
        yield from super().execute(plan_context, execution_plan)

    def _pop_events(self, instance: dg.DagsterInstance, run_id: str, seen_storage_ids: set[int]) -> Sequence[Any]:
        """What was said since the last look, each step's end once.

        A step that was given up may still be at work, as on a node that could not be reached for a while, and tell its
        end beside the attempt that took its place; the second end would end the run with an error.
        """
        events = super()._pop_events(instance, run_id, seen_storage_ids)
        return [event for event in events if self._resumed or self._is_news(event)]

    def _is_news(self, event: DagsterEvent) -> bool:
        if not (event.is_step_success or event.is_step_failure or event.is_step_up_for_retry):
            return True
        known = event.step_key in self._jobs.at_work
        self._jobs.at_work.discard(str(event.step_key))
        return known


def ray_steps(address: str, wishes: Wishes, at_once: int) -> RaySteps:
    """The executor over the cluster that takes jobs at this address. Raises RayUnreachable."""
    return RaySteps(Jobs(jobs_at(address), wishes), at_once)


def _step(context: StepHandlerContext) -> str:
    (step,) = context.execute_step_args.step_keys_to_execute or ()
    return str(step)
