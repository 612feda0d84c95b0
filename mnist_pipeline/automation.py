"""Jobs: the named selections that people and schedules launch."""

import dagster as dg

training = dg.define_asset_job(
    "training",
    dg.AssetSelection.groups("data", "model", "evaluation"),
    description="Get the data, train, evaluate. Deploys nothing.",
)
deployment = dg.define_asset_job(
    "deployment",
    dg.AssetSelection.groups("deployment"),
    description="Decide about the newest version: quality, manual, force or rollback.",
)
make_model = dg.define_asset_job(
    "make_model",
    dg.AssetSelection.groups("data", "model", "evaluation", "deployment")
    | dg.AssetSelection.assets("digit_predictions"),
    description="From data to a deployed model that has answered once: everything but the nightly batch.",
)
batch_inference = dg.define_asset_job(
    "batch_inference",
    dg.AssetSelection.assets("batch_digit_predictions"),
    description="Predict the inbox of one night.",
)
full_pipeline = dg.define_asset_job(
    "full_pipeline",
    dg.AssetSelection.groups("data", "model", "evaluation", "deployment", "prediction"),
    description="Everything, from data to predictions.",
)
JOBS = [training, deployment, make_model, batch_inference, full_pipeline]
