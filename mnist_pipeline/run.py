"""`make run`: the whole pipeline once, against the persistent Dagster instance, ending in a summary of one screen.

Everything it does can be done in the UI or with the Dagster CLI; it adds nothing but sample images and the summary.
"""

import argparse
import json
import os
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg

from mnist_pipeline.environment import PROJECT, state_folder
from mnist_pipeline.executor import free_slots_of_the_dead
from mnist_pipeline.ml.config import PRESETS
from mnist_pipeline.process import collect_seldom
from mnist_pipeline.refreshing.waves import cause

SAMPLES = 200
MNIST_PUBLISHED = datetime(1998, 11, 1, tzinfo=timezone.utc).timestamp()
STAGES = {
    "data": (
        *("raw_mnist_data", "raw_data_checks", "feedback_digits"),
        *("processed_mnist_data", "processed_data_checks"),
    ),
    "training": ("digit_classifier", "model_checks"),
    "evaluation": ("model_evaluation", "evaluation_checks"),
    "deployment": ("production_digit_classifier",),
    "prediction": ("digit_predictions", "batch_digit_predictions"),
}


@dataclass
class Outcome:
    """What the runs so far left behind: metadata by asset, seconds by step, failed steps with their cause."""

    metadata: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def value(self, asset: str, name: str) -> Any:
        """One metadata value, "?" where the asset did not get that far."""
        entry = self.metadata.get(asset, {}).get(name)
        return "?" if entry is None else entry.value

    def stage(self, name: str) -> float:
        """Seconds of all steps of a stage."""
        return sum(self.seconds.get(step, 0.0) for step in STAGES[name])


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when all went well."""
    options = _parse(arguments)
    go_home()
    collect_seldom()
    begun, outcome = time.perf_counter(), Outcome()
    definitions = definitions_here()
    with dg.DagsterInstance.get() as instance:
        free_slots_of_the_dead(instance)  # a run in this process does not go through the executor that does it
        classifier = {"preset": options.preset, **options.config}
        try:
            _execute(definitions, instance, "make_model", outcome, ops={"digit_classifier": {"config": classifier}})
        except dg.DagsterInvalidConfigError as error:
            return failed_before_it_ran(error)
        if not outcome.faults:
            _fill_inbox(definitions)
            _execute(definitions, instance, "batch_inference", outcome, night=_tonight(definitions))
    print(_summary(definitions, outcome, time.perf_counter() - begun))
    return 1 if outcome.faults else 0


def go_home() -> None:
    """The persistent instance of this project, where the environment names no other."""
    os.environ.setdefault("DAGSTER_HOME", str(PROJECT))
    os.environ.setdefault("MNIST_PIPELINE_STATE", str(state_folder()))
    Path(os.environ["DAGSTER_HOME"]).mkdir(parents=True, exist_ok=True)


def definitions_here() -> dg.Definitions:
    """Those that the environment asks for; a variable that is wrong is told and ends the program with status 2."""
    try:
        from mnist_pipeline.definitions import build_definitions

        return build_definitions()
    except ValueError as error:
        raise SystemExit(failed_before_it_ran(error)) from error


def failed_before_it_ran(error: Exception) -> int:
    """Says why; returns the exit status."""
    print(f"\nNothing was run: {error}", file=sys.stderr)
    return 2


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m mnist_pipeline.run", description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), default="fast", help="how to train")
    parser.add_argument(
        "--config",
        type=settings_in,
        default={},
        help='further settings of digit_classifier, e.g. {"epochs": 3}, or @file: those that tuning has kept',
    )
    return parser.parse_args(arguments)


def settings_in(text: str) -> dict[str, Any]:
    """Settings as JSON, or @file for a file of them. Raises ArgumentTypeError."""
    if text.startswith("@"):
        return _kept(Path(text[1:]).expanduser())
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!r} is not JSON ({error}); write it like {{"epochs": 3}}') from error
    if not isinstance(settings, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is no object; write it like {{"epochs": 3}}')
    return settings


def _kept(path: Path) -> dict[str, Any]:
    """The settings in what the job `tuning` has written."""
    try:
        return dict(json.loads(path.read_text())["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise argparse.ArgumentTypeError(
            f"{path} holds no settings ({error!r}); the job tuning writes such a file"
        ) from error


def _execute(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    outcome: Outcome,
    ops: dict[str, Any] | None = None,
    night: str | None = None,
) -> None:
    result = definitions.resolve_job_def(job).execute_in_process(
        instance=instance,
        run_config={"loggers": {"brief": {}}, **({"ops": ops} if ops else {})},
        partition_key=night,
        raise_on_error=False,
    )
    for event in result.get_asset_materialization_events():
        made = event.step_materialization_data.materialization
        outcome.metadata[made.asset_key.to_user_string()] = made.metadata
    for stats in instance.get_run_step_stats(result.run_id):
        if stats.start_time and stats.end_time:
            outcome.seconds[stats.step_key] = stats.end_time - stats.start_time
    for event in result.get_step_failure_events():
        outcome.faults[event.step_key or job] = cause(event.step_failure_data.error)


def _fill_inbox(definitions: dg.Definitions) -> None:
    """Where nothing waits and nothing was ever claimed: 200 test images as PNG files, to have something to predict."""
    from mnist_pipeline.files import read_value
    from mnist_pipeline.samples import write_samples

    resources = definitions.resources or {}
    inbox = resources["mail"].open()
    if inbox.is_unused():
        data = read_value(resources["io_manager"].open(), "processed_mnist_data", "processed_mnist_data")
        images = data["test"].images[:SAMPLES]
        inbox.accept(lambda folder: write_samples(folder, images, MNIST_PUBLISHED))


def _tonight(definitions: dg.Definitions) -> str:
    zone = (definitions.resources or {})["mail"].zone()
    return datetime.now(zone).strftime("%Y-%m-%d")


def _summary(definitions: dg.Definitions, outcome: Outcome, seconds: float) -> str:
    if outcome.faults:
        lines = [f"FAILED in {step}:\n{textwrap.indent(cause, '    ')}" for step, cause in outcome.faults.items()]
        return "\n" + "\n".join(lines) + "\n\nEverything before that is kept. See the run in the UI: make dev\n"
    of = outcome.value
    batch = [of("batch_digit_predictions", name) for name in ("predictions", "quarantined", "table")]
    accuracy = "test accuracy  {:.2%}  (95 % interval {:.2%} to {:.2%}, {:,} images)".format(
        *(of("model_evaluation", f"test_{name}") for name in ("accuracy", "accuracy_low", "accuracy_high", "images"))
    )
    stages = "   ".join(f"{name} {outcome.stage(name):.1f}" for name in STAGES)
    inbox, pictures = of("batch_digit_predictions", "inbox"), (definitions.resources or {})["pictures"].location
    drop = (
        f"aws s3 cp your-digits {inbox} --recursive"
        if "://" in inbox
        else f"cp your-digits/*.png {os.path.relpath(inbox)}"
    )
    return f"""
  data           {of("raw_mnist_data", "images"):,} images: {of("raw_mnist_data", "source")}
  trained        {of("digit_classifier", "version")}
  {accuracy}
  decision       {of("production_digit_classifier", "decision")}: {of("production_digit_classifier", "reason")}
  in production  {of("production_digit_classifier", "serves_now")}
  predictions    {batch[0]:,} tonight, {batch[1]:,} quarantined: {batch[2]}
  seconds        {seconds:.1f}   ({stages})
  pictures       {pictures}

  Next:
    make dev                                   the UI on http://127.0.0.1:3000
    make run DATASET=mnist PRESET=accurate     the full data set, 99.7 %
    {drop} && make run     your own images
"""


if __name__ == "__main__":
    sys.exit(main())
