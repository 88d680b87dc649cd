"""The log densities, in the coordinates that are sampled. JAX; float64 unless data says else.

The stated model: ``log a_j = mu + sigma z_j`` with ``z_j ~ N(0, 1)`` (non-centred),
``mu ~ N(0, 1)``, ``sigma ~ LogNormal(log 0.4, 0.5)``, cut points ``c_jk = a_j b_jk`` from
``N(0, 5)`` in increasing order (`Priors` moves 0.4 and 5), ``theta ~ N(0, 1)``,
``P(Y >= k | theta) = logistic(a_j theta - c_jk) = logistic(a_j (theta - b_jk))``.

The prior is on the cut points, not on the thresholds b: a wide prior on every b would, with few
respondents, pull the unit of theta (each b is proportional to it) and with it every a.

The coordinates are chosen for their geometry: log a itself with mu and sigma integrated out, the
lowest cut point and log gaps; see README.md.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from calibration.layout import LOGISTIC_VARIANCE
from calibration.results import Priors

# Newton's last steps and the second derivatives need it; nothing else here uses JAX.
_config: Any = jax.config  # untyped
_config.update("jax_enable_x64", True)

Table = Array | NDArray[Any]

MU_SD = 1.0
LOG_SIGMA_SD = 0.5
_GRID = np.linspace(-4.0, 4.0, 48)


class PriorTable(NamedTuple):
    """`Priors` worked out for a number of items, sigma on a grid of its logarithm.

    Attributes:
        log_sigma: The grid, shape (48,).
        within: Variance of log a around mu, shape (48,).
        between: Variance of the sum of log a, over n, with mu integrated out, shape (48,).
        log_weight: What of the log prior no log a changes, shape (48,).
        cut_sd: As in `Priors`.
    """

    log_sigma: Table
    within: Table
    between: Table
    log_weight: Table
    cut_sd: Table


def tabulate(priors: Priors, n_items: int) -> PriorTable:
    """The priors as the densities read them: numbers, so that one program serves them all."""
    log_sigma = np.log(priors.log_discrimination_sd) + LOG_SIGMA_SD * _GRID
    within = np.exp(2 * log_sigma)
    between = within + n_items * MU_SD**2
    log_weight = -0.5 * (_GRID**2 + (n_items - 1) * np.log(within) + np.log(between))
    return PriorTable(log_sigma, within, between, log_weight, np.asarray(priors.cut_sd))


def other_priors(priors: Priors, n_items: int) -> PriorTable | None:
    """As `tabulate`, but None for the stated ones, which `known_priors` makes constants."""
    return None if priors == Priors() else tabulate(priors, n_items)


def known_priors(other: PriorTable | None, n_items: int) -> PriorTable:
    """What `other_priors` stands for, inside a program."""
    return tabulate(Priors(), n_items) if other is None else other


class Items(NamedTuple):
    """Item coordinates: log a (n_items,), lowest cut (n_items,), log gaps (n_items, n_cuts - 1)."""

    log_a: Array
    lowest: Array
    log_gap: Array


class JointData(NamedTuple):
    """Few respondents; ``middle`` and ``used`` as in `layout.CutCounts`.

    ``above`` and ``both``, shape (n_respondents, n_items * n_cuts), count the answers above each
    cut and next to it on either side: rows of all cuts are what runs fastest.
    ``rough`` is a standardised score, shape (n_respondents,); ``basis``, shape (n_respondents,
    n_respondents - 2), spans what is orthogonal to it and to a constant.
    """

    above: Array
    both: Array
    middle: Array
    used: Array
    rough: Array
    basis: Array
    priors: PriorTable


class Patterns(NamedTuple):
    """Distinct answer patterns as columns, which is how sums over nodes run fastest.

    Attributes:
        above: Answers above each cut, shape (n_items * n_cuts, n), or with groups before it.
        both: Answers next to each cut, above or below, same shape.
    """

    above: Table
    both: Table


class MarginalData(NamedTuple):
    """Many respondents in groups.

    ``tie_a`` and ``tie_b``, shape (n_items,), and ``prior_weight`` are numbers, 0 or 1, so that one
    compiled program serves every model.
    """

    patterns: Patterns
    weight: Table
    middle: Table
    used: Table
    nodes: Table
    tie_a: Table
    tie_b: Table
    prior_weight: Table
    priors: PriorTable


def cut_points(items: Items, used: Table) -> Array:
    """Increasing cut points c = a b, shape (n_items, n_cuts)."""
    gaps = jnp.where(used[:, 1:], jnp.exp(items.log_gap), 1.0)
    steps = jnp.concatenate([jnp.zeros((gaps.shape[0], 1)), jnp.cumsum(gaps, 1)], 1)
    return items.lowest[:, None] + steps


def split_items(y: Array, n_items: int, n_cuts: int) -> Items:
    """Item coordinates from the last n_items * (n_cuts + 1) entries of a flat vector."""
    flat = y[-n_items * (n_cuts + 1) :]
    return Items(
        flat[:n_items],
        flat[n_items : 2 * n_items],
        flat[2 * n_items :].reshape(n_items, n_cuts - 1),
    )


def from_middle(items: Items, used: Table) -> Items:
    """Items whose ``lowest`` holds the middle cut, with the lowest in its place.

    A category at the end that hardly anybody used leaves its cut open on one side. Counted from a
    cut that is known, that is one log gap; counted from the lowest, it bends every other gap. The
    change has a unit Jacobian.
    """
    inside = jnp.arange(items.log_gap.shape[1]) < used.sum(1)[:, None] // 2
    to_middle = jnp.sum(jnp.where(inside, jnp.exp(items.log_gap), 0.0), 1)
    return items._replace(lowest=items.lowest - to_middle)


def from_standardised(y: Array, used: Table) -> tuple[Array, Array]:
    """Coordinates by the lowest cuts from those by standardised ones, and the log Jacobian.

    A cut in units of all answers' spread, ``c / sqrt(1 + (a / 1.7)^2)``, is the threshold of
    factor analysis (Takane & de Leeuw 1987). The shares of the categories tell it whatever a is,
    so that few respondents, who leave a wide open, bend it little.

    Args:
        y: Items come last, the middle cut in place of the lowest, cuts and gaps standardised.
        used: As in `layout.CutCounts`.
    """
    n_items, n_cuts = used.shape
    items = split_items(y, n_items, n_cuts)
    log_unit = 0.5 * jnp.log1p(jnp.exp(2.0 * items.log_a) / LOGISTIC_VARIANCE)
    gaps = items.log_gap + jnp.where(used[:, 1:], log_unit[:, None], 0.0)
    items = from_middle(items._replace(lowest=items.lowest * jnp.exp(log_unit), log_gap=gaps), used)
    others = y[: y.size - n_items * (n_cuts + 1)]
    stated = jnp.concatenate([others, items.log_a, items.lowest, gaps.reshape(-1)])
    return stated, jnp.sum(log_unit)


def count_from_lowest(y: Array, used: Table) -> Array:
    """The same point by the lowest cuts; ``y`` holds the middle ones, and items come last."""
    n_items, n_cuts = used.shape
    items = from_middle(split_items(y, n_items, n_cuts), used)
    others = y[: y.size - n_items * (n_cuts + 1)]
    return jnp.concatenate([others, items.log_a, items.lowest, items.log_gap.reshape(-1)])


def joint_log_density(y: Array, data: JointData) -> Array:
    """Posterior of traits and items, up to a constant.

    The likelihood can't tell a shift or a stretch of all traits from one of the items. So theta
    is written as ``mean + scale * u``, where ``u`` differs from a rough score by ``basis @ w``
    only, and the items are those that go with ``u``: the likelihood sees w and the items, which
    it knows well, and mean and scale meet the prior alone. With many answers a respondent, theta
    itself would be a cone that narrows with the scale.

    Args:
        y: mean, log scale, w (n_respondents - 2), then item coordinates that go with u, with the
            middle cut in place of the lowest.
        data: The counts.
    """
    n = data.rough.size
    u, mean, log_scale, known, stated = joint_parameters(y, data)
    eta = on_cuts(u[:, None], known, data.used)
    likelihood = answers(eta, data.above, data.both)
    theta = mean + jnp.exp(log_scale) * u
    return (
        likelihood
        + between_cuts(known, data.middle, data.used)
        + log_prior(stated, data.used, data.priors)
        + unused_gaps(known, data.used)
        + (n - 1) * log_scale
        - 0.5 * jnp.sum(theta**2)
    )


def joint_parameters(y: Array, data: JointData) -> tuple[Array, Array, Array, Items, Items]:
    """The parts of ``y``: u, mean, log scale, the items that go with u, those with theta."""
    n = data.rough.size
    n_items, n_cuts = data.used.shape
    mean, log_scale = y[0], y[1]
    u = data.rough + data.basis @ y[2:n]
    known = from_middle(split_items(y, n_items, n_cuts), data.used)
    log_a = known.log_a - log_scale
    stated = Items(log_a, known.lowest + mean * jnp.exp(log_a), known.log_gap)
    return u, mean, log_scale, known, stated


def marginal_log_density(y: Array, data: MarginalData) -> Array:
    """Log-likelihood with theta integrated out, plus ``prior_weight`` times the log prior.

    Coordinates that the ties leave unused keep a standard normal, so every Hessian is regular.

    Args:
        y: Item coordinates per group, then the mean and the log sd of theta for each group but
            the first, which is N(0, 1).
        data: The patterns.
    """
    total = without_patterns(y, data)
    for g, seen in enumerate(seen_by_patterns(y, data)):
        total += data.weight[g] @ _log_likelihoods(seen, data, g)
    return total


def without_patterns(y: Array, data: MarginalData) -> Array:
    """What of `marginal_log_density` takes no sum over patterns."""
    groups, items = group_parameters(y, data)
    likelihood, prior = jnp.zeros(()), jnp.zeros(())
    for g, (mean, log_sd, of_group) in enumerate(zip(*groups, items, strict=True)):
        likelihood += between_cuts(of_group, data.middle[g], data.used)
        prior += (
            log_prior(of_group, data.used, data.priors) - 0.5 * mean**2 - 0.5 * (log_sd / 0.5) ** 2
        )
    return likelihood + data.prior_weight * prior + _unused(y, data)


def seen_by_patterns(y: Array, data: MarginalData) -> Array:
    """Slope of each item, then shift of each cut, on the scale of the nodes, a row per group.

    All that the sum over patterns sees of ``y``: ``eta = slope * node - shift``.
    """
    groups, items = group_parameters(y, data)
    return jnp.stack(
        [
            _on_nodes(of_group, mean, log_sd, data.used)
            for mean, log_sd, of_group in zip(*groups, items, strict=True)
        ]
    )


@jax.jit
def group_estimates(y: Array, data: MarginalData) -> tuple[Array, Array, Array, Array]:
    """Mean and sd of theta, a and cut points of each group, stacked along the first axis."""
    (means, log_sds), items = group_parameters(y, data)
    return (
        jnp.stack(means),
        jnp.exp(jnp.stack(log_sds)),
        jnp.stack([jnp.exp(of_group.log_a) for of_group in items]),
        jnp.stack([cut_points(of_group, data.used) for of_group in items]),
    )


def group_parameters(
    y: Array, data: MarginalData
) -> tuple[tuple[list[Array], list[Array]], list[Items]]:
    """Means and log sds of theta, and item coordinates, for each group, with ties applied.

    With discriminations free, theta is N(0, 1) in each group. With any of them tied, its sd is
    free outside the first group; with any thresholds tied too, so is its mean.
    """
    blocks, tail = _blocks(y, data)
    first = blocks[0]
    means, log_sds, items = [jnp.zeros(())], [jnp.zeros(())], [first]
    for g, block in enumerate(blocks[1:]):
        means.append(data.tie_b.max() * tail[g, 0])
        log_sds.append(data.tie_a.max() * tail[g, 1])
        items.append(
            Items(
                jnp.where(data.tie_a > 0, first.log_a, block.log_a),
                jnp.where(data.tie_b > 0, first.lowest, block.lowest),
                jnp.where(data.tie_b[:, None] > 0, first.log_gap, block.log_gap),
            )
        )
    return (means, log_sds), items


def _on_nodes(items: Items, mean: Array, log_sd: Array, used: Table) -> Array:
    a = jnp.exp(items.log_a)
    shifts = cut_points(items, used) - (a * mean)[:, None]
    return jnp.concatenate([a * jnp.exp(log_sd), shifts.reshape(-1)])


def _log_likelihoods(seen: Array, data: MarginalData, g: int) -> Array:
    """Of one group's patterns, without the factor between cuts, shape (n,)."""
    n_items, n_cuts = data.used.shape
    slopes, shifts = jnp.repeat(seen[:n_items], n_cuts), seen[n_items:]
    above, both = data.patterns.above[g], data.patterns.both[g]
    softplus = jax.nn.softplus(data.nodes[:, None] * slopes - shifts)
    log_weight = -0.5 * data.nodes**2
    joint = jnp.outer(data.nodes, slopes @ above) - softplus @ both + log_weight[:, None]
    integral = jax.scipy.special.logsumexp(joint, 0) - jax.scipy.special.logsumexp(log_weight)
    return integral - shifts @ above


