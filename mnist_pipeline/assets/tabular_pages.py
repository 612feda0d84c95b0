"""What the assets of a table show in Dagster: tables, counts, pictures.

Not here: how pictures are drawn (`ml/tables/*_pictures.py`), where they are kept (`pictures.py`).
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from mnist_pipeline.assets.tabular_keys import key_in
from mnist_pipeline.datasets.files import EMBEDDED
from mnist_pipeline.ml.tables.task import PART, TARGET, TableTask
from mnist_pipeline.resources import Pictures

if TYPE_CHECKING:
    import pandas as pd

    from mnist_pipeline.ml.tables.comparing import Compared
    from mnist_pipeline.ml.tables.learning import Learned


def shown(pictures: Pictures, context: dg.AssetExecutionContext, drawn: Mapping[str, bytes]) -> dict[str, Any]:
    """Pictures by name; those of a dataset lie in a folder of its own."""
    path, key = context.asset_key.path, key_in(context)
    folder = "/".join(path if key == EMBEDDED else [*path, key])
    book = pictures.open()
    return {name: book.show(folder, name, png) for name, png in drawn.items()}


def bad_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is wrong with a table, a value a row."""
    return {"bad_values": _table(rows)}


def rows(table: "pd.DataFrame", task: TableTask) -> dict[str, Any]:
    """Counts, the first rows, and the schema that the table was checked against."""
    from dagster_pandera import pandera_schema_to_dagster_type

    from mnist_pipeline.ml.tables.door import schema_of

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        schema = pandera_schema_to_dagster_type(schema_of(task)).metadata["schema"]
    return {"dagster/row_count": len(table), "dagster/column_schema": schema, "first_rows": _first(table)}


def features(table: "pd.DataFrame", task: TableTask) -> dict[str, Any]:
    """What models see, and why they do not see the rest."""
    left_out = [{"column": name, "why": why} for name, why in task.left_out.items()]
    return {
        "dagster/row_count": len(table),
        "features": len(task.features),
        "positive_share": float(table[TARGET].mean()),
        "left_out": _table(left_out),
        "first_rows": _first(table),
    }


def parts(table: "pd.DataFrame", task: TableTask) -> dict[str, Any]:
    """Rows and share of positive ones in each part."""
    answers = {part: table.loc[table[PART] == part, TARGET] for part in task.parts}
    return {
        **{f"{part}_rows": len(of) for part, of in answers.items()},
        **{f"{part}_{task.target.names[1]}_share": float(of.mean()) for part, of in answers.items()},
    }


def explored(raw: "pd.DataFrame", table: "pd.DataFrame", task: TableTask) -> dict[str, bytes]:
    """The pictures of a table, as PNG: what is missing in all columns, the rest of what models see."""
    from mnist_pipeline.ml.tables import column_pictures, eda_pictures

    names, features, target = task.target.names, table.drop(columns=TARGET), table[TARGET].to_numpy()
    return {
        "target_balance": eda_pictures.target_balance(target, names),
        "missingness": eda_pictures.missingness(raw),
        "numeric_distributions": column_pictures.numeric_distributions(features, target, names),
        **({"category_rates": column_pictures.category_rates(features, target, names)} if task.categories else {}),
        "correlations": eda_pictures.correlations(features, target, names),
    }


def summary_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A column a row; numbers and categories are told by other facts, so each has a table."""
    columns = [{"column": name, **facts} for name, facts in summary["columns"].items()]
    found = {kind: [each for each in columns if each["kind"] == kind] for kind in ("number", "category")}
    return {
        "rows": summary["rows"],
        "positive_share": summary["positive_share"],
        **{f"{kind}_columns": _table(of) for kind, of in found.items() if of},
    }


def results(found: "Compared", task: TableTask) -> dict[str, bytes]:
    """The pictures of a comparison, as PNG."""
    from mnist_pipeline.ml.tables import result_pictures as draw
    from mnist_pipeline.ml.tables.comparison_pictures import leaderboard
    from mnist_pipeline.ml.tables.ranking import place

    best = found.rows[0]["model"]
    test = f"On test, {len(found.answers[best][0]):,} rows"
    return {
        "leaderboard": leaderboard(found.rows, "ROC-AUC", f"Ranked {place(found.rows)}"),
        "curves": draw.curves(found.answers, f"{test}, where nothing is ranked"),
        "confusions": draw.confusions(found.confusions, task.target.names, test),
        "importances": draw.importances(found.importances[best], f"What {best} looks at"),
    }


def folds(learned: "Learned") -> dict[str, Any]:
    """Every score over the folds with its interval, where folds were drawn."""
    return {"folds": _table(learned.folds)} if learned.folds else {}


def ranking(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ranking as a table, and the scores of the best as numbers that can be plotted over runs."""
    best = {f"best_{name}": value for name, value in rows[0].items() if isinstance(value, float)}
    return {"leaderboard_table": _table(rows), "best_model": rows[0]["model"], **best}


def datasets(rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """Datasets side by side, as PNG."""
    from mnist_pipeline.ml.tables.comparison_pictures import datasets_side_by_side

    return {"datasets": datasets_side_by_side(rows, "ROC-AUC")}


def datasets_table(comparisons: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset a row: what it was, by the digest of its parts, and its best model."""
    rows = [
        {"dataset": key, "rows": found["rows"], "data": found["data"][:16], "best": found["models"][0]["model"]}
        | {name: found["models"][0][name] for name in ("score", "ranked_on", "test_roc_auc", "test_accuracy")}
        for key, found in sorted(comparisons.items())
    ]
    return {"datasets": len(rows), "datasets_table": _table(rows)}


def _table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Numbers with four digits; Dagster wants the same columns in every row."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return dg.MetadataValue.table([dg.TableRecord({name: _cell(row.get(name)) for name in columns}) for row in rows])


def _cell(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else "" if value is None else value


def _first(table: "pd.DataFrame", rows: int = 5) -> dg.MarkdownMetadataValue:
    """The first rows, turned: columns down, so that many of them can be read."""
    head = table.head(rows)
    lines = [["column", *(f"row {row}" for row in head.index)]]
    lines.append(["---"] * len(lines[0]))
    lines += [[str(name), *(_plain(value) for value in values)] for name, values in head.items()]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _plain(value: Any) -> str:
    return str(value).replace("|", r"\|").replace("\n", " ").removesuffix(" 00:00:00")
