"""Every materialization of an asset as a DataFrame, for notebooks: `mnist_pipeline.history("digit_classifier")`.

Not here: what the assets record (their metadata), and what MLflow keeps of a run (`tracking.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import dagster as dg

from mnist_pipeline.run import go_home

if TYPE_CHECKING:
    import pandas as pd

PAGE = 1_000  # materializations that Dagster gives at once
FIXED = ["time", "run", "partition", "data_version", "code_version"]


def history(asset: str | Sequence[str] | dg.AssetKey, instance: dg.DagsterInstance | None = None) -> "pd.DataFrame":
    """One row a materialization, the oldest first: time (UTC), run, partition, data and code version, then a column for
    every numeric metadata value, NaN where a row has none.

    asset: "digit_classifier", "superstore/comparison", ["superstore", "comparison"] or an AssetKey. instance: by
    default the one that `make` uses, by DAGSTER_HOME. Raises LookupError for an asset that was never heard of.
    """
    import pandas as pd

    key = _key(asset)
    with _opened(instance) as opened:
        rows = [_row(record) for record in _records(opened, key)]
        if not rows:
            _check_it_is_known(opened, key)
    numbers = sorted({name for row in rows for name in row} - set(FIXED))
    return pd.DataFrame(rows, columns=[*FIXED, *numbers]).astype({"time": "datetime64[ns, UTC]"})


def _key(asset: str | Sequence[str] | dg.AssetKey) -> dg.AssetKey:
    if isinstance(asset, dg.AssetKey):
        return asset
    return dg.AssetKey.from_user_string(asset) if isinstance(asset, str) else dg.AssetKey(list(asset))


def _opened(instance: dg.DagsterInstance | None) -> AbstractContextManager[dg.DagsterInstance]:
    """The given one, which stays open; else that of the project, as `make` sets it up."""
    if instance is not None:
        return nullcontext(instance)
    go_home()
    return dg.DagsterInstance.get()


def _records(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[dg.EventLogRecord]:
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(key, limit=PAGE, cursor=cursor, ascending=True)
        yield from page.records
        cursor, more = page.cursor, page.has_more


def _row(record: dg.EventLogRecord) -> dict[str, Any]:
    made = record.asset_materialization
    tags: Mapping[str, str] = (made.tags if made else None) or {}
    return {
        **(_numbers(made.metadata) if made else {}),
        "time": datetime.fromtimestamp(record.timestamp, timezone.utc),
        "run": record.run_id,
        "partition": record.partition_key,
        "data_version": tags.get("dagster/data_version"),
        "code_version": tags.get("dagster/code_version"),
    }


def _numbers(metadata: Mapping[str, dg.MetadataValue]) -> dict[str, float]:
    """Whole and decimal numbers; what is named as a column that every history has gets another name."""
    kinds = (dg.IntMetadataValue, dg.FloatMetadataValue)
    return {
        f"{name}_metadata" if name in FIXED else name: entry.value
        for name, entry in metadata.items()
        if isinstance(entry, kinds) and entry.value is not None
    }


def _check_it_is_known(instance: dg.DagsterInstance, key: dg.AssetKey) -> None:
    """Raises LookupError naming what there is, unless the asset is one that was only never made."""
    from mnist_pipeline.definitions import build_definitions

    defined = {spec.key for spec in build_definitions({}).resolve_all_asset_specs()}
    names = sorted(each.to_user_string() for each in defined.union(instance.all_asset_keys()))
    if key.to_user_string() not in names:
        raise LookupError(f"there is no asset {key.to_user_string()!r}; there are: {', '.join(names)}")