def log_prior(items: Items, used: Table, priors: PriorTable) -> Array:
    """Log prior of the items, the change of coordinates included, up to a constant."""
    return hierarchical_log_prior(items.log_a, priors) + cut_log_prior(items, used, priors)


def cut_log_prior(items: Items, used: Table, priors: PriorTable) -> Array:
    """Log prior of the cut points, the change to log gaps included, up to a constant."""
    cuts = jnp.where(used, cut_points(items, used), 0.0)
    change = jnp.sum(jnp.where(used[:, 1:], items.log_gap, 0.0))
    return change - 0.5 * jnp.sum((cuts / priors.cut_sd) ** 2)


def hierarchical_log_prior(log_a: Array, priors: PriorTable) -> Array:
    """Log prior of the log discriminations: mu integrated out exactly, sigma on a grid."""
    mean = jnp.mean(log_a)
    within = jnp.sum((log_a - mean) ** 2)
    by_sigma = within / priors.within + log_a.size * mean**2 / priors.between
    return jax.scipy.special.logsumexp(priors.log_weight - 0.5 * by_sigma)


def on_cuts(trait: Array, items: Items, used: Table) -> Array:
    """``a trait - c``, shape (n_respondents, n_items * n_cuts).

    Args:
        trait: The trait behind each item, shape (n_respondents, n_items), or one column for all.
        items: That go with it.
        used: Which cuts there are.
    """
    by_cut = jnp.repeat(trait * jnp.exp(items.log_a), used.shape[1], 1)
    return by_cut - cut_points(items, used).reshape(-1)


