"""The assets of a table up to its parts: rows, features, exploration, parts. Each checks what it hands on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.assets import tabular_pages
from mnist_pipeline.assets.causes import brought_by_people
from mnist_pipeline.assets.tabular_keys import TABLE, Frame, input_of, key_in, placed, split_name
from mnist_pipeline.code_versions import code_version, source_of
from mnist_pipeline.datasets.files import EMBEDDED
from mnist_pipeline.ml.tables.task import TableTask
from mnist_pipeline.resources import Pictures, Tables
from mnist_pipeline.retries import retrying
from mnist_pipeline.storage.sealed import canonical, sha256

DOOR = tuple(f"ml/tables/{name}.py" for name in ("task", "embedded", "reading", "door", "preparing"))


def _table_input(task: TableTask) -> dict[str, dg.AssetIn]:
    """Rows as they came, or, where preparing them is an asset, prepared."""
    return {"table": input_of(task, "prepared_data" if task.is_prepared else "raw_data")}


def _as_prepared(table: Frame, task: TableTask) -> Frame:
    from mnist_pipeline.ml.tables.preparing import prepared

    return table if task.is_prepared else prepared(table, task)


def _preparing(task: TableTask) -> tuple[Any, ...]:
    """What decides over features and target, where they are made together with the parts."""
    return () if task.is_prepared else (task.columns, task.target)


PREPARING = ("ml/tables/task.py", "ml/tables/preparing.py")
EXPLORING = ("task", "preparing", "eda", "columns", "scores", "categories", "eda_pictures", "column_pictures")


@dataclass(frozen=True)
class _Source:
    """Checked rows and where they came from."""

    rows: Frame
    name: str
    facts: Mapping[str, Any]


def _source(task: TableTask, key: str, tables: Tables) -> _Source:
    """The embedded table, or the file whose content is dataset `key`. Raises BadTable, UnknownDataset."""
    from mnist_pipeline.ml.tables import reading
    from mnist_pipeline.ml.tables.door import checked
    from mnist_pipeline.ml.tables.preparing import counted

    if key == EMBEDDED and task.embedded:
        name = "the table that comes with the project"
        return _Source(checked(counted(task.embedded()), task, name), name, {"source": name})
    found = tables.open(task.name).find(key)
    rows = reading.read_csv(found.data, [column.name for column in task.columns], found.where)
    facts = {"source": found.where, "file_sha256": found.digest, "file_bytes": len(found.data)}
    return _Source(checked(rows, task, found.where), found.where, facts)


class SampleConfig(dg.Config):
    """How much of the table is taken."""

    sample_fraction: float = Field(1.0, gt=0, le=1, description="share of the rows of each class")
    seed: int = Field(0, ge=0, description="of the choice")


def raw_data_of(task: TableTask) -> dg.AssetsDefinition:
    """The rows of a dataset, checked."""

    @dg.asset(
        **placed(task, "raw_data", "pandas"),
        metadata=brought_by_people("tables", task.name) if task.csv else {},
        dagster_type=TABLE,
        code_version=code_version(
            *DOOR, settings=(task.columns, task.target, task.csv, task.days, source_of(task.embedded))
        ),
    )
    @retrying
    def raw_data(context: dg.AssetExecutionContext, config: SampleConfig, tables: Tables) -> dg.MaterializeResult:
        """The rows, each checked at the door, or a sample of them. What is wrong is listed all at once."""
        from mnist_pipeline.ml.tables.door import BadRows
        from mnist_pipeline.ml.tables.preparing import digest, sampled

        try:
            source = _source(task, key_in(context), tables)
        except BadRows as error:
            raise dg.Failure(str(error), tabular_pages.bad_rows(error.rows), allow_retries=False) from error
        table = sampled(source.rows, task, config.sample_fraction, config.seed)
        context.log.info(f"{len(table):,} of {len(source.rows):,} rows from {source.name}")
        return dg.MaterializeResult(
            value=table,
            data_version=dg.DataVersion(digest(table)),
            metadata={**source.facts, **tabular_pages.rows(table, task)},
        )

    return raw_data


def prepared_data_of(task: TableTask) -> dg.AssetsDefinition:
    """What models may see of the rows."""

    @dg.asset(
        **placed(task, "prepared_data", "pandas"),
        dagster_type=TABLE,
        ins={"raw_data": input_of(task, "raw_data")},
        code_version=code_version(*PREPARING, settings=(task.columns, task.target, task.days)),
    )
    @retrying
    def prepared_data(raw_data: Frame) -> dg.MaterializeResult:
        """What models may see: dates as parts, days between dates, the target; and what is left out, and why."""
        from mnist_pipeline.ml.tables.preparing import digest, prepared

        table = prepared(raw_data, task)
        return dg.MaterializeResult(
            value=table, data_version=dg.DataVersion(digest(table)), metadata=tabular_pages.features(table, task)
        )

    return prepared_data


def eda_summary_of(task: TableTask) -> dg.AssetsDefinition:
    """The exploration, in numbers and pictures."""

    @dg.asset(
        **placed(task, "eda_summary", "pandas", "matplotlib"),
        ins={"raw_data": input_of(task, "raw_data")},
        code_version=code_version(
            *("ml/drawing.py", "ml/metrics.py"),
            *(f"ml/tables/{name}.py" for name in EXPLORING),
            settings=(task.columns, task.target, task.days),
        ),
    )
    @retrying
    def eda_summary(
        context: dg.AssetExecutionContext, raw_data: Frame, pictures: Pictures
    ) -> dg.MaterializeResult[dict[str, Any]]:
        """What the table looks like before anything is learned from it, in numbers and pictures."""
        from mnist_pipeline.ml.tables.eda import summary
        from mnist_pipeline.ml.tables.preparing import prepared

        table = prepared(raw_data, task)
        found, drawn = summary(table), tabular_pages.explored(raw_data, table, task)
        return dg.MaterializeResult(
            value=found,
            data_version=dg.DataVersion(sha256(canonical(found))),
            metadata={**tabular_pages.shown(pictures, context, drawn), **tabular_pages.summary_table(found)},
        )

    return eda_summary


def parts_of(task: TableTask) -> dg.AssetsDefinition:
    """train_test, or train_validation_test."""
    nothing_leaks = dg.AssetCheckSpec(
        "nothing_leaks",
        asset=[task.name, split_name(task)],
        description="no row of the test part stands, with equal features, in another part",
    )

    @dg.asset(
        **placed(task, split_name(task), "pandas"),
        dagster_type=TABLE,
        ins=_table_input(task),
        code_version=code_version(*PREPARING, settings=(dict(task.parts), task.seed, *_preparing(task))),
        check_specs=[nothing_leaks],
    )
    @retrying
    def parts(table: Frame) -> dg.MaterializeResult:
        """Features and target of each row, and the part it belongs to; each part has its share of both classes."""
        from mnist_pipeline.ml.tables.preparing import digest, shared_rows, split

        cut = split(_as_prepared(table, task), task, task.seed)
        leaked = shared_rows(cut)
        return dg.MaterializeResult(
            value=cut,
            data_version=dg.DataVersion(digest(cut)),
            metadata=tabular_pages.parts(cut, task),
            check_results=[
                dg.AssetCheckResult(
                    passed=leaked == 0,
                    check_name="nothing_leaks",
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"rows": leaked},
                )
            ],
        )

    return parts
