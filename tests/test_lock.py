"""requirements.lock: one version of each package wherever the project runs, from whichever registry people have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import requires, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pipelines import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORMS = ({"sys_platform": "linux", "platform_machine": "x86_64"}, {"sys_platform": "linux"})
MAC = {"sys_platform": "darwin", "platform_machine": "arm64", "platform_system": "Darwin"}
HERE = [{"python_full_version": f"{p}.7", "python_version": p, **where} for p in PYTHONS for where in (*PLATFORMS, MAC)]
PLACES = pytest.mark.parametrize("place", HERE, ids=lambda place: "-".join(place.values()))


def locked() -> Iterator[Requirement]:
    """Every line of the lock, its hashes left out."""
    for line in LOCK.replace("\\\n", " ").splitlines():
        yield Requirement(line.split("--hash")[0].strip())


def pins(place: dict[str, str]) -> dict[str, list[str]]:
    """Name -> the versions that pip would be told to install there."""
    found: dict[str, list[str]] = {}
    for each in locked():
        if each.marker is None or each.marker.evaluate(dict(place)):
            (pin,) = each.specifier
            assert pin.operator == "==", each
            found.setdefault(canonicalize_name(each.name), []).append(pin.version)
    return found


def test_no_registry_is_named_and_every_file_has_a_digest() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*(-|.*\s@\s)", re.sub(r"^ +--hash=sha256:[0-9a-f]{64}", "", LOCK, flags=re.MULTILINE))
    assert all("--hash=sha256:" in line for line in LOCK.replace("\\\n", " ").splitlines())


@PLACES
def test_a_package_has_one_version(place: dict[str, str]) -> None:
    found = pins(place)
    assert len(found) > 100
    assert {name: versions for name, versions in found.items() if len(versions) > 1} == {}


@PLACES
def test_torch_and_torchvision_are_a_matching_pair(place: dict[str, str]) -> None:
    (torch,), (torchvision,) = (pins(place)[name] for name in ("torch", "torchvision"))
    assert torchvision == version("torchvision"), "this environment is not that of the lock: see make help"
    (asked,) = (each for each in map(Requirement, requires("torchvision") or []) if each.name == "torch")
    assert asked.specifier, "torchvision leaves open which torch it needs"
    assert torch in asked.specifier
