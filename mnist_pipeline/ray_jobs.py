"""The door to a Ray cluster through which jobs are submitted, and what a job on a node is told of our settings.

Ray is an extra and takes half a second to import: only inside functions.
Not here: what the jobs do (`ray_steps.py`).
"""

import functools
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

import dagster as dg

from mnist_pipeline.alerts.redaction import IN_A_URL, SECRET_NAMES
from mnist_pipeline.environment import state_folder
from mnist_pipeline.ray_drivers import knock

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ANSWER_S = 30.0  # to any request; without a limit a dashboard that hangs would hang the run
OURS = re.compile(r"MNIST_\w+|\w+_CSV|S3_ENDPOINT_URL|MLFLOW_TRACKING_URI|SLACK_CHANNEL|SLACK_API_URL|DAGSTER_UI_URL")


class RayUnreachable(dg.DagsterError):
    """No cluster takes jobs where one should."""


def jobs_at(address: str) -> "JobSubmissionClient":
    """Its client. address: of the dashboard, http://host:8265, or of the head, host:6379, which is asked for it.

    Raises RayUnreachable after 5 seconds where nothing listens, after a minute where something else does.
    """
    from ray.dashboard.utils import get_address_for_submission_client
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    try:
        knock(address)
        url = get_address_for_submission_client(address)
        _ask(url)
        client = JobSubmissionClient(url)
    except (OSError, RayError, RuntimeError, ValueError) as error:
        raise RayUnreachable(
            f"no Ray cluster takes jobs at {address} ({str(error).strip() or type(error).__name__}): start one there, "
            "mend RAY_API_SERVER_ADDRESS or RAY_ADDRESS (and RAY_AUTH_TOKEN), or set MNIST_STEPS_ON=processes"
        ) from error
    return _made_ours(client)


def _made_ours(client: Any) -> Any:
    """The client with a limit to its requests, and with our Python in its jobs."""
    submit = client.submit_job
    client._do_request = functools.partial(client._do_request, timeout=ANSWER_S)
    client.submit_job = lambda *, entrypoint, **more: submit(entrypoint=with_this_python(entrypoint), **more)
    return client


def with_this_python(command: str, python: str = sys.executable) -> str:
    """`dagster …` for the shell of a node: by the interpreter that we run by, where it has that, else as it finds it.

    A virtual environment is seldom in the PATH of Ray's processes.
    """
    if not command.startswith("dagster "):
        return command
    return f"if [ -x {quote(python)} ]; then exec {quote(python)} -m {command}; else exec {command}; fi"


def settings_for(env: Mapping[str, str]) -> dict[str, str]:
    """What a step on another machine is told, so that it does there what it would do here.

    No secrets: Ray shows a job's environment to everybody who may look at its dashboard. Nodes have their own.
    """
    told = {name: value for name, value in env.items() if OURS.fullmatch(name) and not _is_secret(name, value)}
    return {**told, "MNIST_PIPELINE_STATE": str(state_folder(env))}


def _is_secret(name: str, value: str) -> bool:
    return bool(SECRET_NAMES.search(name) or IN_A_URL.search(value))


def _ask(url: str) -> None:
    """Whether HTTP is spoken there; with which answer is for Ray to judge."""
    with suppress(HTTPError):
        urlopen(f"{url}/api/version", timeout=ANSWER_S).close()
