"""The values for Dagster's chart, as far as they can be held against something without the chart.

No registry of packages carries the chart. So: each key is one that the chart of 1.13 has, as read from its schemas and
templates; what it hands to Kubernetes is validated by Kubernetes' schemas; what it hands to Dagster, by Dagster, up to
the Job of a run. Not checked: that the chart renders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from deploy_files import as_pod, assert_confined, normal, of_kind, one, read, validate
from pipelines import ROOT

VALUES = one("helm/values.yaml")
(CODE,) = VALUES["dagster-user-deployments"]["deployments"]
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
PARTS = {"webserver": VALUES["dagsterWebserver"], "daemon": VALUES["dagsterDaemon"], "code": CODE}
KEYS = {  # of the chart, where these values use it: "" is the top
    "": {
        *("global", "serviceAccount", "generatePostgresqlPasswordSecret", "postgresql", "busybox", "runLauncher"),
        *("dagster-user-deployments", "dagsterWebserver", "dagsterDaemon", "computeLogManager", "telemetry"),
        *("concurrency", "retention", "additionalInstanceConfig"),
    },
    "code": {
        *("name", "image", "dagsterApiGrpcArgs", "port", "includeConfigInLaunchedRuns", "env", "envConfigMaps"),
        *("envSecrets", "labels", "podSecurityContext", "securityContext", "resources", "volumes", "volumeMounts"),
        *("startupProbe", "readinessProbe"),
    },
    "webserver": {
        *("replicaCount", "image", "service", "envConfigMaps", "envSecrets", "podSecurityContext", "securityContext"),
        *("volumes", "volumeMounts", "resources", "readinessProbe"),
    },
    "daemon": {
        *("enabled", "image", "env", "envConfigMaps", "envSecrets", "labels", "podSecurityContext"),
        *("securityContext", "volumes", "volumeMounts", "resources", "runCoordinator", "runMonitoring", "runRetries"),
    },
    "launcher": {
        *("imagePullPolicy", "loadInclusterConfig", "failPodOnRunFailure", "securityContext", "runK8sConfig"),
    },
    "postgresql": {
        *("enabled", "postgresqlHost", "postgresqlUsername", "postgresqlDatabase", "service", "image"),
    },
}
ON_KUBERNETES = {"start_timeout_seconds": 600}  # where a new node pulls the image first


def test_every_key_is_one_of_the_charts() -> None:
    used = {"": VALUES, "launcher": LAUNCHER, "postgresql": VALUES["postgresql"], **PARTS}
    assert {place: set(values) - KEYS[place] for place, values in used.items()} == {place: set() for place in KEYS}


def instance_settings() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "instances" / "postgres" / "dagster.yaml").read_text())


def test_the_instance_is_as_everywhere_but_for_what_the_chart_writes() -> None:
    expected = instance_settings()
    assert VALUES["telemetry"] == expected.pop("telemetry")
    assert concurrency() == expected.pop("concurrency")
    del expected["storage"], expected["compute_logs"]
    expected["run_monitoring"] |= ON_KUBERNETES
    assert VALUES["additionalInstanceConfig"] == expected


def test_what_stands_there_is_not_written_twice() -> None:
    daemon = VALUES["dagsterDaemon"]
    assert [daemon[part]["enabled"] for part in ("runCoordinator", "runMonitoring", "runRetries")] == [False] * 3
    assert VALUES["retention"]["enabled"] is False
    assert not {"telemetry", "concurrency"} & set(VALUES["additionalInstanceConfig"])


def concurrency() -> dict[str, Any]:
    """As the chart's template writes it."""
    runs, pools = VALUES["concurrency"]["runs"], VALUES["concurrency"]["pools"]
    return {
        "runs": {"max_concurrent_runs": runs["maxConcurrentRuns"]},
        "pools": {"default_limit": pools["defaultLimit"], "granularity": pools["granularity"]},
    }


