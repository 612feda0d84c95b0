"""`make mlflow`: sends what is spooled, then opens MLflow's UI on http://127.0.0.1:5000 over the same store.

For people without the daemon; with it, `delivery.py` does the sending every 30 seconds.
"""

import os
import sys
from pathlib import Path

import dagster as dg

from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.delivery import deliver, told
from mnist_pipeline.resources import PROJECT, Models, Tracking, state_folder
from mnist_pipeline.tracking import is_server, without_login

PORT = "5000"


def main() -> int:
    """Exit status 1 when something was refused, 2 when tracking is switched off; else MLflow's own."""
    os.environ.setdefault("DAGSTER_HOME", str(PROJECT))
    os.environ.setdefault("MNIST_PIPELINE_STATE", str(state_folder()))
    resources = build_definitions().resources or {}
    tracking, models = resources["tracking"], resources["models"]
    if tracking.is_off():
        print("MLFLOW_TRACKING_URI=none: nothing is tracked", file=sys.stderr)
        return 2
    if problems := _send(tracking, models):
        print("\n".join(problems), file=sys.stderr)
        return 1
    if is_server(tracking.uri):
        print(f"MLflow's UI is at {without_login(tracking.uri)}")
        return 0
    return _serve(tracking)


def _send(tracking: Tracking, models: Models) -> list[str]:
    with dg.DagsterInstance.get() as instance:
        report = deliver(tracking, models, instance)
    print(told(report, tracking))
    return report.problems


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
    sys.exit(main())
