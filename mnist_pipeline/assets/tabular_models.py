"""Training the models of a table: one process for all that are selected, a version and a report of each."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from mnist_pipeline.assets import records, tabular_pages
from mnist_pipeline.assets.launchpad import given, optional_fields
from mnist_pipeline.assets.tabular_keys import Frame, dataset_of, input_of, partitions_of, split_name
from mnist_pipeline.code_versions import code_version
from mnist_pipeline.ml.tables.models import Settings
from mnist_pipeline.ml.tables.task import TableTask
from mnist_pipeline.resources import Models, Tracking
from mnist_pipeline.retries import PASSES_BY_ITSELF, retrying
from mnist_pipeline.storage.sealed import sha256
from mnist_pipeline.tracking import Tracker

LEARNED_WITH = ("task", "preparing", "models", "learning", "scores", "importance", "artifacts")
LEARNING = tuple(f"ml/tables/{name}.py" for name in LEARNED_WITH)


def _models_config(task: TableTask) -> Any:
    """One optional group of settings a model; what is left out comes from the description of the task."""
    fields: dict[str, Any] = {}
    for name, settings in task.models.items():
        kind = optional_fields(type(settings), dg.Config, f"{type(settings).__name__}Config", __name__)
        fields[name] = (kind, Field(default_factory=kind, description=f"instead of {settings!r}"))
    return create_model(f"{task.name}_models", __base__=dg.Config, __module__=__name__, **fields)


def model_code(task: TableTask, model: str) -> str:
    """The code version of one model: its settings in the description count, those of the others do not."""
    return code_version(*LEARNING, settings=(task.models[model], task.seed, task.target.names))


def models_of(task: TableTask) -> dg.AssetsDefinition:
    """The four models, as one asset definition of which any may be selected."""
    ModelsConfig: Any = _models_config(task)

    @dg.multi_asset(
        name=f"{task.name}_models",
        outs={
            name: dg.AssetOut(
                key=[task.name, name],
                dagster_type=dg.Any,
                is_required=False,
                group_name=task.name,
                kinds={"scikitlearn"},
                code_version=model_code(task, name),
                description=f"{type(settings).__doc__} Stored as a version; the value names it and its report.",
            )
            for name, settings in task.models.items()
        },
        ins={"table": input_of(task, split_name(task))},
        partitions_def=partitions_of(task),
        can_subset=True,
    )
    @retrying
    def train_models(
        context: dg.AssetExecutionContext,
        config: ModelsConfig,
        table: Frame,
        models: Models,
        tracking: Tracking,
    ) -> Iterator[dg.MaterializeResult[dict[str, str]]]:
        """Each of the selected models, fitted on the training part and measured on the others, in one process."""
        from mnist_pipeline.ml.tables.preparing import digest

        data = digest(table)
        faults: dict[str, Exception] = {}
        with tracking.open(context) as tracker:
            for name in task.models:
                if dg.AssetKey([task.name, name]) in context.selected_asset_keys:
                    try:
                        settings = _settings(task.models[name], getattr(config, name))
                        made = _trained(context, task, name, settings, table, data, models, tracker)
                    except PASSES_BY_ITSELF:
                        raise
                    except Exception as error:  # one that cannot be trained keeps none of the others from it
                        faults[name] = error
                    else:
                        yield made
        if faults:
            told = "\n".join(f"{name}: {error}" for name, error in faults.items())
            raise dg.Failure(told, allow_retries=False) from next(iter(faults.values()))

    return train_models


def _settings(default: Settings, changed: dg.Config) -> Settings:
    """Raises pydantic's ValidationError for a value out of range."""
    return type(default)(**{**default.model_dump(), **given(changed)})


def _trained(
    context: dg.AssetExecutionContext,
    task: TableTask,
    name: str,
    settings: Settings,
    table: Frame,
    data: str,
    models: Models,
    tracker: Tracker,
) -> dg.MaterializeResult[dict[str, str]]:
    from mnist_pipeline.ml.tables.artifacts import pack
    from mnist_pipeline.ml.tables.learning import learn
    from mnist_pipeline.ml.tables.preparing import part_of

    store = models.of_table(task.name)
    learned = learn(table, task, settings)
    test, files = learned.report["test"], pack(learned.pipeline, part_of(table, "test")[0], task.target.names)
    card = store.add_version(
        files,
        label=f"{name.replace('_', '-')}-auc{round(1e4 * test['roc_auc']):04}",
        metrics=learned.numbers,
        config={"model": name, "seed": task.seed, **settings.model_dump()},
        class_names=task.target.names,
        preparation="in the pipeline",
        dataset=dataset_of(task, context),
        data_version=data,
        code_version=model_code(task, name),
        run_id=context.run.run_id,
    )
    report = store.add_report(
        {**learned.report, "version": card.name, "model_digest": card.digest, "data_digest": data}
    )
    records.learned(tracker, name, settings, learned.numbers, card, files)
    context.log.info(f"{name}: ROC-AUC {test['roc_auc']:.4f} on test, stored as {card.name}")
    return dg.MaterializeResult(
        asset_key=[task.name, name],
        value={"version": card.name, "report": report},
        data_version=dg.DataVersion(sha256(f"{card.digest} {report}".encode())),
        metadata={
            "version": card.name,
            **learned.numbers,
            **tabular_pages.folds(learned),
            "settings": dg.MetadataValue.json(settings.model_dump()),
            "importances": dg.MetadataValue.json(learned.report["importances"]),
            "report": report,
            **records.page(tracker),
        },
    )
