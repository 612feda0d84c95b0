"""The code location: both environments load, the graph is the one in the design, and every way in works."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pipelines import PROD, ROOT, TINY, call, instance_of

from mnist_pipeline.definitions import build_definitions

DIGITS = {
    "raw_mnist_data": set(),
    "feedback_digits": {"raw_mnist_data"},
    "processed_mnist_data": {"raw_mnist_data", "feedback_digits"},
    "digit_classifier": {"processed_mnist_data"},
    "model_evaluation": {"digit_classifier", "processed_mnist_data"},
    "production_digit_classifier": {"digit_classifier", "model_evaluation", "processed_mnist_data"},
    "batch_digit_predictions": {"production_digit_classifier"},
    "digit_predictions": {"production_digit_classifier", "processed_mnist_data"},
    "drift_report": {"batch_digit_predictions"},
    "service_drift_report": {"production_digit_classifier"},
}
MONITORING: dict[str, set[str]] = {
    "ab_report": {"production_digit_classifier"},
    "production_accuracy": set(),
    "label_errors": {"raw_mnist_data"},
}
MODELS = ("decision_tree", "random_forest", "logistic_regression", "knn")
BREAST_CANCER = {
    "raw_data": set(),
    "eda_summary": {"raw_data"},
    "train_test": {"raw_data"},
    **{model: {"train_test"} for model in MODELS},
    "comparison": {"train_test", *MODELS},
}
SUPERSTORE = {
    "raw_data": set(),
    "prepared_data": {"raw_data"},
    "eda_summary": {"raw_data"},
    "train_validation_test": {"prepared_data"},
    **{model: {"train_validation_test"} for model in MODELS},
    "comparison": {"train_validation_test", *MODELS},
    "dataset_comparison": {"comparison"},
}
COMPETITION = {
    "rival_classifiers": {"processed_mnist_data"},
    "leaderboard": {"rival_classifiers", "model_evaluation", "processed_mnist_data"},
}
TABLES = {
    table: {f"{table}/{name}": {f"{table}/{each}" for each in deps} for name, deps in graph.items()}
    for table, graph in (("breast_cancer", BREAST_CANCER), ("superstore", SUPERSTORE))
}
GRAPH = {**DIGITS, **COMPETITION, **MONITORING, **TABLES["breast_cancer"], **TABLES["superstore"]}
DRIFT = {"drift_report", "service_drift_report"}
GROUPS = {
    "data": {"raw_mnist_data", "feedback_digits", "processed_mnist_data"},
    "model": {"digit_classifier"},
    "evaluation": {"model_evaluation"},
    "deployment": {"production_digit_classifier"},
    "competition": set(COMPETITION),
    "prediction": {"batch_digit_predictions", "digit_predictions"},
    "monitoring": {*DRIFT, *MONITORING},
    **{table: set(graph) for table, graph in TABLES.items()},
}
JOBS = {
    "training": GROUPS["data"] | GROUPS["model"] | GROUPS["evaluation"],
    "deployment": GROUPS["deployment"],
    "make_model": DIGITS.keys() - {"batch_digit_predictions"} - DRIFT,
    "batch_inference": {"batch_digit_predictions"},
    "night": {"batch_digit_predictions"} | DRIFT,
    "full_pipeline": DIGITS.keys() - DRIFT,
    "competition": set(COMPETITION),
    "accuracy_review": {"production_accuracy"},
    "label_review": {"label_errors"},
    "contest": {"ab_report"},
    **{table: set(graph) for table, graph in TABLES.items()},
}
HEAVY = {
    *("torch", "torchvision", "mlflow", "sklearn", "matplotlib", "onnxruntime", "scipy", "pandas", "PIL"),
    *("pandera", "skops", "optuna", "skl2onnx", "onnx", "cleanlab", "mapie", "ray", "dagster_ray"),
}
EMBEDDED = "1,797 embedded digits"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        "MNIST_PIPELINE_STATE": str(tmp_path / "state"),
        "MNIST_DATASET": "embedded",
        "MLFLOW_TRACKING_URI": "none",
    }


def specs(env: dict[str, str]) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in build_definitions(env).resolve_all_asset_specs()}


# --- environments ---


def test_dev_and_prod_have_the_same_graph_jobs_checks_and_resource_keys(env: dict[str, str]) -> None:
    dev, prod = (build_definitions({**PROD, **env, "MNIST_PIPELINE_ENV": name}) for name in ("dev", "prod"))
    assert set(dev.resources or {}) == set(prod.resources or {})
    assert [job.name for job in dev.jobs or []] == [job.name for job in prod.jobs or []]
    assert dev.asset_checks == prod.asset_checks
    assert specs({**env, "MNIST_PIPELINE_ENV": "dev"}) == specs({**env, **PROD, "MNIST_PIPELINE_ENV": "prod"})


@pytest.mark.parametrize("unset", [{}, {"MNIST_PIPELINE_ENV": ""}])
def test_without_an_environment_it_is_dev(env: dict[str, str], unset: dict[str, str]) -> None:
    resources = build_definitions({**env, **unset}).resources or {}
    assert resources["source"].allow_embedded is True


def test_an_unknown_environment_fails_with_the_accepted_values(env: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="unknown environment 'staging': MNIST_PIPELINE_ENV is one of dev, prod"):
        build_definitions({**env, "MNIST_PIPELINE_ENV": "staging"})


def test_loading_the_code_location_is_light_and_leaves_nothing_behind(env: dict[str, str]) -> None:
    code = f"import sys; import mnist_pipeline.definitions; print(*sorted({HEAVY!r} & set(sys.modules)))"
    loaded = call("-c", code, **env)
    assert (loaded.returncode, loaded.stdout.split()) == (0, [])
    assert not Path(env["MNIST_PIPELINE_STATE"]).exists()


# --- graph ---


def test_the_edges_are_those_of_the_design(env: dict[str, str]) -> None:
    found = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs(env).items()}
    assert found == GRAPH


def test_the_groups_are_the_stages(env: dict[str, str]) -> None:
    found: dict[str | None, set[str]] = {}
    for name, spec in specs(env).items():
        found.setdefault(spec.group_name, set()).add(name)
    assert found == GROUPS


@pytest.mark.parametrize("asset", GRAPH)
def test_every_asset_has_a_description_a_kind_and_a_code_version(env: dict[str, str], asset: str) -> None:
    spec = specs(env)[asset]
    assert spec.description
    assert spec.kinds
    assert spec.code_version


def test_code_versions_differ_between_assets_of_other_code(env: dict[str, str]) -> None:
    versions = {name: spec.code_version for name, spec in specs(env).items()}
    for table in TABLES:
        assert len({versions[name] for name in TABLES[table]}) == len(TABLES[table])
    versions = {name: versions[name] for name in DIGITS}
    predictions = {versions.pop("batch_digit_predictions"), versions.pop("digit_predictions")}
    reports = {versions.pop(name) for name in DRIFT}
    assert len(reports) == 1
    assert len(predictions) == 1  # one front door and one predictor
    assert len(set(versions.values())) == len(versions)


def test_the_batch_has_nights_and_superstore_datasets(env: dict[str, str]) -> None:
    partitioned = {name for name, spec in specs(env).items() if spec.partitions_def}
    nightly = {"batch_digit_predictions", *DRIFT}
    assert partitioned == {*nightly, *TABLES["superstore"]} - {"superstore/dataset_comparison"}
    nights = specs(env)["batch_digit_predictions"].partitions_def
    assert isinstance(nights, dg.DailyPartitionsDefinition)
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    assert nights.has_partition_key(today)  # tonight's inbox can be read before midnight


# --- jobs and their configuration ---


@pytest.mark.parametrize("job", JOBS)
def test_a_job_runs_the_assets_that_it_names_with_their_checks(env: dict[str, str], job: str) -> None:
    definitions = build_definitions(env)
    layer = definitions.resolve_job_def(job).asset_layer
    assert {key.to_user_string() for key in layer.executable_asset_keys} == set(JOBS[job])
    assert definitions.resolve_job_def(job).description


OPS: dict[str, dict[str, Any]] = {
    "processed_mnist_data": {"validation_share": 0.25, "seed": 7, "feedback_share": 0.2},
    "digit_classifier": {"preset": "accurate", "optimizer": "sgd", "epochs": 3, "learning_rate": 0.1, **TINY},
    "production_digit_classifier": {
        "strategy": "force",
        "version": "digitcnn-1",
        "reason": "because",
        "min_accuracy": 0.9,
        "minimums": {"top_2_accuracy": 0.99},
    },
    "rival_classifiers": {"architectures": ["resnet", "forest"], "settings": {"epochs": 3, "seed": 1}},
    "leaderboard": {"most": 5},
    "digit_predictions": {"paths": ["a.png"], "images": ["aGVsbG8="]},
    "production_accuracy": {"days": 7},
    "label_errors": {"folds": 3, "preset": "accurate", "settings": {"epochs": 3}},
}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_takes_the_documented_configuration(env: dict[str, str], job: str) -> None:
    ops = {asset: {"config": config} for asset, config in OPS.items() if asset in JOBS[job]}
    for logger in ("console", "brief"):
        dg.validate_run_config(
            build_definitions(env).resolve_job_def(job), {"ops": ops, "loggers": {logger: {"config": {}}}}
        )


@pytest.mark.parametrize("asset", OPS)
def test_a_setting_that_does_not_exist_is_named_before_anything_runs(env: dict[str, str], asset: str) -> None:
    job = build_definitions(env).resolve_job_def(next(job for job in reversed(JOBS) if asset in JOBS[job]))
    with pytest.raises(dg.DagsterInvalidConfigError, match=f'"colour" at path root:ops:{asset}:config. Expected:'):
        dg.validate_run_config(job, {"ops": {asset: {"config": {"colour": "red"}}}})


# --- the ways in; each starts a process of its own ---


def at(tmp_path: Path, **more: str) -> dict[str, str]:
    """The environment of a user with an empty home, every warning on."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    return {
        "DAGSTER_HOME": str(home),
        "MNIST_PIPELINE_STATE": str(tmp_path / "state"),
        "MNIST_DATASET": "embedded",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "default",
        **more,
    }


