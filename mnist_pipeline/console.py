"""A logger for terminals: time, step and message, without run ids and Dagster's own events."""

import logging
import sys

import dagster as dg


@dg.logger(config_schema=None, description="One short line a message, to standard error.")
def brief_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """INFO and above; of Dagster's own events only those that went wrong."""
    log = logging.Logger("mnist_pipeline", logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Brief())
    log.addHandler(handler)
    return log


class _Brief(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {})
        step = meta.get("step_key") or "run"
        time = self.formatTime(record, "%H:%M:%S")
        return f"{time}  {step:<28} {meta.get('orig_message') or record.getMessage()}"
