"""A pipeline over a folder of its own, driven through the doors that users have: runs with configuration."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

import mnist_pipeline
from mnist_pipeline.definitions import build_definitions
from mnist_pipeline.files import read_value
from mnist_pipeline.ml.config import ModelConfig
from mnist_pipeline.ml.conformal import CONFORMAL, PredictionSets
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.resources import Drift, Judging, Mail, Models, Pictures, Tracking, dev_resources
from mnist_pipeline.store import ModelStore

if TYPE_CHECKING:
    from mnist_pipeline.ml.network import DigitCNN

ROOT = Path(mnist_pipeline.__file__).parents[1]
DATA = ("raw_mnist_data", "feedback_digits", "processed_mnist_data")
UP_TO_DEPLOYMENT = (*DATA, "digit_classifier", "model_evaluation", "production_digit_classifier")
TINY = {"width_1": 4, "width_2": 8, "width_3": 8, "device": "cpu"}  # 97 % on the embedded digits in a second
BARELY = {**TINY, "epochs": 3, "min_steps": 0}  # 48 steps: most answers are right, and far fewer than 97 %
FACTS = (
    *("metrics", "config", "class_names", "preparation"),
    *("dataset", "data_version", "code_version", "run_id"),
)
PROD = {  # what prod cannot do without
    "MNIST_S3_BUCKET": "our-bucket",
    "MLFLOW_TRACKING_URI": "none",
    "SLACK_BOT_TOKEN": "xoxb-1234-abcdefgh",
    "SLACK_CHANNEL": "C012",
}
NIGHT = "2026-01-05"  # a night that is over


class Pipeline:
    """Definitions, an instance and a state folder that belong together."""

    def __init__(self, state: Path, **env: str) -> None:
        self.state = state
        self.env = {
            "MNIST_PIPELINE_STATE": str(state),
            "MNIST_DATASET": "embedded",
            "MNIST_INBOX_SETTLE_S": "0",
            **env,
        }
        self.definitions = build_definitions(self.env)
        self.instance = dg.DagsterInstance.ephemeral()

    def run(self, *assets: str, night: str | None = None, **config: Mapping[str, Any]) -> dg.ExecuteInProcessResult:
        """Materialize these assets with their checks. config: run configuration by the name of the asset, or of the op
        that makes it: breast_cancer__raw_data. night: the partition, which may be a dataset as well."""
        return self._execute(assets, night, config, raise_on_error=True)

    def try_run(self, *assets: str, night: str | None = None, **config: Mapping[str, Any]) -> dg.ExecuteInProcessResult:
        """The same, with a failed step as a result to look at."""
        return self._execute(assets, night, config, raise_on_error=False)

    def _execute(
        self, assets: tuple[str, ...], night: str | None, config: Mapping[str, Any], *, raise_on_error: bool
    ) -> dg.ExecuteInProcessResult:
        return self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey.from_user_string(asset) for asset in assets],
            run_config={
                "loggers": {"brief": {}},
                "ops": {name: {"config": dict(each)} for name, each in config.items()},
            },
            partition_key=night,
            raise_on_error=raise_on_error,
        )

    def copy(self, state: Path, **env: str) -> Pipeline:
        """Another pipeline that begins where this one stands."""
        shutil.copytree(self.state, state)
        return Pipeline(state, **{**self.env, "MNIST_PIPELINE_STATE": str(state), **env})

    @property
    def models(self) -> Models:
        return self._resource("models")

    @property
    def pictures(self) -> Pictures:
        return self._resource("pictures")

    @property
    def tracking(self) -> Tracking:
        found: Tracking = (self.definitions.resources or {})["tracking"]
        return found

    @property
    def untracked(self) -> Tracking:
        """For assets that are called outside of a run."""
        found: Tracking = dev_resources({**self.env, "MLFLOW_TRACKING_URI": "none"})["tracking"]
        return found

    @property
    def store(self) -> ModelStore:
        return self.models.open()

    @property
    def judging(self) -> Judging:
        found: Judging = self._resource("judging")
        return found

    @property
    def mail(self) -> Mail:
        return self._resource("mail")

    @property
    def drift(self) -> Drift:
        return self._resource("drift")

    def _resource(self, name: str) -> Any:
        return (self.definitions.resources or {})[name]

    @property
    def inbox(self) -> Path:
        return self.state / "inbox"

    def digits(self, asset: str = "processed_mnist_data") -> DigitData:
        return self.value(asset)

    def value(self, asset: str) -> Any:
        """What an asset handed on: the name of a version, the key of a report, answers."""
        return read_value(self._resource("io_manager").open(), asset, asset)

    def variant(self, change: Callable[[DigitCNN], None], sets: bytes = b"", **facts: Any) -> str:
        """Another stored version: the network of this pipeline, changed. sets: its conformal.json, if it has one.
        facts: what its card says else."""
        import torch  # not above: conftest.py sets the number of threads first

        from mnist_pipeline.ml.artifacts import load_network, pack

        card = self.store.card(self.value("digit_classifier"))
        network = load_network(self.store.load(card.name), ModelConfig(**card.config), len(card.class_names))
        with torch.no_grad():
            change(network)
        same = {key: getattr(card, key) for key in FACTS}
        files = pack(network, self.digits()["validation"].images) | ({CONFORMAL: sets} if sets else {})
        return self.store.add_version(files, **{**same, "label": "variant", **facts}).name

    def four_or_nine(self) -> str:
        """A stored version that says 4 to everything, and leaves 9 possible."""

        def undecided(network: DigitCNN) -> None:
            network.classifier.weight.zero_()
            network.classifier.bias.zero_()
            network.temperature.fill_(1.0)
            network.classifier.bias[4], network.classifier.bias[9] = 10.5, 10

        return self.variant(undecided, PredictionSets(0.99, 0.1, 100).as_json(), label="undecided")

    def stored(self) -> dict[str, str]:
        """Blob -> sha256 of everything in the model store."""
        blobs = self.store.blobs
        return {key: hashlib.sha256(blobs.read(key)).hexdigest() for key in blobs.list("")}

    def messages(self, result: dg.ExecuteInProcessResult) -> list[str]:
        """What the run said in the Dagster log."""
        return [entry.user_message for entry in self.instance.all_logs(result.run_id) if entry.user_message]


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """Plain values of the metadata of an asset that was materialized in this run; pictures as their markdown."""
    return {name: entry.value for name, entry in materialization(result, asset).metadata.items()}


def data_version(result: dg.ExecuteInProcessResult, asset: str) -> str:
    return str((materialization(result, asset).tags or {})["dagster/data_version"])


def materialization(result: dg.ExecuteInProcessResult, asset: str) -> dg.AssetMaterialization:
    key = dg.AssetKey.from_user_string(asset)
    made = (event.step_materialization_data.materialization for event in result.get_asset_materialization_events())
    (event,) = (each for each in made if each.asset_key == key)
    return event


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Check -> whether it passed."""
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


def flip_a_bit(path: Path) -> None:
    """In the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def call(*command: str | Path, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with the repository as its folder."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def at_home(folder: Path, **env: str) -> dict[str, str]:
    """What processes need that share a home of their own with the settings of the repository, and a state."""
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    own = {"DAGSTER_HOME": str(home), "MNIST_PIPELINE_STATE": str(folder / "state"), "PYTHONPATH": str(ROOT)}
    return {**own, **env}


@contextmanager
def instance_of(env: Mapping[str, str]) -> Iterator[dg.DagsterInstance]:
    """The persistent instance of a process that ran with this environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(env["DAGSTER_HOME"]) as instance:
            yield instance
