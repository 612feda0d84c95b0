"""Production with every server that it needs: from data to the night, with the daemon and no hand on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rehearsal import IMAGES, rehearse


@pytest.mark.slow
def test_production_runs_by_itself_from_data_to_the_night(tmp_path: Path) -> None:
    seen = rehearse(tmp_path)
    assert seen["decision"].outcome == "deployed"
    assert seen["table"].num_rows == IMAGES
    assert set(seen["table"].column("model_version").to_pylist()) == {seen["decision"].serves}
    assert "champion" in seen["aliases"]
    assert seen["quiet"] == []  # nothing to complain about until something was made to fail
    assert len(seen["alerts"]) == 1
    assert seen["doctor"].returncode == 0, seen["doctor"].stdout
