"""The command line `mnist-pipeline`: predicting, deciding and looking, without Dagster."""
