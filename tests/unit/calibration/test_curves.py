import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.curves import (
    category_probabilities,
    item_information,
    rank_histogram,
    test_information,
)
from calibration.errors import ShapeError

GRID = np.linspace(-3, 3, 13)


def test_two_categories_are_the_logistic_curve() -> None:
    upper = category_probabilities(2.0, [0.5], GRID)[1]
    np.testing.assert_allclose(upper, 1 / (1 + np.exp(-2 * (GRID - 0.5))), rtol=1e-12)


def test_probabilities_sum_to_one_and_are_positive() -> None:
    curves = category_probabilities(1.7, [-1.0, 0.2, 1.5], GRID)
    assert curves.shape == (4, 13)
    assert (curves > 0).all()
    np.testing.assert_allclose(curves.sum(0), 1.0, rtol=1e-12)


def test_two_categories_inform_by_a_squared_pq() -> None:
    upper = category_probabilities(2.0, [0.5], GRID)[1]
    np.testing.assert_allclose(item_information(2.0, [0.5], GRID), 4 * upper * (1 - upper))


def test_information_is_the_mean_curvature_of_the_log_likelihood() -> None:
    a, b, at, step = 1.3, [-0.8, 0.1, 1.1], 0.3, 1e-4
    low, mid, high = np.log(category_probabilities(a, b, [at - step, at, at + step])).T
    curvature = -(low - 2 * mid + high) / step**2
    assert item_information(a, b, [at])[0] == pytest.approx(
        (np.exp(mid) * curvature).sum(), rel=1e-5
    )


def test_a_test_informs_by_the_sum_of_its_items() -> None:
    total = test_information([1.0, 2.0], [[0.0], [-1.0, 1.0]], GRID)
    parts = item_information(1.0, [0.0], GRID) + item_information(2.0, [-1.0, 1.0], GRID)
    np.testing.assert_allclose(total, parts)


def test_ranks_of_a_chain_that_lies_above_the_other() -> None:
    draws = np.stack([np.arange(100.0), 100 + np.arange(100.0)])
    assert rank_histogram(draws, bins=4).tolist() == [[50, 50, 0, 0], [0, 0, 50, 50]]
    with pytest.raises(ShapeError, match="one parameter"):
        rank_histogram(np.arange(4.0))


STEEPNESS = st.floats(0.05, 12.0)
CUTS = st.lists(st.floats(-4, 4), min_size=1, max_size=8, unique=True).map(sorted)


@given(STEEPNESS, CUTS)
def test_category_curves_are_probabilities(a: float, b: list[float]) -> None:
    curves = category_probabilities(a, b, GRID)
    assert curves.shape == (len(b) + 1, GRID.size)
    assert (curves >= -1e-12).all()
    np.testing.assert_allclose(curves.sum(0), 1.0)


@given(STEEPNESS, CUTS)
def test_information_is_the_sum_of_squared_slopes_over_probabilities(
    a: float, b: list[float]
) -> None:
    step = 1e-5
    middle = category_probabilities(a, b, GRID)
    ahead, behind = (category_probabilities(a, b, GRID + shift) for shift in (step, -step))
    usable = middle > 1e-7
    squares = ((ahead - behind) / (2 * step)) ** 2
    expected = np.where(usable, squares / np.where(usable, middle, 1), 0).sum(0)
    np.testing.assert_allclose(item_information(a, b, GRID), expected, rtol=2e-3, atol=2e-4)


def test_ranks_of_chains_that_agree_are_level() -> None:
    alike = rank_histogram(np.random.default_rng(2).standard_normal((4, 4000)))
    assert alike.shape == (4, 20)
    assert alike.sum() == 16_000
    assert (np.abs(alike - 200) < 60).all()
