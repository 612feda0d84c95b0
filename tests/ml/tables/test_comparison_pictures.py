"""Scores beside each other: in the right order, and with the right words."""

from __future__ import annotations

import pytest
from odd_tables import LONG
from pngs import fits_the_page

from mnist_pipeline.ml.tables.comparison_pictures import best_first, datasets_side_by_side, leaderboard, verdict

NAN = float("nan")


def row(
    model: str, score: float | None, low: float | None = None, high: float | None = None, noise: bool = False
) -> dict:
    return {"model": model, "score": score, "low": low, "high": high, "within_noise": noise}


ROWS = [row("tree", 0.91, 0.89, 0.93), row("forest", 0.95, 0.93, 0.97, True), row("knn", 0.94, 0.92, 0.96, True)]


def test_the_best_comes_first_and_what_has_no_score_last() -> None:
    rows = [row("failed", NAN), *ROWS, row("none", None)]
    assert [each["model"] for each in best_first(rows)] == ["forest", "knn", "tree", "failed", "none"]


def test_noise_is_said_in_words() -> None:
    said = [verdict(place, each) for place, each in enumerate(best_first(ROWS))]
    assert said == [
        "0.950 (0.930 to 0.970)\nthe best",
        "0.940 (0.920 to 0.960)\nwithin noise of the best",
        "0.910 (0.890 to 0.930)\nworse, beyond noise",
    ]
    ahead = [verdict(1, {**ROWS[1], "ahead_on_test": how}) for how in ("no", "within noise", "beyond noise")]
    told = "0.950 (0.930 to 0.970)\nwithin noise of the best"
    assert ahead == [told, f"{told}; on test ahead, within noise", f"{told}; on test ahead, beyond noise"]
    assert verdict(3, row("failed", NAN)) == "no score"
    assert verdict(0, row("alone", 0.5)) == "0.500\nthe best"


@pytest.mark.parametrize(
    "rows",
    [[], ROWS, [row(LONG, 0.5)], [row("$m$", NAN)], [*ROWS, row("a\nb", 0.2, NAN, 0.3), row("c", None)]],
    ids=["none", "three", "one", "no score", "gaps"],
)
def test_any_leaderboard(rows: list[dict]) -> None:
    fits_the_page(leaderboard(rows, "$ROC$-AUC", f"Ranked on {LONG}"))


def test_what_is_within_noise_is_marked() -> None:
    other = [*ROWS[:2], row("knn", 0.94, 0.92, 0.96, False)]
    assert leaderboard(ROWS, "accuracy", "test") != leaderboard(other, "accuracy", "test")
    assert leaderboard(ROWS, "accuracy", "test") != leaderboard(ROWS, "accuracy", "validation")


@pytest.mark.parametrize(("datasets", "models"), [(1, 4), (2, 9), (30, 1)])
def test_any_number_of_datasets(datasets: int, models: int) -> None:
    rows = [
        {"dataset": f"superstore, the export of northern regions, corrected, $ version {i}", "model": f"model {j}"}
        | {"score": 0.8 + 0.001 * (7 * i + 3 * j), "ranked_on": "validation" if i % 2 else "5×5 folds"}
        for i in range(datasets)
        for j in range(models)
    ]
    assert fits_the_page(datasets_side_by_side(rows, "ROC-AUC")).shape[0] > 30 * datasets


def test_a_dataset_without_scores_is_still_a_line() -> None:
    known = [{"dataset": "a", "model": "m", "score": 0.5, "ranked_on": "folds"}]
    more = [*known, {"dataset": LONG, "model": "m", "score": NAN, "ranked_on": "folds"}]
    assert len(fits_the_page(datasets_side_by_side(more, "x"))) > len(fits_the_page(datasets_side_by_side(known, "x")))
    fits_the_page(datasets_side_by_side(more[1:], "x"))
    fits_the_page(datasets_side_by_side([], "x"))


def test_datasets_that_were_ranked_on_other_rows_say_so() -> None:
    rows = [{"dataset": name, "model": "m", "score": 0.5, "ranked_on": "validation"} for name in "ab"]
    other = [rows[0], {**rows[1], "ranked_on": "5×5 folds"}]
    assert datasets_side_by_side(rows, "x") != datasets_side_by_side(other, "x")
