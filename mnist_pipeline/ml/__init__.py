"""Pure functions and small values: arrays in, values out.

What does not belong here: Dagster contexts, MLflow, boto3, HTTP clients, paths that a function chose for itself.
"""