def rendered() -> dict[str, Any]:
    """dagster.yaml as the chart's templates put it together, with sqlite in the place of Postgres."""
    logs = VALUES["computeLogManager"]["config"]["s3ComputeLogManager"]
    names = {"uploadInterval": "upload_interval", "skipEmptyFiles": "skip_empty_files"}
    return {
        **VALUES["additionalInstanceConfig"],
        "storage": {"sqlite": {"base_dir": {"env": "MNIST_PIPELINE_STATE"}}},
        "telemetry": VALUES["telemetry"],
        "concurrency": concurrency(),
        "compute_logs": {
            "module": "dagster_aws.s3.compute_log_manager",
            "class": VALUES["computeLogManager"]["type"],
            "config": {names.get(name, name): value for name, value in logs.items()},
        },
        "run_launcher": {"module": "dagster_k8s", "class": VALUES["runLauncher"]["type"], "config": launcher()},
    }


def launcher(*, in_cluster: bool = False) -> dict[str, Any]:
    """The settings of the launcher, as the chart's template writes them. in_cluster: true there; no cluster is here."""
    config = LAUNCHER["runK8sConfig"]
    return {
        "load_incluster_config": in_cluster,
        **({} if in_cluster else {"kubeconfig_file": str(ROOT / "tests" / "deploy" / "kubeconfig.yaml")}),
        "image_pull_policy": LAUNCHER["imagePullPolicy"],
        "fail_pod_on_run_failure": LAUNCHER["failPodOnRunFailure"],
        "security_context": LAUNCHER["securityContext"],
        "run_k8s_config": {
            "pod_spec_config": config["podSpecConfig"],
            "job_spec_config": config["jobSpecConfig"],
        },
        "job_namespace": "mnist",
        "service_account_name": VALUES["global"]["serviceAccountName"],
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
    }


def context_of_the_code() -> dict[str, Any]:
    """What the chart tells Dagster about runs of this code location: includeConfigInLaunchedRuns."""
    return {
        "k8s": {
            "image_pull_policy": CODE["image"]["pullPolicy"],
            "env_config_maps": [each["name"] for each in CODE["envConfigMaps"]],
            "env_secrets": [each["name"] for each in CODE["envSecrets"]],
            "volume_mounts": CODE["volumeMounts"],
            "volumes": CODE["volumes"],
            "labels": CODE["labels"],
            "resources": CODE["resources"],
            "namespace": "mnist",
            "service_account_name": VALUES["global"]["serviceAccountName"],
            "env": CODE["env"],
        }
    }


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dg.DagsterInstance:
    monkeypatch.setenv("MNIST_PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MNIST_S3_BUCKET", "our-bucket")
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(rendered()))
    return dg.DagsterInstance.from_config(str(tmp_path))


def test_dagster_takes_it(instance: dg.DagsterInstance) -> None:
    with instance:
        assert type(instance.run_launcher).__name__ == "K8sRunLauncher"
        assert type(instance.compute_log_manager).__name__ == "S3ComputeLogManager"
        assert instance.run_monitoring_start_timeout_seconds == ON_KUBERNETES["start_timeout_seconds"]
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1


