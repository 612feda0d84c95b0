"""Steps as jobs of a real Ray cluster, two nodes on loopback, and runs in a real Postgres."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pipelines import DATA, ROOT, TINY, Pipeline, call, instance_of
from postgres_server import postgres
from processes import Process, wait
from ray_cluster import ray_cluster

pytestmark = pytest.mark.slow
JOB = ("digit_classifier", "model_evaluation", "production_digit_classifier")
NODES = ({"num_cpus": 1, "include_dashboard": True}, {"num_cpus": 1})
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment of a run whose steps go to the cluster. Its nodes have the password of Postgres."""
    with postgres() as server, ray_cluster(NODES, DAGSTER_POSTGRES_URL=server.url, OMP_NUM_THREADS="1") as made:
        yield {
            **made.env,
            "DAGSTER_HOME": str(ROOT / "instances" / "postgres"),
            "DAGSTER_POSTGRES_URL": server.url,
            "MNIST_STEPS_ON": "ray",
            "MNIST_DATASET": "embedded",
            "MLFLOW_TRACKING_URI": "none",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
