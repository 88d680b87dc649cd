"""Respondents' scores and the marginal log-likelihood, by quadrature. NumPy only."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.data import Responses
from calibration.layout import theta_nodes, used_cuts

_THREADS = 2  # what they hold at once grows with them
_OWN_NODES = np.linspace(-8.0, 8.0, 33)  # posterior sds of theta around its mode
_NEWTON_STEPS = 12  # of theta, each 1 at most


class Quadrature(NamedTuple):
    """Given items, with theta integrated out.

    Attributes:
        log_likelihood: Of each respondent, shape (n_respondents,).
        mean: Posterior means of theta (EAP, Bock & Mislevy 1982), same shape.
        sd: Posterior standard deviations, same shape.
    """

    log_likelihood: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]


def integrate(
    responses: Responses,
    discrimination: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    nodes: NDArray[np.float64] | None = None,
) -> Quadrature:
    """Integrate theta out by the trapezoid rule.

    Args:
        responses: The data.
        discrimination: Shape (n_items,).
        thresholds: Shape (n_items, n_cuts); what lies beyond an item's own is not read.
        nodes: Evenly spaced; `layout.theta_nodes` of these items without it.
    """
    theta = theta_nodes(responses, discrimination) if nodes is None else nodes
    joint = _joint(responses, responses.counts, (discrimination, thresholds), theta)
    top = joint.max(1)
    share = np.exp(joint - top[:, None])
    total = share.sum(1)
    mean = share @ theta / total
    variance = share @ theta**2 / total - mean**2
    return Quadrature(top + np.log(total), mean, np.sqrt(np.maximum(variance, 0.0)))


def log_likelihood_by_draw(
    responses: Responses,
    discrimination: NDArray[np.float64],
    thresholds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Marginal log-likelihoods under many draws of the items, shape (n_draws, n_respondents).

    A respondent at a time, on nodes around the mode of theta under each draw: for few respondents
    whose many answers leave theta a narrow posterior.

    Args:
        responses: The data.
        discrimination: Draws, shape (n_draws, n_items).
        thresholds: Draws, shape (n_draws, n_items, n_cuts); what lies beyond an item's own is not
            read.
    """
    used = used_cuts(responses.categories, thresholds.shape[2])
    cuts = discrimination[:, :, None] * np.where(used, thresholds, 0.0)
    gaps = np.where(used[:, 1:], np.diff(cuts, axis=2), 1.0)
    between = np.where(used[:, 1:], np.log(-np.expm1(-gaps)), 0.0)
    slopes = np.repeat(discrimination, used.shape[1], 1)[:, used.ravel()]
    flat_cuts = cuts[:, used]
    columns = []
    for counts in responses.counts:
        above, below = counts[:, 1:][used], np.where(used, counts[:, :-1], 0)
        on_cuts = _on_own_nodes(slopes, flat_cuts, above, above + below[used])
        columns.append(on_cuts + (below[:, 1:] * between).sum((1, 2)))
    return np.stack(columns, 1)


def _on_own_nodes(
    slopes: NDArray[np.float64],
    cuts: NDArray[np.float64],
    above: NDArray[np.int64],
    both: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Log integral of one respondent's answers over theta, shape (n_draws,).

    The log density is concave (Samejima 1969), so that Newton's steps find its top.
    """
    theta = np.zeros((len(slopes), 1))
    total = (slopes @ above)[:, None]
    for _ in range(_NEWTON_STEPS):
        passed = 1.0 / (1.0 + np.exp(-np.clip(slopes * theta - cuts, -500.0, 500.0)))
        slope = total - ((slopes * passed) @ both)[:, None] - theta
        curvature = 1.0 + ((slopes**2 * passed * (1.0 - passed)) @ both)[:, None]
        theta = theta + np.clip(slope / curvature, -1.0, 1.0)
    sd = 1.0 / np.sqrt(curvature)
    nodes = theta + sd * _OWN_NODES
    eta = slopes[:, None, :] * nodes[:, :, None] - cuts[:, None, :]
    softplus = np.maximum(eta, 0.0) + np.log1p(np.exp(-np.abs(eta)))
    joint = total * nodes - (cuts @ above)[:, None] - softplus @ both - nodes**2 / 2
    top = joint.max(1)
    step = sd[:, 0] * (_OWN_NODES[1] - _OWN_NODES[0])
    total_density = np.exp(joint - top[:, None]).sum(1) * step / np.sqrt(2 * np.pi)
    log_integral: NDArray[np.float64] = top + np.log(total_density)
    return log_integral


def posterior_on_nodes(
    responses: Responses,
    counts: NDArray[np.int64],
    items: tuple[NDArray[np.float64], NDArray[np.float64]],
    nodes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Density of theta on the nodes, its highest point 1, shape (n, n_nodes).

    Args:
        responses: Says which categories the items have.
        counts: Answers of any respondents, shape (n, n_items, n_categories_max).
        items: Discriminations (n_items,) and thresholds (n_items, n_cuts).
        nodes: Evenly spaced.
    """
    joint = _joint(responses, counts, items, nodes)
    share: NDArray[np.float64] = np.exp(joint - joint.max(1, keepdims=True))
    return share


def _joint(
    responses: Responses,
    counts: NDArray[np.int64],
    items: tuple[NDArray[np.float64], NDArray[np.float64]],
    theta: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Log joint density of answers and node, shape (n, n_nodes)."""
    table = log_category_probabilities(responses, *items, theta)
    log_weight = -0.5 * theta**2
    joint: NDArray[np.float64] = counts.reshape(len(counts), -1).astype(float) @ table.reshape(
        -1, theta.size
    )
    joint += log_weight - np.log(np.exp(log_weight).sum())
    return joint


def log_category_probabilities(
    responses: Responses,
    discrimination: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    theta: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Log probability of each category at each theta, shape (n_items, n_categories_max, n).

    Theta is of shape (n,), or (n_items, n) where each item has its own trait's.
    """
    used = used_cuts(responses.categories, thresholds.shape[1])
    cuts = np.where(used, thresholds, 0.0)
    eta = discrimination[:, None, None] * (theta[..., None, :] - cuts[:, :, None])
    reached = np.where(used[:, :, None], -np.logaddexp(0.0, -eta), 0.0)
    missed = np.where(used[:, :, None], -np.logaddexp(0.0, eta), 0.0)
    between = used[:, 1:]
    width = discrimination[:, None] * np.where(between, np.diff(cuts, axis=1), 1.0)
    inside = np.where(between, np.log(-np.expm1(-np.where(between, width, 1.0))), 0.0)
    table = np.zeros((discrimination.size, cuts.shape[1] + 1, theta.shape[-1]))
    table[:, 1:] += reached
    table[:, :-1] += missed
    table[:, 1:-1] += inside[:, :, None]
    return table


def average_scores(
    responses: Responses,
    discrimination: NDArray[np.float64],
    thresholds: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior mean and sd of theta over draws of the items.

    Args:
        responses: The data.
        discrimination: Draws, shape (n_draws, n_items).
        thresholds: Draws, shape (n_draws, n_items, n_cuts).
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = list(pool.map(partial(integrate, responses), discrimination, thresholds))
    means = np.stack([at.mean for at in parts])
    variance = np.mean([at.sd**2 for at in parts], axis=0) + means.var(0)
    return means.mean(0), np.sqrt(variance)


def marginal_reliability(mean: NDArray[np.float64], sd: NDArray[np.float64]) -> float:
    """Share of the variance of theta that the scores explain (Green et al. 1984)."""
    explained = float(mean.var())
    return explained / (explained + float((sd**2).mean()))