def dagster(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return succeeded(call("-m", "dagster", *arguments, **env))


def dg_command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return succeeded(call(Path(sys.executable).with_name("dg"), *arguments, **env))


def succeeded(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """Exit status 0, and no warning of ours."""
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3_000:]
    assert [line for line in said.splitlines() if "Warning" in line and "mnist_pipeline/" in line] == []
    return done


def materialized(tmp_path: Path) -> set[str]:
    """What the instance under this folder has seen."""
    with instance_of(at(tmp_path)) as instance:
        keys = [key for key in instance.all_asset_keys() if instance.get_latest_materialization_event(key)]
        return {key.to_user_string() for key in keys}


@pytest.mark.slow
@pytest.mark.parametrize(
    "by", [["-m", "mnist_pipeline.definitions"], ["-w", "workspace.yaml"], []], ids=["module", "workspace", "pyproject"]
)
def test_dagster_validates_the_definitions(tmp_path: Path, by: list[str]) -> None:
    said = dagster("definitions", "validate", *by, **at(tmp_path))
    assert "Validation successful for code location mnist_pipeline.definitions" in said.stdout + said.stderr


@pytest.mark.slow
def test_dg_checks_the_definitions_and_lists_them(tmp_path: Path) -> None:
    assert "All definitions loaded successfully" in dg_command("check", "defs", **at(tmp_path)).stdout
    listed = dg_command("list", "defs", "--json", **at(tmp_path)).stdout
    assert all(f'"{asset}"' in listed for asset in GRAPH)


@pytest.mark.slow
def test_one_asset_and_a_group_can_be_materialized_from_the_command_line(tmp_path: Path) -> None:
    module = ("asset", "materialize", "-m", "mnist_pipeline.definitions", "--select")
    dagster(*module, "key:raw_mnist_data", **at(tmp_path))
    assert materialized(tmp_path) == {"raw_mnist_data"}
    dagster(*module, "group:data", **at(tmp_path))
    assert materialized(tmp_path) == GROUPS["data"]


@pytest.mark.slow
def test_everything_can_be_materialized_from_the_command_line(tmp_path: Path) -> None:
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    module = ("asset", "materialize", "-m", "mnist_pipeline.definitions")
    said = dagster(*module, "--select", "+group:prediction", "--partition", today, **at(tmp_path))
    assert materialized(tmp_path) == DIGITS.keys() - GROUPS["monitoring"]
    assert "decision 1: deployed" in said.stdout + said.stderr
    assert (tmp_path / "state" / "predictions" / f"{today}.parquet").is_file()


@pytest.mark.slow
def test_dg_launches_assets(tmp_path: Path) -> None:
    dg_command("launch", "--assets", "group:data", **at(tmp_path))
    assert materialized(tmp_path) == GROUPS["data"]


@pytest.mark.slow
def test_every_job_can_be_launched_by_its_name(tmp_path: Path) -> None:
    """One after the other, as each needs what the one before has made; the last makes all of it again."""
    tiny = json.dumps({"ops": {"digit_classifier": {"config": TINY}}})
    trees = json.dumps({"ops": {"rival_classifiers": {"config": {"architectures": ["tree"]}}}})
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    more: dict[str, tuple[str, ...]] = {
        "training": ("--config-json", tiny),
        "deployment": (),
        "batch_inference": ("--partition", today),
        "night": ("--partition", today),
        "make_model": ("--config-json", tiny),
        "full_pipeline": ("--config-json", tiny, "--partition", today),
        "competition": ("--config-json", trees),
        "accuracy_review": (),
        "label_review": ("--config-json", json.dumps({"ops": {"label_errors": {"config": {"folds": 2}}}})),
        "contest": (),
        "breast_cancer": (),
        "superstore": ("--partition", "embedded"),
    }
    assert more.keys() == JOBS.keys()
    with instance_of(at(tmp_path)) as instance:
        instance.add_dynamic_partitions("superstore_datasets", ["embedded"])
    for job, arguments in more.items():
        dg_command("launch", "--job", job, *arguments, **at(tmp_path))
    with instance_of(at(tmp_path)) as instance:
        for run in instance.get_runs():
            events = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
            assert {str(e.asset_key and e.asset_key.to_user_string()) for e in events} == set(JOBS[run.job_name])
        assert sorted(run.job_name for run in instance.get_runs()) == sorted(JOBS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [("MNIST_PIPELINE_ENV", "staging")])
def test_a_wrong_environment_is_named_by_the_command_line(tmp_path: Path, name: str, value: str) -> None:
    failed = call("-m", "dagster", "definitions", "validate", **at(tmp_path, **{name: value}))
    assert failed.returncode != 0
    assert f"unknown environment '{value}': {name} is one of dev, prod" in failed.stdout + failed.stderr


def test_dagster_yaml_is_accepted_and_sends_no_telemetry(tmp_path: Path) -> None:
    with instance_of(at(tmp_path)) as instance:
        assert instance.telemetry_enabled is False
        assert instance.nux_enabled is False
