"""What people put right: as pictures to learn from, and as a measure of production."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mnist_pipeline.assets.causes import follows_only, read_from
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.ml.digits import DigitData
from mnist_pipeline.resources import Mail, Pictures, Served
from mnist_pipeline.retries import retrying
from mnist_pipeline.storage.sealed import canonical, sha256

if TYPE_CHECKING:
    from mnist_pipeline.labelled import Gathered, Labelled, Places

SHEET = 48
LISTED = 100  # of what was left out


@dg.asset(
    group_name="data",
    kinds={"numpy"},
    code_version=code_version(
        *("corrections.py", "labelled.py", "night_rows.py", "night_tables.py"),
        *("ml/array_files.py", "ml/image_rows.py", "ml/parquet_images.py", "ml/decoding.py", "ml/digits.py"),
        *("ml/feedback.py", "ml/images.py", "ml/split.py"),
    ),
    # other raw data does not change what people said; whether it still fits is looked at again where it is added
    metadata={**read_from("served"), **follows_only(own_code=True)},
)
@retrying
def feedback_digits(
    context: dg.AssetExecutionContext, raw_mnist_data: DigitData, served: Served, mail: Mail, pictures: Pictures
) -> dg.MaterializeResult[DigitData]:
    """Pictures that people put right, the newest first, for the training part; none while MNIST_FEEDBACK is off."""
    from mnist_pipeline.ml.feedback import PART, none

    found, faults = served.snapshot().tags(), list[str]()  # the first: what comes meanwhile is seen as a change
    said = served.corrections(faults.append).all()
    data, metadata = none(raw_mnist_data.origin), dict[str, Any]()
    if said or faults:
        data, metadata = _judged(raw_mnist_data, gathered(said, served, mail, raw_mnist_data, faults), faults, pictures)
    digest = data.digest()
    context.log.info(f"feedback: {len(data):,} pictures of {len(said):,} sayings (MNIST_FEEDBACK={served.use})")
    return dg.MaterializeResult(
        value=data,
        data_version=dg.DataVersion(digest),
        tags=found,
        metadata={"use": served.use, "said": len(said), "images": len(data[PART]), **metadata, "sha256": digest},
    )


def gathered(said: Any, served: Served, mail: Mail, raw: DigitData, faults: list[str]) -> "Gathered":
    """The pictures that were said something of."""
    from mnist_pipeline.labelled import gather

    return gather(said, places(served, mail, faults), raw.origin.preparation)


def places(served: Served, mail: Mail, faults: list[str]) -> "Places":
    """Where they lie. faults: gets what cannot be read of the prediction log."""
    from mnist_pipeline.labelled import Places
    from mnist_pipeline.night_tables import NightTables

    return Places(served.open(faults.append), NightTables(mail.answers()), mail.open())


def _judged(
    raw: DigitData, found: "Gathered", faults: list[str], pictures: Pictures
) -> tuple[DigitData, dict[str, Any]]:
    from mnist_pipeline.ml import plots
    from mnist_pipeline.ml.feedback import PART, judge

    names, each = raw.origin.class_names, found.pictures
    judged = judge([one.image for one in each], [one.said.label for one in each], names, raw["test"].images)
    left_out = {**found.left_out, **{each[row].said.where: why for row, why in judged.left_out.items()}}
    counting = [each[row] for row in judged.rows]
    captions = [f"{one.said.label} ({one.said.origin})" for one in counting[:SHEET]]
    sheet = plots.contact_sheet(judged.data.images[:SHEET], captions)
    return DigitData({PART: judged.data}, raw.origin), {
        "samples": pictures.open().show("feedback_digits", "samples", sheet),
        "by_origin": dg.MetadataValue.json(dict(Counter(one.said.origin for one in counting))),
        "by_class": dg.MetadataValue.json(dict(sorted(Counter(one.said.label for one in counting).items()))),
        **_times(counting),
        **_left_out(left_out, faults),
    }


def _times(counting: "list[Labelled]") -> dict[str, str]:
    times = sorted(one.said.time for one in counting if one.said.time)
    return {"oldest": times[0], "newest": times[-1]} if times else {}


def _left_out(left_out: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    """Nothing fails because of these: they are counted, and the first are named."""
    rows = [{"what": what, "why": why} for what, why in left_out.items()]
    rows += [{"what": "", "why": fault} for fault in faults]
    listed = [dg.TableRecord(row) for row in rows[:LISTED]]
    return {"left_out": len(rows), **({"left_out_because": dg.MetadataValue.table(listed)} if listed else {})}


class AccuracyConfig(dg.Config):
    """How far to look back."""

    days: int = Field(92, ge=1, description="of the prediction log, the newest that are looked at")


@dg.asset(
    group_name="monitoring",
    kinds={"python"},
    code_version=code_version(
        *("corrections.py", "measured.py", "night_rows.py", "night_tables.py", "traffic.py"),
        *("ml/production_accuracy.py", "ml/metrics.py"),
    ),
    metadata=follows_only(),  # it is measured when somebody asks
)
@retrying
def production_accuracy(
    context: dg.AssetExecutionContext, config: AccuracyConfig, served: Served, mail: Mail, pictures: Pictures
) -> dg.MaterializeResult[dict[str, Any]]:
    """How often production was right where people said what was right: by version and day, with intervals.

    It is counted among the answers that it gave; how many of the labelled images got none is told beside it.
    Reports on the page are mostly about mistakes, so they bound accuracy from below; labels in CSV files estimate it
    if the answers were drawn at random. The two are never mixed.
    """
    from mnist_pipeline.corrections import Corrections
    from mnist_pipeline.measured import join
    from mnist_pipeline.ml import production_accuracy as accuracy
    from mnist_pipeline.night_tables import NightTables

    faults = list[str]()
    traffic = served.open(faults.append)
    said = Corrections(traffic, faults.append).all()
    joined = join(said, traffic, NightTables(mail.answers()), config.days)
    measured = accuracy.measure(joined.told)
    value = {"meaning": accuracy.MEANING, **measured}
    context.log.info(f"{len(joined.told):,} answers were spoken of, {len(joined.left_out):,} sayings count for none")
    return dg.MaterializeResult(
        value=value,
        data_version=dg.DataVersion(sha256(canonical(value))),
        metadata={
            "summary": dg.MetadataValue.md(_sentences(measured)),
            "over_days": pictures.open().show("production_accuracy", "over_days", accuracy.picture(measured)),
            **{f"{kind}_accuracy": each["accuracy"] for kind, each in measured.items() if each["answered"]},
            **{f"{kind}_labels": each["labelled"] for kind, each in measured.items()},
            **{
                f"{kind}_abstained": each["abstained"] / each["labelled"]
                for kind, each in measured.items()
                if each["labelled"]
            },
            **_tables(measured),
            **_left_out(joined.left_out, faults),
        },
    )


def _sentences(measured: Mapping[str, Any]) -> str:
    from mnist_pipeline.ml.production_accuracy import MEANING

    said = [
        f"- {_right(each)}{_unanswered(each)}: {kind}, {MEANING[kind]}"
        for kind, each in measured.items()
        if each["labelled"]
    ]
    return "\n".join(said) or "Nobody has said yet what an answer should have been: there is nothing to measure."


def _right(each: Mapping[str, Any]) -> str:
    if not each["answered"]:
        return f"**none** of {each['labelled']:,} images was answered"
    interval = f"(95 % interval {each['low']:.1%} to {each['high']:.1%})"
    return f"**{each['accuracy']:.1%}** of {each['answered']:,} answers right {interval}"


def _unanswered(each: Mapping[str, Any]) -> str:
    """ "" where each image got an answer."""
    counts = {"abstained from": each["abstained"], "taken for no digit": each["no_digit"]}
    told = [f"{count:,} of {each['labelled']:,} {what}" for what, count in counts.items() if count]
    return "".join(f", {each}" for each in told)


def _tables(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy by version, and what was taken for what; none where there is nothing."""
    accuracies = [
        {"kind": kind, "version": version, **each}
        for kind, all_of in measured.items()
        for version, each in all_of["by_version"].items()
    ]
    mistakes = [{"kind": kind, **each} for kind, all_of in measured.items() for each in all_of["mistakes"]]
    found = {"by_version": accuracies, "mistakes": mistakes}
    return {name: dg.MetadataValue.table([dg.TableRecord(row) for row in rows]) for name, rows in found.items() if rows}
