"""Curves of the graded response model (Samejima 1969), and summaries of draws for plots."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

THETA: Array = np.linspace(-4.0, 4.0, 81)


def at_least(a: float, cuts: Array, theta: Array = THETA) -> Array:
    """P(Y >= k | theta) from the lowest category up, then 0: shape (cuts + 2, theta)."""
    inner = 0.5 * (1.0 + np.tanh(0.5 * a * (theta - cuts[:, None])))
    return np.vstack([np.ones_like(theta), inner, np.zeros_like(theta)])


def category_curves(a: float, cuts: Array, theta: Array = THETA) -> Array:
    """P(Y = k | theta), shape (categories, theta)."""
    return -np.diff(at_least(a, cuts, theta), axis=0)


def information(a: float, cuts: Array, theta: Array = THETA) -> Array:
    """Fisher information of one response, shape (theta,).

    The sum of P_k'^2 / P_k, with P_k' = a P_k (1 - P(Y >= k) - P(Y >= k + 1)).
    """
    above = at_least(a, cuts, theta)
    inside = 1.0 - above[:-1] - above[1:]
    return np.asarray(a**2 * np.sum(-np.diff(above, axis=0) * inside**2, axis=0))


def envelope(draws: Array, slices: int = 250) -> tuple[Array, Array]:
    """Positions and values that draw the same trace with at most two points a slice.

    Every slice keeps its lowest and its highest draw, so no excursion is lost.

    Args:
        draws: One chain, shape (draws,).
        slices: How many slices; a chain with no more than twice as many draws is kept whole.
    """
    if draws.size <= 2 * slices:
        return np.arange(draws.size, dtype=np.float64), draws
    edges = np.linspace(0, draws.size, slices + 1).astype(int)
    kept = np.array(
        [
            start + np.sort([draws[start:end].argmin(), draws[start:end].argmax()])
            for start, end in pairwise(edges.tolist())
        ]
    ).ravel()
    return kept.astype(np.float64), draws[kept]


def rank_counts(draws: Array, bins: int = 20) -> Array:
    """How the ranks among all draws spread in each chain, shape (chains, bins).

    Chains that agree are level (Vehtari et al. 2021, section 4.3).
    """
    ranks = np.empty(draws.size, dtype=np.int64)
    ranks[np.argsort(draws, axis=None, kind="stable")] = np.arange(draws.size)
    slot = (ranks * bins // draws.size).reshape(draws.shape)
    return np.array([np.bincount(row, minlength=bins) for row in slot], dtype=np.float64)