@jax.custom_vjp
def answers(eta: Array, above: Array, both: Array) -> Array:
    """``sum(above * eta - both * softplus(eta))``; value and slope share one exponential."""
    return _answers_forward(eta, above, both)[0]


def _answers_forward(eta: Array, above: Array, both: Array) -> tuple[Array, tuple[Array, Array]]:
    small = jnp.exp(-jnp.abs(eta))
    larger = 1.0 / (1.0 + small)
    value = jnp.sum(above * eta - both * (jnp.maximum(eta, 0.0) + _log1p_of_share(small)))
    return value, (above - both * jnp.where(eta > 0, larger, small * larger), both)


def _log1p_of_share(share: Array) -> Array:
    """log(1 + share) for 0 <= share <= 1, exact to rounding, by the series of 2 artanh.

    XLA has vectors of exponentials but takes logarithms in float64 one by one.
    """
    ratio = share / (2.0 + share)
    square = ratio**2
    total = jnp.full_like(share, 1.0 / 31)
    for k in range(29, 0, -2):
        total = total * square + 1.0 / k
    return 2.0 * ratio * total


def _answers_backward(residual: tuple[Array, Array], scale: Array) -> tuple[Array, Array, Array]:
    slope, both = residual
    return scale * slope, jnp.zeros_like(both), jnp.zeros_like(both)


