"""`make mlflow`: sends what is spooled, then opens MLflow's UI on http://127.0.0.1:5000 over the same store.

For people without the daemon; with it, `delivery.py` does the sending every 30 seconds. With the word `retry` or `drop`
it does that to records that MLflow has refused, and nothing else.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.environment import PROJECT, state_folder
from mnist_pipeline.experiments.refused import Refused
from mnist_pipeline.resources import Models, Tracking
from mnist_pipeline.sensors.delivery import deliver, needs_somebody, told
from mnist_pipeline.tracking import is_server, without_login

PORT = "5000"


def main(arguments: Sequence[str] = ()) -> int:
    """Exit status 1 when something needs somebody, 2 when tracking is switched off; where a UI opens, MLflow's own."""
    parser = argparse.ArgumentParser(prog="python -m mnist_pipeline.experiments", description=__doc__)
    parser.add_argument("refused", nargs="?", choices=("retry", "drop"), help="of records that MLflow has refused")
    word = parser.parse_args(arguments).refused
    os.environ.setdefault("DAGSTER_HOME", str(PROJECT))
    os.environ.setdefault("MNIST_PIPELINE_STATE", str(state_folder()))
    resources = build_definitions().resources or {}
    tracking, models = resources["tracking"], resources["models"]
    if tracking.is_off():
        print("MLFLOW_TRACKING_URI=none: nothing is tracked", file=sys.stderr)
        return 2
    if word:
        print(_settle(word, Refused(tracking.spool())))
        return 0
    if problems := _send(tracking, models):
        print("\n".join(problems), file=sys.stderr)
    if is_server(tracking.uri):
        print(f"MLflow's UI is at {without_login(tracking.uri)}")
        return 1 if problems else 0
    return _serve(tracking)


def _send(tracking: Tracking, models: Models) -> list[str]:
    with dg.DagsterInstance.get() as instance:
        report = deliver(tracking, models, instance)
    print(told(report, tracking))
    return needs_somebody(report, tracking)


def _settle(word: str, refused: Refused) -> str:
    if word == "drop":
        return f"{refused.drop()} records given up"
    return f"{refused.retry()} records wait again: the daemon sends them, or `make mlflow`"


def _serve(tracking: Tracking) -> int:
    """MLflow's server in the place of this process, in the folder where mlflow may leave files."""
    folder = Path(tracking.folder)
    os.chdir(folder)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # eight processes that nobody here needs
    artifacts = (folder / "artifacts").as_uri()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", PORT, "--workers", "1"]
    os.execv(sys.executable, [*command, "--backend-store-uri", tracking.uri, "--default-artifact-root", artifacts])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
