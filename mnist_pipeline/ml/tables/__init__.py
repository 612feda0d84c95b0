"""Tables: from the description of a task to validated rows, fitted models and their comparison. No Dagster."""
