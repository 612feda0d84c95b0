"""The files in deploy/, read; and Kubernetes' own word on whether an object is one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import kubernetes_validate
import tomlkit
import yaml
from packaging.requirements import Requirement
from pipelines import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = ("1.32", "1.37")  # the oldest that is meant, and the newest whose schemas kubernetes_validate carries
USER = 10_001


def documents(path: str) -> list[dict[str, Any]]:
    """Of a YAML file in deploy/."""
    return [each for each in yaml.safe_load_all((DEPLOY / path).read_text()) if each]


def one(path: str) -> dict[str, Any]:
    """The only document of a file in deploy/."""
    (found,) = documents(path)
    return found


def of_kind(path: str, kind: str) -> dict[str, Any]:
    """The only object of that kind in a file in deploy/."""
    (found,) = (each for each in documents(path) if each["kind"] == kind)
    return found


def validate(manifest: dict[str, Any]) -> None:
    """Against the schemas of its kind, with no field that Kubernetes does not know. Raises ValidationError."""
    for version in KUBERNETES:
        kubernetes_validate.validate(manifest, version, strict=True)


def as_pod(spec: dict[str, Any]) -> dict[str, Any]:
    """A pod of that spec, for objects that Kubernetes itself does not know."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}


def assert_confined(spec: dict[str, Any]) -> None:
    """Not root, no way to become it, no capability, and nothing to write to but the two volumes for it."""
    pod = spec["securityContext"]
    assert (pod["runAsNonRoot"], pod["runAsUser"], pod["fsGroup"]) == (True, USER, USER)
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        given = {volume["name"] for volume in spec["volumes"] if "configMap" in volume}
        written = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] not in given}
        assert written == {"/var/lib/mnist", "/tmp"}


def extras() -> dict[str, list[str]]:
    """What pyproject.toml asks for, by extra; "" is what everybody gets."""
    project = tomlkit.parse((ROOT / "pyproject.toml").read_text()).unwrap()["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def normal(name: str) -> str:
    """As packages are compared: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed_by(requirements: Iterable[str]) -> set[str]:
    """These and all that they need on this machine, by the metadata of what is installed."""
    seen: dict[str, set[str]] = {}
    waiting = [Requirement(each) for each in requirements]
    while waiting:
        requirement = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = normal(requirement.name)
        asked = {"", *requirement.extras} - seen.get(name, set())
        seen.setdefault(name, set()).update(asked)
        waiting += [each for extra in asked for each in _needs(name, extra)]
    return set(seen)


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            requirement.marker = None
            yield requirement


def listed(name: str) -> set[str]:
    """The packages in one of deploy/packages."""
    lines = (DEPLOY / "packages" / f"{name}.txt").read_text().splitlines()
    return {line for line in lines if not line.startswith("#")}


def read(path: str) -> str:
    """The text of a file in deploy/."""
    return (DEPLOY / path).read_text()


def files() -> list[Path]:
    """All of deploy/."""
    return sorted(path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
