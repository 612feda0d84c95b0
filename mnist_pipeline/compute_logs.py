"""Where what runs print is kept: a folder of its own below the state folder, whose name is all dagster.yaml knows."""

from pathlib import Path
from typing import Any

from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClassData
from typing_extensions import Self


class StateLogs(LocalComputeLogManager):
    """Dagster's own manager one folder further down: state/logs instead of a folder a run in state/."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """Called by Dagster with the settings of dagster.yaml."""
        folder = str(Path(config_value["base_dir"]) / "logs")
        return cls(**{**config_value, "base_dir": folder}, inst_data=inst_data)
