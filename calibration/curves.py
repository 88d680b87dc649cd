"""Curves of a calibrated item, and ranks of draws. NumPy only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.errors import ShapeError


def category_probabilities(
    discrimination: float, thresholds: ArrayLike, theta: ArrayLike
) -> NDArray[np.float64]:
    """Probability of each category over a grid (Samejima 1969).

    Args:
        discrimination: a.
        thresholds: Increasing b, shape (n_cuts,).
        theta: Grid, shape (n_grid,).

    Returns:
        Shape (n_cuts + 1, n_grid); columns sum to 1.
    """
    return -np.diff(_at_least(discrimination, thresholds, theta), axis=0)


def item_information(
    discrimination: float, thresholds: ArrayLike, theta: ArrayLike
) -> NDArray[np.float64]:
    """Fisher information of one answer about theta, shape (n_grid,) (Samejima 1969).

    The sum of ``P_k'^2 / P_k``, with ``P_k' = a P_k (1 - P(Y >= k) - P(Y >= k + 1))``.
    """
    at_least = _at_least(discrimination, thresholds, theta)
    inside = 1.0 - at_least[:-1] - at_least[1:]
    squares = -np.diff(at_least, axis=0) * inside**2
    information: NDArray[np.float64] = discrimination**2 * squares.sum(0)
    return information


def test_information(
    discriminations: Sequence[float], thresholds: Sequence[ArrayLike], theta: ArrayLike
) -> NDArray[np.float64]:
    """Information of one answer to every item, shape (n_grid,); the prior adds 1 to it."""
    by_item = [
        item_information(a, b, theta) for a, b in zip(discriminations, thresholds, strict=True)
    ]
    total: NDArray[np.float64] = np.sum(by_item, axis=0)
    return total


test_information.__test__ = False  # type: ignore[attr-defined]  # a psychometric term that pytest would collect


def rank_histogram(draws: ArrayLike, bins: int = 20) -> NDArray[np.int64]:
    """How often each chain's draws fall in each bin of ranks over all chains.

    Rows near draws / bins everywhere are well-mixed chains (Vehtari et al. 2021, section 3.3).

    Args:
        draws: One parameter, shape (chains, draws).
        bins: Bins of equal width in rank.

    Returns:
        Counts, shape (chains, bins).

    Raises:
        ShapeError: Not two dimensions.
    """
    table = np.asarray(draws, float)
    if table.ndim != 2:
        raise ShapeError(f"draws have shape {table.shape}: give (chains, draws) of one parameter")
    ranks = np.argsort(np.argsort(table.ravel(), kind="stable"), kind="stable")
    bin_of = (ranks * bins // table.size).reshape(table.shape)
    return np.stack([np.bincount(row, minlength=bins) for row in bin_of]).astype(np.int64)


def _at_least(a: float, thresholds: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
    grid = np.asarray(theta, float)
    eta = a * (grid - np.asarray(thresholds, float)[:, None])
    at_least = 0.5 * (1.0 + np.tanh(0.5 * eta))
    return np.concatenate([np.ones((1, grid.size)), at_least, np.zeros((1, grid.size))])
