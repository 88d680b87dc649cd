"""Which rows of a table of counts are equal. NumPy only."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Distinct(NamedTuple):
    """Distinct rows of a table.

    Attributes:
        first: A row of each kind.
        kind: Of every row.
        often: Rows of each kind.
    """

    first: NDArray[np.intp]
    kind: NDArray[np.intp]
    often: NDArray[np.intp]


def distinct_rows(counts: NDArray[np.int64]) -> Distinct:
    """Sort rows by a random hash, which is far cheaper than by their content.

    Args:
        counts: Shape (n, ...).
    """
    rows = counts.reshape(len(counts), -1)
    weights = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], np.uint64)
    hashes = rows.astype(np.uint64) @ weights  # wraps round
    _, first, kind, often = np.unique(
        hashes, return_index=True, return_inverse=True, return_counts=True
    )
    if not np.array_equal(rows[first][kind], rows):  # two unlike rows have one hash
        _, first, kind, often = np.unique(
            rows, axis=0, return_index=True, return_inverse=True, return_counts=True
        )
    return Distinct(first, kind.ravel(), often)
