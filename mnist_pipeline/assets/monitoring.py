"""Whether what the model meets still looks like what it was measured on: by night, and by day of the service.

Not here: how drift is found (`ml/drift.py`), and what follows (`sensors/retraining.py`).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date, timedelta
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import dagster as dg

from mnist_pipeline.assets.causes import follows_only
from mnist_pipeline.assets.prediction import FIRST_NIGHT
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.files import AssetFiles, NotMaterialized, read_value
from mnist_pipeline.nights import NightlyRun
from mnist_pipeline.resources import Drift, Mail, Models, Pictures, Served
from mnist_pipeline.retries import retrying
from mnist_pipeline.storage.shelves import Missing
from mnist_pipeline.store import Card, ModelStore, UnknownVersion

if TYPE_CHECKING:
    from mnist_pipeline.ml.drift import Comparison
    from mnist_pipeline.observed import Met

CODE = code_version(
    *("observed.py", "ml/drift.py", "ml/drift_report.py", "ml/drift_pictures.py", "ml/label_free.py"),
    *("ml/pixels.py", "ml/reference.py"),
)
NIGHT, SERVICE = "drift_report", "service_drift_report"
LOOKS_AS_IT_DID, ACCURACY_HOLDS = "looks_as_it_did", "accuracy_holds"
TREND_DAYS = 30


def drift_reports(nightly: NightlyRun) -> list[dg.AssetsDefinition]:
    """Both reports for the nights of one time zone."""
    days = dg.DailyPartitionsDefinition(FIRST_NIGHT, timezone=nightly.timezone, end_offset=1)
    same: dict[str, Any] = {
        "group_name": "monitoring",
        "kinds": {"python"},
        "partitions_def": days,
        "code_version": CODE,
        "metadata": follows_only(),  # a report stays what it was
        "dagster_type": dg.Any,  # a bare MaterializeResult, the one annotation beside checks, would mean: no value
    }

    @dg.asset(name=NIGHT, deps=["batch_digit_predictions"], check_specs=_specs(NIGHT), **same)
    @retrying
    def drift_report(
        context: dg.AssetExecutionContext,
        mail: Mail,
        models: Models,
        pictures: Pictures,
        drift: Drift,
        io_manager: dg.ResourceParam[AssetFiles],
    ) -> dg.MaterializeResult:
        """The images and answers of a night, compared with what the model that answered was like when it was new.

        Each night with the version in its table. A failure here harms no prediction: those of the night are made.
        """
        return _Day(context, NIGHT, models.open(), drift, io_manager).report(_of_night(mail, context), pictures)

    @dg.asset(name=SERVICE, deps=["production_digit_classifier"], check_specs=_specs(SERVICE), **same)
    @retrying
    def service_drift_report(
        context: dg.AssetExecutionContext,
        served: Served,
        models: Models,
        pictures: Pictures,
        drift: Drift,
        io_manager: dg.ResourceParam[AssetFiles],
    ) -> dg.MaterializeResult:
        """The same for what the service answered on that day: what production said, finished drawings only."""
        from mnist_pipeline.observed import of_service

        day = context.partition_key
        met = of_service(served.open(context.log.warning), nightly.begin(day), nightly.end(day))
        return _Day(context, SERVICE, models.open(), drift, io_manager).report(met, pictures)

    return [drift_report, service_drift_report]


def _specs(asset: str) -> list[dg.AssetCheckSpec]:
    """Both warn or fail without keeping anything from running: what they are about has happened."""
    about = "beyond chance and tolerance: a warning; strongly: an error"
    return [
        dg.AssetCheckSpec(LOOKS_AS_IT_DID, asset=asset, description=f"distance from the reference, {about}"),
        dg.AssetCheckSpec(ACCURACY_HOLDS, asset=asset, description="estimated without labels, against its floor"),
    ]


def _of_night(mail: Mail, context: dg.AssetExecutionContext) -> "list[Met]":
    from mnist_pipeline.observed import of_night

    shelf, name = mail.answers(), f"{context.partition_key}.parquet"
    try:
        with shelf.local(name) as path:
            return of_night(path)
    except Missing:
        raise NotMaterialized(
            f"the night {context.partition_key} is not predicted (looked for {shelf.where(name)}): "
            f"materialize that partition of batch_digit_predictions first"
        ) from None


class _Day:
    """One report in the making."""

    def __init__(
        self, context: dg.AssetExecutionContext, asset: str, store: ModelStore, drift: Drift, files: AssetFiles
    ) -> None:
        self.day, self.log, self.asset = context.partition_key, context.log, asset
        self.store, self.drift, self.files = store, drift, files
        self._card, self._reference = cache(self._read_card), cache(self._read_reference)  # asked for several times

    def report(self, met: "Sequence[Met]", pictures: Pictures) -> dg.MaterializeResult[dict[str, Any]]:
        """The value, what it shows, and both verdicts."""
        from mnist_pipeline.ml import drift_report

        found = {each.version: self._compared(each, len(met)) for each in met}
        worst = drift_report.worst(found)
        made = drift_report.report(self.day, self.asset, found, self._class_names(worst))
        self.log.info(made["sentence"])
        drawn = self._drawn(made, found, {each.version: each for each in met})
        return dg.MaterializeResult(
            value=made,
            data_version=dg.DataVersion(sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()),
            metadata={
                "summary": made["sentence"],
                "verdict": made["verdict"],
                "images": made["images"],
                **({"model_version": worst} if worst else {}),
                **_numbers(found.get(worst)),
                **{name: pictures.open().show(self.asset, name, png) for name, png in drawn.items()},
            },
            check_results=list(_verdicts(self.asset, made, self.drift)),
        )

    def _compared(self, met: "Met", versions: int) -> "Comparison":
        """With the reference of the version that answered. Of several versions each has its part of the alarms."""
        from dataclasses import replace

        from mnist_pipeline.ml.drift import Comparison, compare

        reference, card = self._reference(met.version), self._card(met.version)
        if reference is None or card is None:
            return Comparison("no reference", met.images)
        limits = self.drift.limits(versions)
        return replace(compare(reference, met.sample, card.class_names, limits), images=met.images)

    def _read_reference(self, version: str) -> Any:
        """None for a version from before there were any, or one that was removed."""
        from mnist_pipeline.ml.reference import REFERENCE, read_reference

        card = self._card(version)
        if card is None or REFERENCE not in card.files:
            return None
        return read_reference(self.store.read_file(version, REFERENCE))

    def _read_card(self, version: str) -> Card | None:
        try:
            return self.store.card(version)
        except UnknownVersion:
            return None

    def _class_names(self, version: str) -> list[str]:
        card = self._card(version) if version else None
        return card.class_names if card else []

    def _drawn(self, made: dict[str, Any], found: "dict[str, Comparison]", met: "dict[str, Met]") -> dict[str, bytes]:
        from mnist_pipeline.ml import drift_pictures

        version, limits = made["version"], self.drift.limits()
        days = [*self._earlier(), made]
        pictures = {"trend": drift_pictures.trend(days, limits.tolerance, limits.strong)}
        if version and found[version].statistics:
            both = self._reference(version), met[version].sample
            names = made["class_names"]
            pictures["distributions"] = drift_pictures.distributions(*both, found[version], names)
            pictures["answers"] = drift_pictures.answers(*both, names)
        return pictures

    def _earlier(self) -> Iterator[dict[str, Any]]:
        """The reports of the days before, oldest first, as far as there are any."""
        for back in range(TREND_DAYS - 1, 0, -1):
            day = (date.fromisoformat(self.day) - timedelta(days=back)).isoformat()
            with suppress(NotMaterialized):
                yield read_value(self.files.shelf, f"{self.asset}/{day}", self.asset)


def _numbers(found: "Comparison | None") -> dict[str, Any]:
    """What of the worst comparison can be plotted over days, and its table."""
    from mnist_pipeline.ml.drift_report import rows

    if found is None or not found.statistics:
        return {}
    estimate = found.accuracy
    known = {} if estimate is None else _accuracy(estimate)
    return {
        **known,
        "accuracy_when_new": found.reference_accuracy,
        "distance_beyond_chance": found.excess,
        "p_value": found.p_value,
        "compared": found.compared,
        "no_digit": found.blank,
        "statistics": dg.MetadataValue.table([dg.TableRecord(row) for row in rows(found)]),
    }


def _accuracy(estimate: Any) -> dict[str, Any]:
    return {
        "estimated_accuracy": estimate.estimate,
        "estimated_accuracy_low": estimate.low,
        "estimated_accuracy_high": estimate.high,
        "mean_confidence": estimate.mean_confidence,
        "estimate_is_trusted": estimate.trusted,
    }


def _verdicts(asset: str, made: dict[str, Any], drift: Drift) -> Iterator[dg.AssetCheckResult]:
    """An accuracy that cannot be told holds for nobody: a warning, for that it is bad is not known either."""
    from mnist_pipeline.ml.drift_report import cannot_be_told, least_accuracy_of

    told = _teller(asset, made)
    strong = made["verdict"] == "strong"
    yield told(LOOKS_AS_IT_DID, passed=made["verdict"] not in ("drift", "strong"), error=strong)
    least, floor = least_accuracy_of(made), drift.accuracy_floor
    too_low = bool(least) and least["high"] < floor
    untold = cannot_be_told(made)
    doubt = {"cannot_be_told": untold} if untold else {}
    yield told(ACCURACY_HOLDS, passed=not (too_low or untold), error=too_low, floor=floor, **doubt, **least)


def _teller(asset: str, made: dict[str, Any]) -> Callable[..., dg.AssetCheckResult]:
    def told(name: str, *, passed: bool, error: bool, **values: Any) -> dg.AssetCheckResult:
        severity = dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(
            asset_key=dg.AssetKey(asset),
            check_name=name,
            passed=passed,
            severity=severity,
            description=made["sentence"],
            metadata=values,
        )

    return told
