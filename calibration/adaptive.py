"""Theta integrated on nodes of each respondent's own, where answers are many. NumPy only.

A respondent with hundreds of answers has a posterior so narrow that nodes on a common scale would
be hundreds, nearly all of them empty. It is also nearly normal, so a few Gauss-Hermite nodes
around its own mode, as far apart as its own curvature says, integrate it (Naylor & Smith 1982;
Pinheiro & Bates 1995). The mode is found anew at each point: the log posterior of theta is
concave, and cheap.
"""

import numpy as np
from numpy.typing import NDArray

from calibration.sums import Group, Sums, from_variance

NODES = 21
MORE_NODES = (61, 121)
"""For posteriors that steep items cut off: of 21 nodes too many lie where nothing is."""
_BLOCK = 2**18
"""Numbers of the table of cuts by nodes by respondents at once."""
_STEPS = 60
_FURTHEST = 40.0

_Table = NDArray[np.float64]


def hermite(n: int) -> tuple[_Table, _Table]:
    """Nodes and log weights under which the sum of a density at them is its integral."""
    nodes, weight = np.polynomial.hermite_e.hermegauss(n)
    return nodes, np.log(weight) + 0.5 * nodes**2


def sum_up(at: _Table, group: Group, curved: bool, *, n_nodes: int = NODES) -> Sums:
    """Sums over one group's respondents, a block at a time; the curvature costs no more."""
    del curved
    size = max(_BLOCK // (n_nodes * group.above.shape[0]), 16)
    value, slope, curvature = 0.0, np.zeros(at.size), np.zeros((at.size, at.size))
    for begin in range(0, group.weight.size, size):
        part = _block_sums(at, group.cut(slice(begin, begin + size)), n_nodes)
        value += part.value
        slope += part.slope
        curvature += part.curvature
    return Sums(value, slope, curvature)


def located(at: _Table, group: Group) -> tuple[_Table, _Table]:
    """Mode of each respondent's posterior of theta and its sd by curvature, each (n,).

    Newton's steps, or halves of the interval that holds the mode where a step would leave it.
    """
    n_items, n_cuts = group.used.shape
    slopes, shifts = np.repeat(at[:n_items], n_cuts)[:, None], at[n_items:, None]
    theta = np.zeros(group.weight.size)
    low, high = theta - _FURTHEST, theta + _FURTHEST
    for _ in range(_STEPS):
        chance = chance_above(slopes * theta - shifts)
        gradient = (slopes * (group.above - group.both * chance)).sum(0) - theta
        strength = (slopes**2 * group.both * chance * (1.0 - chance)).sum(0) + 1.0
        low, high = np.where(gradient > 0, theta, low), np.where(gradient > 0, high, theta)
        step = theta + gradient / strength
        after = np.where((step > low) & (step < high), step, 0.5 * (low + high))
        moved, theta = np.abs(after - theta) * np.sqrt(strength), after
        if moved.max(initial=0.0) < 1e-6:
            break
    return theta, 1.0 / np.sqrt(strength)


def _block_sums(at: _Table, part: Group, n_nodes: int) -> Sums:
    theta, share, by_respondent = integrated(at, part, n_nodes)
    n_items, n_cuts = part.used.shape
    slopes, shifts = np.repeat(at[:n_items], n_cuts), at[n_items:]
    chance = chance_above(slopes[:, None, None] * theta - shifts[:, None, None])
    residual = part.above[:, None] - part.both[:, None] * chance
    by_item = residual.reshape(n_items, n_cuts, *theta.shape).sum(1) * theta
    table = np.concatenate([by_item, -residual])
    score = (table * share).sum(1)
    spread = ((table - score[:, None]) * np.sqrt(share * part.weight)).reshape(at.size, -1)
    variance = part.both[:, None] * chance * (1.0 - chance) * (share * part.weight)
    by_power = [(variance * theta**power).sum((1, 2)) for power in range(3)]
    return Sums(
        float(part.weight @ by_respondent),
        score @ part.weight,
        spread @ spread.T - from_variance(by_power, part.used),
    )


def integrated(at: _Table, part: Group, n_nodes: int = NODES) -> tuple[_Table, _Table, _Table]:
    """Nodes and the posterior's weights on them, (n_nodes, n), and log-likelihoods, (n,)."""
    nodes, log_weight = hermite(n_nodes)
    centre, sd = located(at, part)
    theta = centre + nodes[:, None] * sd
    joint = log_joint(at, part, theta) + log_weight[:, None] + np.log(sd)
    top = joint.max(0)
    share = np.exp(joint - top)
    total = share.sum(0)
    return theta, share / total, top + np.log(total)


def log_joint(at: _Table, part: Group, theta: _Table) -> _Table:
    """Log density of a respondent's answers and theta, without the factor between cuts.

    Args:
        at: Slopes and shifts.
        part: The answers of n respondents.
        theta: Shape (n_nodes, n).
    """
    n_items, n_cuts = part.used.shape
    joint: _Table = -0.5 * theta**2 - 0.5 * np.log(2 * np.pi)
    for cut, (slope, shift) in enumerate(
        zip(np.repeat(at[:n_items], n_cuts), at[n_items:], strict=True)
    ):
        eta = slope * theta - shift
        joint += part.above[cut] * eta
        joint -= part.both[cut] * (np.maximum(eta, 0.0) + np.log1p(np.exp(-np.abs(eta))))
    return joint


def chance_above(eta: _Table) -> _Table:
    """Logistic of eta, of any shape."""
    small = np.exp(-np.abs(eta))
    chance: _Table = np.where(eta > 0, 1.0, small) / (1.0 + small)
    return chance
