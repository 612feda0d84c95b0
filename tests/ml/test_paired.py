"""Two models on the same images: exact tests, with a margin and without, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import gammaln, xlogy
from scipy.stats import binom, multinomial

from mnist_pipeline.ml.paired import _score, compare, p_worse_by

TRUTH = np.zeros(100, int)


def answers(wrong: slice) -> np.ndarray:
    labels = TRUTH.copy()
    labels[wrong] = 1
    return labels


def test_only_images_that_one_of_the_two_got_right_count() -> None:
    found = compare(TRUTH, answers(slice(0, 12)), answers(slice(10, 15)))
    assert (found.candidate_only, found.production_only, found.images) == (3, 10, 100)


@pytest.mark.parametrize(("candidate", "production"), [(0, 0), (1, 0), (5, 0), (4, 0), (0, 5), (8, 3), (20, 20)])
def test_the_p_value_is_that_of_mcnemars_exact_test(candidate: int, production: int) -> None:
    """candidate, production: how many images only this one got wrong."""
    found = compare(TRUTH, answers(slice(0, candidate)), answers(slice(candidate, candidate + production)))
    expected = binom.sf(candidate - 1, candidate + production, 0.5)
    assert found.p_worse == pytest.approx(expected)
    assert found.worse is bool(expected < 0.05)


@pytest.mark.parametrize("both", [slice(0, 0), slice(0, 100)], ids=["all right", "all wrong"])
def test_the_same_answers_are_no_worse(both: slice) -> None:
    found = compare(TRUTH, answers(both), answers(both))
    assert (found.candidate_only, found.production_only, found.p_worse, found.worse) == (0, 0, 1.0, False)


LABELS = st.integers(1, 60).flatmap(
    lambda count: st.tuples(*[arrays.arrays(np.int64, count, elements=st.integers(0, 3)) for _ in range(3)])
)


@given(LABELS)
def test_a_comparison_is_the_same_from_the_other_side(labels: tuple[np.ndarray, ...]) -> None:
    truth, one, other = labels
    there, back = compare(truth, one, other), compare(truth, other, one)
    assert (there.candidate_only, there.production_only) == (back.production_only, back.candidate_only)
    assert not (there.worse and back.worse)
    ties = binom.pmf(there.production_only, there.production_only + there.candidate_only, 0.5)
    assert there.p_worse + back.p_worse == pytest.approx(1 + ties)


@pytest.mark.parametrize(
    ("candidate", "production", "margin", "passes", "said"),
    [
        (0, 10, 0.0, True, "better than production beyond noise: +10.00% on the same 100 images (only the candidate"),
        (3, 5, 0.0, False, "no better than production beyond noise, so production stays: +2.00% on the same 100"),
        (10, 0, 0.0, False, "worse than production beyond noise: -10.00% on the same 100 images"),
        (3, 3, 0.1, True, "not worse than production by 10.00% or more, and that was enough: +0.00%"),
        (3, 3, 0.01, False, "it may still be worse than production by 1.00%, so production stays: +0.00%"),
        (10, 0, 0.01, False, "worse than production beyond noise: -10.00%"),
    ],
)
def test_the_sentence_tells_a_person_which_way_it_went(
    candidate: int, production: int, margin: float, passes: bool, said: str
) -> None:
    """candidate, production: how many images only this one got wrong."""
    found = compare(TRUTH, answers(slice(0, candidate)), answers(slice(candidate, candidate + production)), margin)
    assert found.sentence().startswith(said)
    assert found.passes is passes


# --- with a margin ---


def p_by_enumeration(better: int, worse: int, images: int, margin: float) -> float:
    """The definition, in so many words: every table, and the share of discordant images at which it is likeliest."""
    tables = [(b, c) for b in range(images + 1) for c in range(images + 1 - b)]
    wins, losses = (np.array(each) for each in zip(*tables, strict=True))
    as_far = _score(wins, losses, images, margin) >= _score(np.array(better), np.array(worse), images, margin) - 1e-9
    counts = np.stack([wins, losses, images - wins - losses], 1)[as_far]
    ways = gammaln(images + 1) - gammaln(counts + 1).sum(1)
    top = (1 - margin) / 2
    shares = np.concatenate([np.linspace(0, 1, 2_000) ** 3 * top, np.linspace(0, 1, 2_000) * top])[:, None]
    logs = sum(
        xlogy(n, p)
        for n, p in zip(counts.T, (shares, shares + margin, np.maximum(0, 1 - 2 * shares - margin)), strict=True)
    )
    return float(np.exp(ways + logs).sum(1).max())


@pytest.mark.parametrize("images", [30, 60])
@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (0, 1), (4, 2), (2, 4), (9, 3), (3, 9)])
def test_the_p_value_with_a_margin_is_exact_to_a_thousandth(better: int, worse: int, images: int) -> None:
    found = p_worse_by(better, worse, images, 0.1)
    assert found == pytest.approx(p_by_enumeration(better, worse, images, 0.1), rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.floats(0.001, 0.3), st.data())
def test_the_statistic_falls_as_losses_grow(images: int, margin: float, data: st.DataObject) -> None:
    wins = data.draw(st.integers(0, images))
    losses = np.arange(images - wins + 1)
    found = _score(np.full(len(losses), wins), losses, images, margin)
    assert (np.diff(found) <= 1e-9).all()


@pytest.mark.slow
def test_a_candidate_worse_by_the_margin_passes_in_at_most_five_of_a_hundred() -> None:
    """Exactly, not by simulation: the probability of all tables that pass. 40 images, where a normal test is bold."""
    images, margin = 40, 0.08
    passing = [(b, c) for b in range(20) for c in range(20) if p_worse_by(b, c, images, margin) < 0.05]
    for share in (0.0, 0.02, 0.2):
        chances = [share, share + margin, 1 - 2 * share - margin]
        assert sum(multinomial.pmf([b, c, images - b - c], images, chances) for b, c in passing) <= 0.05


def test_equal_models_pass_with_a_margin_and_not_without() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros(10_000, int)
    one, other = ((rng.random(10_000) < 0.005).astype(int) for _ in range(2))
    assert not compare(truth, one, other).passes
    assert compare(truth, one, other, margin=0.005).passes
