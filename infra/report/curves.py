"""Where curves are drawn, and long traces as fewer points."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

THETA: Array = np.linspace(-4.0, 4.0, 81)


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