answers.defvjp(_answers_forward, _answers_backward)


def between_cuts(items: Items, middle: Table, used: Table) -> Array:
    """Log-likelihood's factor that is free of theta; ``middle`` as in `layout.CutCounts`."""
    safe = jnp.where(used[:, 1:], jnp.exp(items.log_gap), 1.0)
    return jnp.sum(middle * jnp.log(-jnp.expm1(-safe)))


def unused_gaps(items: Items, used: Table) -> Array:
    """A standard normal for coordinates that no item has, so that the Hessian is regular."""
    return -0.5 * jnp.sum(jnp.where(used[:, 1:], 0.0, items.log_gap) ** 2)


def _blocks(y: Array, data: MarginalData) -> tuple[list[Items], Array]:
    n_groups = data.weight.shape[0]
    n_items, n_cuts = data.used.shape
    width = n_items * (n_cuts + 1)
    rows = y[: n_groups * width].reshape(n_groups, width)
    return [split_items(row, n_items, n_cuts) for row in rows], y[n_groups * width :].reshape(-1, 2)


def _unused(y: Array, data: MarginalData) -> Array:
    blocks, tail = _blocks(y, data)
    total = unused_gaps(blocks[0], data.used)
    for g, block in enumerate(blocks[1:]):
        log_gap = block.log_gap**2
        gap_free = jnp.where(data.used[:, 1:], data.tie_b[:, None] * log_gap, log_gap)
        total -= 0.5 * jnp.sum(data.tie_a * block.log_a**2)
        total -= 0.5 * (jnp.sum(data.tie_b * block.lowest**2) + jnp.sum(gap_free))
        total -= 0.5 * (1 - data.tie_b.max()) * tail[g, 0] ** 2
        total -= 0.5 * (1 - data.tie_a.max()) * tail[g, 1] ** 2
    return total
