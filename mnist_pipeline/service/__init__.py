"""The real-time service: what the newest decision deployed, answering over HTTP. It knows nothing of Dagster.

It meets the pipeline in the model store, in the prediction log and in the feedback that it keeps, and nowhere else.
"""
