"""The manifests: by Kubernetes' schemas, and by what the service and Ray really are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from deploy_files import DEPLOY, as_pod, assert_confined, documents, of_kind, one, read, validate
from kubernetes_validate import ValidationError
from pipelines import ROOT
from served import served

from mnist_pipeline.environment import ray_jobs_address, steps_on
from mnist_pipeline.service.__main__ import GRACE_S
from mnist_pipeline.service.log_process import LAST_S

FILES = sorted(path.name for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")
OBJECTS = [(name, each) for name in FILES for each in documents(f"kubernetes/{name}")]
KNOWN = [
    pytest.param(each, id=f"{name}-{each['kind']}") for name, each in OBJECTS if "ray.io" not in each["apiVersion"]
]
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def service_pod() -> dict[str, Any]:
    spec: dict[str, Any] = of_kind("kubernetes/service.yaml", "Deployment")["spec"]["template"]["spec"]
    return spec


def ray_pods() -> list[dict[str, Any]]:
    cluster = of_kind("kubernetes/ray.yaml", "RayCluster")["spec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


@pytest.mark.parametrize("manifest", KNOWN)
def test_kubernetes_knows_every_field(manifest: dict[str, Any]) -> None:
    validate(manifest)


def test_the_schema_would_say_so() -> None:
    manifest = of_kind("kubernetes/service.yaml", "Deployment")
    manifest["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(ValidationError, match="redinessProbe"):
        validate(manifest)


def test_the_probes_ask_doors_that_are_there(tmp_path: Path) -> None:
    """Without a model, and without a token: alive, not ready."""
    (container,) = service_pod()["containers"]
    with served(tmp_path, log=False, token="secret") as client:
        said = {name: client.get(container[name]["httpGet"]["path"]).status_code for name in PROBES}
    assert said == {"startupProbe": 200, "livenessProbe": 200, "readinessProbe": 503}


def test_the_ports_agree() -> None:
    (container,) = service_pod()["containers"]
    (port,) = container["ports"]
    assert {container[name]["httpGet"]["port"] for name in PROBES} == {port["name"]}
    (offered,) = of_kind("kubernetes/service.yaml", "Service")["spec"]["ports"]
    assert offered["targetPort"] == port["name"]
    dockerfile = read("Dockerfile")
    assert f"MNIST_SERVE_PORT={port['containerPort']}" in dockerfile
    assert f"EXPOSE {port['containerPort']}" in dockerfile


def test_service_deployment_and_budget_mean_the_same_pods() -> None:
    deployment = of_kind("kubernetes/service.yaml", "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert of_kind("kubernetes/service.yaml", "Service")["spec"]["selector"] == labels
    budget = of_kind("kubernetes/service.yaml", "PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert budget["minAvailable"] < deployment["replicas"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_who_is_told_to_stop_has_the_time_for_it() -> None:
    (container,) = service_pod()["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert service_pod()["terminationGracePeriodSeconds"] >= pause + GRACE_S + LAST_S


@pytest.mark.parametrize("spec", [service_pod(), *ray_pods()])
def test_every_pod_is_confined_and_bounded(spec: dict[str, Any]) -> None:
    assert_confined(spec)
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume)


@pytest.mark.parametrize("spec", ray_pods())
def test_kubernetes_knows_every_field_of_rays_pods(spec: dict[str, Any]) -> None:
    validate(as_pod(spec))
    (container,) = spec["containers"]
    assert all(name in container for name in PROBES), "KubeRay's own call wget, which is not in the image"


def test_ray_is_the_locks_and_asks_for_a_token() -> None:
    cluster = of_kind("kubernetes/ray.yaml", "RayCluster")["spec"]
    (version,) = re.findall(r"^ray\[.*\]==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert cluster["rayVersion"] == version
    assert cluster["authOptions"] == {"mode": "token"}
    assert one("kubernetes/settings.yaml")["data"]["RAY_AUTH_MODE"] == "token"


def test_ray_is_reached_by_its_own_and_by_those_that_say_so() -> None:
    policy = of_kind("kubernetes/ray.yaml", "NetworkPolicy")["spec"]
    cluster = of_kind("kubernetes/ray.yaml", "RayCluster")["metadata"]["name"]
    assert policy["podSelector"]["matchLabels"] == {"ray.io/cluster": cluster}
    among, others = policy["ingress"]
    assert among["from"] == [{"podSelector": policy["podSelector"]}]
    (container,) = ray_pods()[0]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert others["ports"] == [{"port": ports["dashboard"]}]
    assert others["from"][0] == {"podSelector": {"matchLabels": {"mnist/uses-ray": "true"}}}


def test_a_step_on_ray_finds_dagsters_records_as_the_runs_do() -> None:
    """The chart mounts its ConfigMap into the pods of runs; nobody does so for Ray's."""
    values = one("helm/values.yaml")
    for spec in ray_pods():
        (container,) = spec["containers"]
        env = {each["name"]: each for each in container["env"]}
        home = env["DAGSTER_HOME"]["value"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        config = volumes[mounted[f"{home}/dagster.yaml"]]["configMap"]["name"]
        assert (home, config) == ("/opt/dagster/dagster_home", "dagster-instance")
        secret = env["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": values["global"]["postgresqlSecretName"], "key": "postgresql-password"}
        told = [source[kind]["name"] for source in container["envFrom"] for kind in source]
        assert told == ["mnist-settings", "mnist-s3", "mnist-slack"]


def test_where_steps_are_sent_is_where_ray_takes_them() -> None:
    name = of_kind("kubernetes/ray.yaml", "RayCluster")["metadata"]["name"]
    shown = dict(re.findall(r"^  # (\w+): (\S+)", read("kubernetes/settings.yaml"), re.MULTILINE))
    assert steps_on({"MNIST_PIPELINE_ENV": "prod", **shown}) == "ray"
    assert ray_jobs_address(shown) == f"http://{name}-head-svc:8265"


def test_the_customization_has_every_file_and_gives_every_image_a_version() -> None:
    text = read("kubernetes/kustomization.yaml")
    assert set(re.findall(r"^  (?:# )?- (\S+\.yaml)$", text, re.MULTILINE)) == set(FILES)
    given = {image["name"]: str(image["newTag"]) for image in one("kubernetes/kustomization.yaml")["images"]}
    used = {container["image"] for spec in (service_pod(), *ray_pods()) for container in spec["containers"]}
    assert used == {f"{name}:{tag}" for name, tag in given.items()}
