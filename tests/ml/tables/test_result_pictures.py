"""Pictures of results: whole, within the page, and of what was measured."""

from __future__ import annotations

import numpy as np
import pytest
from odd_tables import LONG
from pngs import fits_the_page

from mnist_pipeline.ml.tables import result_pictures
from mnist_pipeline.ml.tables.result_pictures import curves_of, largest

RNG = np.random.default_rng(0)
TRUTH = (RNG.random(100) < 0.3).astype(int)
MODELS = ("$m$", "two\nlines", LONG, "売上", "e", "f", "g", "a model of ours")
CLASSES = [("no", "yes"), (LONG, "$x$\n")]


@pytest.mark.parametrize("count", [1, 4, 8])
def test_curves_of_any_number_of_models(count: int) -> None:
    results = {model: (TRUTH, RNG.normal(size=100) + TRUTH) for model in MODELS[:count]}
    assert fits_the_page(result_pictures.curves(results, "On test, 100 rows")).shape[1] > 800


def test_curves_and_confusions_say_which_rows_these_are() -> None:
    results = {"a": (TRUTH, TRUTH.astype(float))}
    assert result_pictures.curves(results, "On test") != result_pictures.curves(results, "On validation")
    counts = {"a": [[5, 1], [1, 4]]}
    pictures = [result_pictures.confusions(counts, ("no", "yes"), title) for title in ("On test", "On validation")]
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize("truth", [np.zeros(3), np.ones(1)], ids=["three rows", "one row"])
def test_one_class_has_no_curves_and_this_is_said(truth: np.ndarray) -> None:
    scores = np.linspace(0, 1, len(truth))
    assert curves_of(truth, scores) is None
    nothing = result_pictures.curves({"a": (truth, scores)}, LONG)
    something = result_pictures.curves({"a": (truth, scores), "b": (TRUTH, TRUTH.astype(float))}, LONG)
    assert fits_the_page(nothing).shape[0] < fits_the_page(something).shape[0]


def test_curves_hold_the_areas_under_them() -> None:
    found = curves_of(TRUTH, RNG.normal(size=100) + TRUTH)
    assert found is not None
    assert found.auc == pytest.approx(np.trapezoid(found.true_positives, found.false_positives))
    steps = -np.diff(found.recall) * found.precision[:-1]
    assert found.average_precision == pytest.approx(steps.sum())
    assert found.positive == TRUTH.mean()


def test_a_score_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        result_pictures.curves({"a": ([0, 1], [float("nan"), 1.0])}, "test")  # type: ignore[dict-item]


@pytest.mark.parametrize("names", CLASSES, ids=["short", "long"])
@pytest.mark.parametrize("count", [0, 1, 4, 6])
def test_confusions_of_any_number_of_models(count: int, names: tuple[str, str]) -> None:
    fits_the_page(
        result_pictures.confusions(
            {model: [[9_999_999, 1], [0, 0]] for model in MODELS[:count]}, names, f"On $test$ {LONG}"
        )
    )


def test_confusions_show_the_counts() -> None:
    one, other = (result_pictures.confusions({"a": [[5, n], [1, 4]]}, ("no", "yes"), "test") for n in (2, 3))
    assert one != other


@pytest.mark.parametrize(
    "values",
    [{}, {"a": 1.0}, {"a": 0.0, "b": 0.0}, {"a": -1.0}, {LONG: (1.0, 0.1), "$x$": (-0.1, 0.5)}],
    ids=["none", "one", "zeros", "negative", "with deviation"],
)
def test_importances_of_any_features(values: dict[str, float | tuple[float, float]]) -> None:
    fits_the_page(result_pictures.importances(values, f"$x$ {LONG}"))
    fits_the_page(result_pictures.importances(values, "coefficients", "coefficient", signed=True))


def test_the_fifteen_largest_are_shown_and_of_coefficients_those_by_size() -> None:
    values: dict[str, float | tuple[float, float]] = {f"f{i}": float(i - 20) for i in range(30)}
    assert [name for name, *_ in largest(values)][:2] == ["f29", "f28"]
    assert [name for name, *_ in largest(values, signed=True)][:2] == ["f0", "f1"]
    assert len(largest(values)) == 15
    assert largest({"a": 1, "b": (2.0, 0.5)}) == [("b", 2.0, 0.5), ("a", 1.0, 0.0)]


def test_a_deviation_is_drawn() -> None:
    with_it, without = ({"a": (1.0, 0.2)}, {"a": 1.0})
    assert result_pictures.importances(with_it, "t") != result_pictures.importances(without, "t")
