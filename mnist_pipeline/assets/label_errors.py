"""Labels of the training data that are probably wrong."""

from dataclasses import asdict
from typing import Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.assets.causes import follows_only
from mnist_pipeline.assets.launchpad import choice
from mnist_pipeline.assets.model import LEARNING
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.ml.config import Preset, configure
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.resources import Pictures
from mnist_pipeline.retries import retrying
from mnist_pipeline.storage.sealed import canonical, sha256

SHEET, LISTED, KEPT = 60, 200, 1_000  # of the worst: drawn, in the table, in the value
ChosenPreset: Any = choice(Preset, "LabelErrorsPreset")


class LabelErrorsConfig(dg.Config):
    """With which network, and how thoroughly."""

    folds: int = Field(5, ge=2, le=20, description="networks that are trained, each on all folds but one")
    preset: ChosenPreset = Field(ChosenPreset("fast"), description="how each is trained")
    settings: dict[str, Any] = Field({}, description='further settings of it, e.g. {"epochs": 3}')


@dg.asset(
    group_name="monitoring",
    kinds={"pytorch", "scikitlearn"},
    code_version=code_version("ml/label_errors.py", "ml/artifacts.py", "ml/split.py", *LEARNING),
    metadata=follows_only(),  # it takes a while, and is looked at by people
)
@retrying
def label_errors(
    context: dg.AssetExecutionContext, config: LabelErrorsConfig, raw_mnist_data: DigitData, pictures: Pictures
) -> dg.MaterializeResult[dict[str, Any]]:
    """Training images whose label is probably wrong, by confident learning; rows are those of the raw training part."""
    from mnist_pipeline.ml.label_errors import out_of_fold, suspects

    train, names = raw_mnist_data["train"], raw_mnist_data.origin.class_names
    chosen = configure(config.preset.value, **config.settings)
    say = context.log.info
    shares = out_of_fold(train, len(names), chosen, config.folds, lambda k: say(f"fold {k} of {config.folds} is done"))
    found = suspects(train.labels, shares)
    rows = [{**asdict(each), "given": names[each.given], "likely": names[each.likely]} for each in found[:KEPT]]
    value: dict[str, Any] = {
        "data_digest": raw_mnist_data.digest(),
        "images": len(train),
        "found": len(found),
        "accuracy_out_of_fold": float((shares.argmax(1) == train.labels).mean()),
        "folds": config.folds,
        "config": chosen.model_dump(),
        "suspects": rows,
    }
    say(f"{len(found):,} of {len(train):,} labels are probably wrong")
    return dg.MaterializeResult(
        value=value,
        data_version=dg.DataVersion(sha256(canonical(value))),
        metadata={
            "worst": _sheet(raw_mnist_data, rows, pictures),
            "found": len(found),
            "share": len(found) / len(train),
            "images": len(train),
            "accuracy_out_of_fold": value["accuracy_out_of_fold"],
            "suspects": dg.MetadataValue.table(
                [dg.TableRecord(row) for row in rows[:LISTED]],
                dg.TableSchema(
                    [
                        *(dg.TableColumn(name, "int" if name == "row" else "string") for name in WORDS),
                        *(dg.TableColumn(name, "float") for name in NUMBERS),
                    ]
                ),
            ),
        },
    )


WORDS, NUMBERS = ("row", "given", "likely"), ("confidence", "quality")


def _sheet(raw: DigitData, rows: list[dict[str, Any]], pictures: Pictures) -> dg.MarkdownMetadataValue:
    from mnist_pipeline.ml import plots

    worst = rows[:SHEET]
    captions = [f"{row['given']}→{row['likely']} {row['confidence']:.0%}" for row in worst]
    sheet = plots.contact_sheet(raw["train"].images[[row["row"] for row in worst]], captions, columns=10)
    return pictures.open().show("label_errors", "worst", sheet)