def test_a_pod_without_an_account_of_kubernetes_can_load_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those of Ray, where steps run: they launch nothing."""
    assert LAUNCHER["loadInclusterConfig"] is True
    monkeypatch.setenv("MNIST_PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MNIST_S3_BUCKET", "our-bucket")
    settings = rendered()
    settings["run_launcher"]["config"] = launcher(in_cluster=True)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs() == []
        with pytest.raises(Exception, match="Service host/port is not set"):
            _ = instance.run_launcher


def job(instance: dg.DagsterInstance) -> dict[str, Any]:
    """The Job of a run, as the launcher would send it to Kubernetes."""
    from dagster_k8s import K8sRunLauncher
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import construct_dagster_k8s_job
    from kubernetes.client import ApiClient

    started = instance.run_launcher
    assert isinstance(started, K8sRunLauncher)
    run = dg.DagsterRun(job_name="make_model")
    context = K8sContainerContext.create_for_run(run, started, include_run_tags=True).merge(
        K8sContainerContext.create_from_config(context_of_the_code())
    )
    image = f"{CODE['image']['repository']}:{CODE['image']['tag']}"
    config = context.get_k8s_job_config(job_image=image, run_launcher=started)
    made = construct_dagster_k8s_job(config, ["dagster"], "run", user_defined_k8s_config=context.run_k8s_config)
    return ApiClient().sanitize_for_serialization(made)


def test_the_job_of_a_run_is_confined_and_told_what_the_code_is_told(instance: dg.DagsterInstance) -> None:
    with instance:
        made = job(instance)
    validate(made)
    spec = made["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    mounts = [each for each in container["volumeMounts"] if each["name"] != "dagster-instance"]
    assert_confined({**spec, "containers": [{**container, "volumeMounts": mounts}]})
    sources = [each[kind]["name"] for each in container["envFrom"] for kind in each]
    assert sources == ["mnist-settings", "mnist-s3", "mnist-slack"]
    assert {each["name"] for each in container["env"]} >= {"RAY_AUTH_TOKEN", "DAGSTER_PG_PASSWORD"}
    assert container["resources"] == CODE["resources"]
    assert made["spec"]["template"]["metadata"]["labels"]["mnist/uses-ray"] == "true"
    assert made["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_kubernetes_knows_what_is_handed_to_it(part: dict[str, Any]) -> None:
    container = {
        "name": "dagster",
        "image": f"{part['image']['repository']}:{part['image']['tag']}",
        "imagePullPolicy": part["image"]["pullPolicy"],
        "env": part.get("env", []),
        "envFrom": [
            *({"configMapRef": each} for each in part["envConfigMaps"]),
            *({"secretRef": each} for each in part["envSecrets"]),
        ],
        **{name: part[name] for name in ("resources", "securityContext", "volumeMounts")},
    }
    if part is VALUES["dagsterWebserver"]:
        container["readinessProbe"] = part["readinessProbe"]
    spec = {"containers": [container], "volumes": part["volumes"], "securityContext": part["podSecurityContext"]}
    validate(as_pod(spec))
    assert_confined(spec)
    assert "memory" in part["resources"]["limits"]


def test_one_image_everywhere_that_of_the_cluster_too() -> None:
    images = {(part["image"]["repository"], str(part["image"]["tag"])) for part in PARTS.values()}
    known = {each["newName"]: str(each["newTag"]) for each in one("kubernetes/kustomization.yaml")["images"]}
    assert len(images) == 1
    assert images <= set(known.items())


def test_the_code_is_the_one_that_is_loaded_here() -> None:
    assert CODE["dagsterApiGrpcArgs"] == ["-m", "mnist_pipeline.definitions"]
    assert CODE["envConfigMaps"] == [{"name": of_kind("kubernetes/settings.yaml", "ConfigMap")["metadata"]["name"]}]


def test_the_chart_is_of_the_locks_dagster() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    (line,) = (line for line in lock.splitlines() if normal(line.split("==")[0]) == "dagster")
    assert f"--version {line.split('==')[1].split()[0]} " in read("helm/values.yaml")


def test_the_doctor_finds_in_the_daemons_pod_what_prod_needs() -> None:
    """It has Dagster's records, which the code location has not."""
    told = [each["name"] for each in (*PARTS["daemon"]["envConfigMaps"], *PARTS["daemon"]["envSecrets"])]
    assert told == ["mnist-settings", "mnist-s3", "mnist-slack"]


def test_the_doctor_in_the_daemons_pod_is_let_in_by_ray() -> None:
    """Where steps are sent there: with the token, and through the policy of the network."""
    allowed = of_kind("kubernetes/ray.yaml", "NetworkPolicy")["spec"]["ingress"][1]["from"][0]
    assert PARTS["daemon"]["labels"] == CODE["labels"] == allowed["podSelector"]["matchLabels"]
    assert PARTS["daemon"]["env"] == CODE["env"]
    assert [each["name"] for each in CODE["env"]] == ["RAY_AUTH_TOKEN"]


def test_the_wait_for_the_code_location_ends() -> None:
    """It is `until nslookup …`; a newer one fails when one search domain of several has no such name."""
    assert VALUES["busybox"]["image"]["tag"] == "1.28"


def test_the_ports_need_no_root_and_the_probe_asks_the_same() -> None:
    web = VALUES["dagsterWebserver"]
    assert web["readinessProbe"]["httpGet"] == {"path": "/server_info", "port": web["service"]["port"]}
    assert min(web["service"]["port"], CODE["port"]) > 1024
