"""What sums over respondents take and give. NumPy only.

Derivatives are by slope of each item, then shift of each cut, on the scale of the nodes:
``eta = slope * node - shift``.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Table = NDArray[np.float64]


class Group(NamedTuple):
    """One group's patterns as columns.

    Attributes:
        above: Answers above each cut, shape (n_items * n_cuts, n).
        both: Answers next to each cut, above or below, same shape.
        weight: Respondents that share the pattern, shape (n,).
        used: Which cuts an item has, bool, shape (n_items, n_cuts).
        nodes: That all patterns share, shape (n_nodes,).
    """

    above: _Table
    both: _Table
    weight: _Table
    used: NDArray[np.bool_]
    nodes: _Table

    def cut(self, part: slice) -> "Group":
        """Some of the patterns."""
        columns = (self.above[:, part], self.both[:, part])
        return Group(*columns, self.weight[part], self.used, self.nodes)

    def counts(self) -> _Table:
        """Answers by category, shape (n_items * (n_cuts + 1), n)."""
        n_items, n_cuts = self.used.shape
        above = self.above.reshape(n_items, n_cuts, -1)
        lowest = self.both.reshape(n_items, n_cuts, -1)[:, :1] - above[:, :1]
        counts: _Table = np.concatenate([lowest, above], 1)
        return counts.reshape(n_items * (n_cuts + 1), -1)


class Sums(NamedTuple):
    """Of a group.

    Attributes:
        value: Weighted sum of log-likelihoods.
        slope: First derivatives, shape (n_items + n_items * n_cuts,).
        curvature: Second derivatives; 0 where they were not wanted.
    """

    value: float
    slope: _Table
    curvature: _Table


def information(answers: _Table, chance: _Table, theta: _Table, used: NDArray[np.bool_]) -> _Table:
    """Expected information of the complete data.

    Args:
        answers: Weighted answers next to each cut, shape (n_nodes, n_items * n_cuts).
        chance: Of an answer above the cut, same shape.
        theta: The nodes, shape (n_nodes, 1) or the same shape.
        used: Which cuts an item has, shape (n_items, n_cuts).
    """
    variance = answers * chance * (1.0 - chance)
    return from_variance([(variance * theta**power).sum(0) for power in range(3)], used)


def from_variance(by_power: list[_Table], used: NDArray[np.bool_]) -> _Table:
    """The same from sums of variance by theta's powers 0 to 2, each (n_items * n_cuts,)."""
    plain, once, twice = by_power
    n_items, n_cuts = used.shape
    item = np.repeat(np.eye(n_items), n_cuts, axis=1)
    across = -item * once
    return np.block([[np.diag(item @ twice), across], [across.T, np.diag(plain)]])
