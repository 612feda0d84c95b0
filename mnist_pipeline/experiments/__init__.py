"""From the spool that runs write to MLflow: sending, closing, the registry as a mirror; `make mlflow`."""
