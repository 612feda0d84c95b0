"""A real Ray cluster on loopback for tests: its nodes, their processes to kill, and the environment of a driver.

It runs in a process of its own, `python tests/ray_cluster.py '[{"num_cpus": 1}, …]'`, so that no test process ever
imports Ray: its settings are read on import, its warnings would be errors, and pytest would keep its threads.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TWO_NODES = ({"num_cpus": 1}, {"num_cpus": 1})
NOTICED_SOON = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
"""For a cluster that loses a node: Ray looks for it every second, and not for half a minute."""
SEEN = Path("/proc/self/stat").exists()  # what processes a cluster has is read there: on Linux
LISTENS = "0A"  # in /proc/net/tcp
STARTS_S, ENDS_S, TURN_S = 60, 20, 1_200
_depth = 0  # clusters of this process


@dataclass(frozen=True)
class RayCluster:
    """address: of the head, host:port. env: what whoever joins it needs; without its token nobody is let in.

    raylets: process id of each node's raylet, the head's first. logs: folder of what its processes said.
    """

    address: str
    env: Mapping[str, str]
    raylets: Sequence[int]
    logs: Path
    processes: Sequence[int] = field(default_factory=tuple, repr=False)

    def without_token(self) -> dict[str, str]:
        """The environment of somebody who is not let in: with another token."""
        return {**self.env, "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextmanager
def ray_cluster(nodes: Sequence[Mapping[str, Any]] = TWO_NODES, **env: str) -> Iterator[RayCluster]:
    """A cluster as long as the block lasts. nodes: arguments of `Cluster.add_node`; env: what its workers have else."""
    with _alone(), tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        # a short name: a socket's path has 107 bytes
        own = settings(folder) | {"PYTHONPATH": str(ROOT)} | env
        command = [sys.executable, __file__, json.dumps([dict(node) for node in nodes])]
        with (Path(folder) / "cluster.log").open("w+b") as log:
            child = subprocess.Popen(
                command, env={**os.environ, **own}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
            assert child.stdout
            started: dict[str, Any] = {}
            try:
                said = _line_within(child, STARTS_S)
                if not said:
                    log.seek(0)
                    raise TimeoutError(
                        f"no cluster within {STARTS_S} s:\n{log.read().decode(errors='replace')[-4000:]}"
                    )
                started = json.loads(said)
                yield RayCluster(**{**started, "logs": Path(folder), "env": {**own, "RAY_ADDRESS": started["address"]}})
            finally:
                _end(child, started.get("processes", ()))


@contextmanager
def _alone() -> Iterator[None]:
    """Clusters of two test processes would take each other's ports, on which jobs are taken, and each other's cores."""
    global _depth
    with Path(tempfile.gettempdir(), f"ray-cluster-{os.getuid()}.lock").open("w") as lock:
        end = time.monotonic() + TURN_S
        while not _depth:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise TimeoutError(f"another test process has had a Ray cluster for {TURN_S} s") from None
                time.sleep(0.5)
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1


def doors(cluster: RayCluster) -> set[str]:
    """The addresses at which its processes listen: all those that have its environment."""
    sockets = {socket for folder in Path("/proc").glob("[0-9]*") for socket in _sockets(folder, str(cluster.logs))}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {_address(row[1]) for row in rows if row[3] == LISTENS and f"socket:[{row[9]}]" in sockets}


def _sockets(process: Path, sign: str) -> Iterator[str]:
    """What a process has open, if its environment says so."""
    with suppress(OSError):  # it has ended, or is somebody else's
        if sign.encode() in (process / "environ").read_bytes():
            for each in (process / "fd").iterdir():
                with suppress(FileNotFoundError):  # closed by now
                    yield str(each.readlink())


def _address(text: str) -> str:
    """From /proc/net/tcp: words of four bytes in this machine's order, a colon, the port."""
    data = bytes.fromhex(text.partition(":")[0])
    words = struct.unpack(f"={len(data) // 4}I", data)
    address = ip_address(struct.pack(f">{len(words)}I", *words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def settings(folder: str) -> dict[str, str]:
    """The environment of a cluster on loopback with a token of its own, and of whoever joins it; read on import."""
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # binds to 127.0.0.1
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": folder,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or each import warns of what it will do later
    }


def _line_within(child: subprocess.Popen[str], seconds: float) -> str:
    """What a child says first; "" if it says nothing in time, or ends."""
    ready, _, _ = select.select([child.stdout], [], [], seconds)
    return child.stdout.readline() if ready and child.stdout else ""


def _end(child: subprocess.Popen[str], processes: Sequence[int]) -> None:
    """By word, and whatever does not listen by force."""
    try:
        child.communicate("end\n", timeout=ENDS_S)
    except (subprocess.TimeoutExpired, BrokenPipeError):
        child.kill()
        child.communicate()
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Start the nodes that the first argument lists, say where they are, and end them when told to."""
    from ray.cluster_utils import Cluster

    out = os.fdopen(os.dup(1), "w")  # what Ray prints goes to the log
    os.dup2(2, 1)
    cluster = Cluster(shutdown_at_exit=True)
    started = [cluster.add_node(**{"include_dashboard": False, **node}) for node in json.loads(sys.argv[1])]
    raylets = [node.all_processes["raylet"][0].process.pid for node in started]
    processes = [each.process.pid for node in started for kind in node.all_processes.values() for each in kind]
    print(json.dumps({"address": cluster.address, "raylets": raylets, "processes": processes}), file=out, flush=True)
    sys.stdin.readline()
    cluster.shutdown()


if __name__ == "__main__":
    main()
