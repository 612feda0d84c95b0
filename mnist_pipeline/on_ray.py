"""What every driver on a Ray cluster does: it takes an order, joins, looks for room, and tells what comes to pass.

The order is a line of JSON on standard input, whose end ends the driver; what it tells are lines on standard output.
Ray is imported only here and in the drivers. Not here: whoever waits for that (`ray_drivers.py`).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

LOOKS_S = 0.5
NOT_JOINED = {  # what Ray says, and what it means
    "AuthenticationError": "it does not take our token: give this process the cluster's (RAY_AUTH_MODE=token with "
    "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)",
    "resolve node to connect to": "this machine is none of its nodes: run the step on it (MNIST_STEPS_ON=ray), or "
    "start a node of it here (ray start --address=…)",
}


class NotJoined(RuntimeError):
    """The cluster does not take us, and waiting does not mend it."""


def joined(address: str, *, with_output: bool = False) -> Any:
    """Ray's context, which leaves the cluster at the end of a block. with_output: what workers print is printed here.

    Raises NotJoined, and what Ray raises of faults that may pass.
    """
    import ray

    try:
        return ray.init(address=address, log_to_driver=with_output, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError) as error:
        said = "".join(traceback.format_exception(error))
        for sign, remedy in NOT_JOINED.items():
            if sign in said:
                raise NotJoined(remedy) from error
        raise


def room(cpus: float, gpus: float, seconds: float) -> tuple[int, list[float]]:
    """How many workers that ask for so much the nodes have room for, busy or not, and the processors of each node.

    Waits until one fits, as clusters that grow need; 0 when none does after so many seconds.
    """
    import ray

    end = time.monotonic() + seconds
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        found = sum(_fitting(node, cpus, gpus) for node in nodes)
        if found or time.monotonic() > end:
            return found, [node.get("CPU", 0.0) for node in nodes]
        time.sleep(LOOKS_S)


def _fitting(node: dict[str, float], cpus: float, gpus: float) -> int:
    by_cpus = int(node.get("CPU", 0.0) // cpus)
    return min(by_cpus, int(node.get("GPU", 0.0) // gpus)) if gpus else by_cpus


def obey(
    carry_out: Callable[[dict[str, Any]], Iterator[dict[str, Any]]],
    failure: Callable[[Exception, dict[str, Any]], dict[str, Any]],
) -> None:
    """The order from standard input, what comes to pass to standard output, a failure as one more line."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints is no word of ours
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_the_run, daemon=True).start()
    try:
        for each in carry_out(order):
            print(json.dumps(each), file=out, flush=True)
    except Exception as error:
        print(json.dumps(failure(error, order)), file=out, flush=True)


def _leave_with_the_run() -> None:
    """Standard input ends when the run does not wait any longer, or is gone: actors are given back by ending.

    Read without Python's buffer, whose lock a thread must not hold when the process ends by itself.
    """
    while os.read(0, 1 << 16):
        pass
    os._exit(0)
