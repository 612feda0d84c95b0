"""The code location: every asset, check, job and resource, in one Definitions object."""

import os
from collections.abc import Mapping

import dagster as dg

from mnist_pipeline.assets import (
    contest,
    data,
    deployment,
    evaluation,
    feedback,
    label_errors,
    leaderboard,
    model,
    monitoring,
    prediction,
)
from mnist_pipeline.assets.tabular import tabular_assets
from mnist_pipeline.automation import JOBS, KEEP_UP_TO_DATE, nightly_schedule
from mnist_pipeline.console import brief_logger
from mnist_pipeline.environment import environment_name, nightly_run, one_of
from mnist_pipeline.executor import steps_executor
from mnist_pipeline.ml.tables.tasks import TASKS
from mnist_pipeline.resources import dev_resources, prod_resources
from mnist_pipeline.sensors.contest import contests
from mnist_pipeline.sensors.delivery import mlflow_delivery
from mnist_pipeline.sensors.feedback import new_feedback
from mnist_pipeline.sensors.healing import heal_nights
from mnist_pipeline.sensors.retraining import retrain_on_drift
from mnist_pipeline.sensors.tables import new_tables
from mnist_pipeline.sensors.triggers import new_images, new_training_data
from mnist_pipeline.sensors.watching import watching_sensors

RESOURCES = {"dev": dev_resources, "prod": prod_resources}


def build_definitions(env: Mapping[str, str] = os.environ) -> dg.Definitions:
    """The definitions for MNIST_PIPELINE_ENV. Raises ValueError for an environment that does not exist."""
    name = environment_name(env)
    nightly = nightly_run(env)
    return dg.Definitions(
        assets=[
            data.raw_mnist_data,
            feedback.feedback_digits,
            data.processed_mnist_data,
            model.digit_classifier,
            evaluation.model_evaluation,
            leaderboard.rival_classifiers,
            leaderboard.leaderboard,
            deployment.production_digit_classifier,
            prediction.nightly_predictions(nightly),
            prediction.digit_predictions,
            *monitoring.drift_reports(nightly),
            feedback.production_accuracy,
            label_errors.label_errors,
            contest.ab_report,
            *(asset for task in TASKS for asset in tabular_assets(task)),
        ],
        asset_checks=[
            data.raw_data_checks,
            data.processed_data_checks,
            model.model_checks,
            evaluation.evaluation_checks,
        ],
        jobs=JOBS,
        schedules=[nightly_schedule(nightly)],
        sensors=[
            KEEP_UP_TO_DATE,
            new_images,
            new_training_data,
            new_feedback,
            heal_nights(nightly),
            retrain_on_drift(nightly, on=one_of(env, "MNIST_RETRAIN_ON_DRIFT", ("off", "on")) == "on"),
            *(new_tables(task) for task in TASKS if task.csv),
            mlflow_delivery,
            contests,
            *watching_sensors(nightly),
        ],
        resources=RESOURCES[name](env),
        loggers={"console": dg.colored_console_logger, "brief": brief_logger},
        executor=steps_executor(env),
    )


defs = build_definitions()
