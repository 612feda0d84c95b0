"""`make tune`: the job `tuning` once, against the persistent Dagster instance, ending in a table of all trials.

Everything it does can be done in the UI or with the Dagster CLI; it adds nothing but the table.
"""

import argparse
import sys
from typing import Any

import dagster as dg

from mnist_pipeline.jobs.ranking import result_name, table
from mnist_pipeline.jobs.targets import names, target_named
from mnist_pipeline.refreshing.waves import cause
from mnist_pipeline.run import definitions_here, failed_before_it_ran, go_home, settings_in


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when trials could be compared, whatever came of it."""
    options = vars(_parse(arguments))
    go_home()
    definitions = definitions_here()
    with dg.DagsterInstance.get() as instance:
        try:
            result = definitions.resolve_job_def("tuning").execute_in_process(
                instance=instance,
                run_config={"loggers": {"brief": {}}, "ops": {"start_study": {"config": options}}},
                raise_on_error=False,
            )
        except dg.DagsterInvalidConfigError as error:
            return failed_before_it_ran(error)
    if not result.success:
        causes = [
            f"{event.step_key}: {cause(event.step_failure_data.error)}" for event in result.get_step_failure_events()
        ]
        print("\nFAILED in " + "\n".join(causes), file=sys.stderr)
        return 1
    print(_summary(definitions, result))
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m mnist_pipeline.tune", description=__doc__)
    parser.add_argument("--target", choices=names(), default=names()[0], help="the model to be tuned")
    parser.add_argument("--partition", default="", help="of the table, where it has partitions")
    parser.add_argument("--trials", type=int, default=20, help="configurations to try")
    parser.add_argument("--seconds", type=float, default=0.0, help="after which no trial begins; 0: no limit")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of configurations")
    parser.add_argument("--fixed", type=settings_in, default={}, help='settings for all trials, e.g. {"epochs": 3}')
    return parser.parse_args(arguments)


def _summary(definitions: dg.Definitions, result: dg.ExecuteInProcessResult) -> str:
    tuning = (definitions.resources or {})["tuning"]
    plan = result.output_for_node("rank_trials")["plan"]
    trials = table(tuning.studies().open(plan["study"]), plan["current"])
    return f"\n{trials}\n\n{_outcome(result, tuning)}\n"


def _outcome(result: dg.ExecuteInProcessResult, tuning: Any) -> str:
    branch = {event.step_output_data.output_name for event in result.filter_events(_is_branch)}
    record = result.output_for_node("compare_with_current", *branch)
    if branch == {"not_better"}:
        return f"{record['target']} stays as it is: {record['reason']}"
    kept = tuning.results().where(result_name(record["target"], record["partition"]))
    use = target_named(record["target"], record["partition"]).use(record["settings"])
    return f"{record['target']}: {record['reason']}\nKept in {kept}. To train with it:\n{use}"


def _is_branch(event: dg.DagsterEvent) -> bool:
    return event.is_successful_output and event.step_key == "compare_with_current"


if __name__ == "__main__":
    sys.exit(main())
