"""Steps whose process is gone without a word: killed, out of memory, or with the machine. They are tried again.

Dagster tries a step again for what it raises, not for what becomes of its process, unless the step has a RetryPolicy,
which would repeat programming errors too. And `run_retries` in dagster.yaml launches a run again whose own process is
gone, not one that has told that a step failed.
Not here: what a step asks for itself (`retries.py`); which executor a run has (`executor.py`). Imported only by runs.
"""

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import IStepContext
from dagster._core.execution.plan.objects import StepRetryData
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.executor.multiprocess import MultiprocessExecutor
from dagster_shared.error import SerializableErrorInfo

TRIED_AGAIN = 2  # times; what is out of memory thrice will be a fourth time. As often as run_retries does
WAIT_S = 2.0


class KeepsTrying(dg.Executor):
    """For an executor that has each step in a process of its own."""

    def is_lost(self, error: SerializableErrorInfo) -> bool:
        """Whether this tells of a process that is gone, not of an exception in it."""
        raise NotImplementedError

    def log_failure_or_retry_event_after_error(
        self, step_context: IStepContext, err_info: SerializableErrorInfo, known_state: KnownExecutionState
    ) -> DagsterEvent:
        """What Dagster notes of a step that has ended without a word of its own."""
        tried = known_state.get_retry_state().get_attempt_count(step_context.step.key)
        if not self.is_lost(err_info) or step_context.retry_mode.disabled or tried >= TRIED_AGAIN:
            return super().log_failure_or_retry_event_after_error(step_context, err_info, known_state)
        return DagsterEvent.step_retry_event(step_context, StepRetryData(error=err_info, seconds_to_wait=WAIT_S))


class Processes(KeepsTrying, MultiprocessExecutor):
    """Dagster's own, on this machine."""

    def is_lost(self, error: SerializableErrorInfo) -> bool:
        return error.cls_name == "ChildProcessCrashException"
