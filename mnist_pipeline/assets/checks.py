"""Short forms for what every check of this project says."""

from collections.abc import Sequence
from typing import Any

import dagster as dg


def blocking(asset: dg.AssetsDefinition, name: str, description: str, also: Sequence[str] = ()) -> dg.AssetCheckSpec:
    """A check whose failure keeps what is downstream from running. also: further assets that it reads."""
    return dg.AssetCheckSpec(name, asset=asset, blocking=True, description=description, additional_deps=also)


def advisory(asset: dg.AssetsDefinition, name: str, description: str, also: Sequence[str] = ()) -> dg.AssetCheckSpec:
    """A check that warns and lets the rest run."""
    return dg.AssetCheckSpec(name, asset=asset, description=description, additional_deps=also)


def verdict(
    spec: dg.AssetCheckSpec, passed: bool, description: str | None = None, **metadata: Any
) -> dg.AssetCheckResult:
    """The result of one check: an error where it blocks, else a warning."""
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=bool(passed),
        severity=dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN,
        description=description,
        metadata=metadata,
    )
