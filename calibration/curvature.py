"""Value, slope and curvature of the marginal log density, by sums over patterns and nodes.

A group's likelihood sees the coordinates only through the slope of each item and the shift of
each cut on the scale of the nodes, ``eta = slope * node - shift``. In these the second derivatives
are Louis' (1982): expected curvature of the complete data, plus the covariance of their score
under each pattern's density of the nodes. What is left, the map from the coordinates and the
priors, is small and is differentiated by JAX. The sums are NumPy's: matrix products, nothing to
compile.

A score is linear in a pattern's counts, so its second moments need one matrix of weighted counts
per node, ``counts @ diag(share) @ counts.T``, whatever the items' parameters. Patterns lie in the
order of their mean answer, so that a block of them reaches few of the nodes.

With many patterns the curvature costs ten times the slope. It is then taken of a sample of them,
which leads the search nearly to the end by exact slopes, and of all at the end, for the standard
errors.
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from calibration import adaptive, density
from calibration.data import Responses
from calibration.density import MarginalData, Patterns
from calibration.errors import NotConvergedError
from calibration.layout import THETA_LIMIT, many_answers, theta_nodes
from calibration.newton import Evaluate, Mode, approach, find_mode
from calibration.sums import Group, Sums, information

_Table = NDArray[np.float64]
SumUp = Callable[[_Table, Group, bool], Sums]

_BLOCK = 2**15
"""Numbers of the table of patterns by nodes at once: what stays in a core's cache."""

_THREADS = 2
_ALONE = 4096  # patterns that are sooner done than a second thread is started
_SAMPLE = 4096
_LOG_NO_SHARE = -30.0  # of a node in a pattern's density
_LOST = float(np.log(1e-3))  # log a of an item that goes to 0
_REFINEMENTS = 4
_OWN_NODES_ERROR = 0.05  # of a log-likelihood: items of a = 10 cut a respondent's posterior off
_SAME_SLOPE = 3e-3  # in standard errors
_FINE = 401  # nodes, where fewer show no maximum


def find_marginal_mode(
    responses: Responses, start: NDArray[np.float64], data: MarginalData
) -> Mode:
    """The maximum of `density.marginal_log_density`.

    Where respondents gave many answers, theta is integrated on nodes of each one's own (see
    `adaptive`). Else items that turn out steeper than the nodes were laid out for get closer
    nodes, and the search goes on: on nodes too far apart a steep item's likelihood has a maximum
    between two of them, or none at all.

    Raises:
        NotConvergedError: No mode within the steps.
    """
    if many_answers(responses):
        return _search_on_own_nodes(start, data)
    try:
        mode = _search(start, data)
    except NotConvergedError as error:
        if error.at is not None and error.at[: len(responses.items)].min() < _LOST:
            raise  # an item against the others, which is no matter of nodes
        data = data._replace(nodes=np.linspace(-THETA_LIMIT, THETA_LIMIT, _FINE))
        mode = _search(start, data)
    for _ in range(_REFINEMENTS):
        steepest = seen_at(mode.y, data)[:, : len(responses.items)].max(0)
        nodes = theta_nodes(responses, steepest)
        if nodes.size <= data.nodes.size:
            break
        data = data._replace(nodes=nodes)
        mode = _search(mode.y, data)
    return mode


def _search_on_own_nodes(start: _Table, data: MarginalData) -> Mode:
    """On more of them where the slope is another one there."""
    mode = _to_mode_on_own_nodes(start, data, adaptive.NODES)
    for n_nodes in adaptive.MORE_NODES:
        _, slope, hessian = _on_own_nodes(n_nodes)(mode.y, data)
        if slope @ np.linalg.solve(-hessian, slope) < _SAME_SLOPE**2:
            break
        closer = _to_mode_on_own_nodes(mode.y, data, n_nodes)
        mode = replace(closer, iterations=mode.iterations + closer.iterations)
    return mode


def _to_mode_on_own_nodes(start: _Table, data: MarginalData, n_nodes: int) -> Mode:
    return find_mode(
        density.marginal_log_density,
        start,
        data,
        evaluate=_on_own_nodes(n_nodes),
        value_error=_OWN_NODES_ERROR,
    )


def _on_own_nodes(n_nodes: int) -> Evaluate:
    return partial(evaluate, sum_up=partial(adaptive.sum_up, n_nodes=n_nodes))


def _search(start: _Table, data: MarginalData) -> Mode:
    sample, taken = _sampled(data), 0
    if sample is not None:
        near = find_mode(density.marginal_log_density, start, sample, evaluate=evaluate)
        start, taken = approach(evaluate, near, data)
    mode = find_mode(density.marginal_log_density, start, data, evaluate=evaluate)
    return replace(mode, iterations=taken + mode.iterations)


def _sampled(data: MarginalData) -> MarginalData | None:
    """A few thousand patterns of each group, weighted for all; None where there are few more.

    With its priors, so that a rare category that the sample lacks lets no parameter run off.
    """
    weight = np.asarray(data.weight)
    if (np.count_nonzero(weight, 1) < 4 * _SAMPLE).any():
        return None
    rng = np.random.default_rng(0)
    chosen = [np.sort(rng.choice(np.flatnonzero(row), _SAMPLE, replace=False)) for row in weight]
    above, both, weight = (
        np.stack([part[..., kept] for part, kept in zip(np.asarray(whole), chosen, strict=True)])
        for whole in (*data.patterns, data.weight)
    )
    weight *= np.asarray(data.weight).sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    below = (both - above).reshape(len(weight), *data.used.shape, -1)[:, :, 1:]
    return data._replace(
        patterns=Patterns(above, both),
        weight=weight,
        middle=np.einsum("gjkn,gn->gjk", below, weight),
        prior_weight=np.ones(()),
    )


def evaluate(
    y: _Table,
    data: MarginalData,
    *,
    curved: bool = True,
    sum_up: SumUp | None = None,
) -> tuple[float, _Table, _Table]:
    """Value, first and second derivatives of `density.marginal_log_density`.

    Args:
        y: Coordinates, shape (n,).
        data: The patterns.
        curved: Whether second derivatives are wanted; they lack the patterns' share without it.
        sum_up: Over patterns and nodes; on nodes that all patterns share without it.
    """
    light = without_patterns(data)
    at, by_y = (np.asarray(part) for part in _seen(y, light))
    sum_up = sum_up or on_shared_nodes
    sums = [sum_up(seen, group, curved) for seen, group in zip(at, groups(data), strict=True)]
    found = _through(y, light, np.stack([of_group.slope for of_group in sums]))
    value, slope, hessian = (np.array(part) for part in found)
    for seen, of_group in zip(by_y, sums, strict=True):
        value += of_group.value
        if curved:
            hessian += seen.T @ of_group.curvature @ seen
    return float(value), slope, hessian


def without_patterns(data: MarginalData) -> MarginalData:
    """What the map from the coordinates needs: programs that read it serve any number of rows."""
    nothing = np.zeros((data.weight.shape[0], 0, 0))
    return data._replace(
        patterns=Patterns(nothing, nothing),
        weight=data.weight[:, :0],
        nodes=data.nodes[:0],
    )


@jax.jit
def _seen(y: Array, light: MarginalData) -> tuple[Array, Array]:
    """What the sums see of the coordinates, and its derivatives by them."""

    def seen(point: Array) -> tuple[Array, Array]:
        at = density.seen_by_patterns(point, light)
        return at, at

    by_y, at = jax.jacfwd(seen, has_aux=True)(y)
    return at, by_y


@jax.jit
def _through(y: Array, light: MarginalData, slopes: Array) -> tuple[Array, Array, Array]:
    """Value of what takes no sum, then derivatives of it and of the sums' slopes by the map."""

    def both(point: Array) -> tuple[Array, Array]:
        others = density.without_patterns(point, light)
        return others + jnp.sum(slopes * density.seen_by_patterns(point, light)), others

    def sloped(point: Array) -> tuple[Array, tuple[Array, Array]]:
        (_, others), slope = jax.value_and_grad(both, has_aux=True)(point)
        return slope, (others, slope)

    hessian, (value, slope) = jax.jacfwd(sloped, has_aux=True)(y)
    return value, slope, hessian


def seen_at(y: _Table, data: MarginalData) -> _Table:
    """Slopes and shifts of each group at a point; see `density.seen_by_patterns`."""
    return np.asarray(_seen(y, without_patterns(data))[0])


def groups(data: MarginalData) -> Iterator[Group]:
    """Each group's patterns, padding included."""
    used = np.asarray(data.used)
    parts = (data.patterns.above, data.patterns.both, data.weight)
    for above, both, weight in zip(*map(np.asarray, parts), strict=True):
        yield Group(above, both, weight, used, np.asarray(data.nodes))


def on_shared_nodes(at: _Table, group: Group, curved: bool) -> Sums:
    """Sums over one group's patterns, a block at a time so that memory stays bounded."""
    tables = _Tables.of(at, group)
    threads = _THREADS if group.weight.size > _ALONE else 1
    ends = np.linspace(0, group.weight.size, threads + 1).astype(int).tolist()
    parts = [group.cut(slice(*pair)) for pair in itertools.pairwise(ends)]
    of_part = partial(_Totals.of, at, tables, curved)
    if threads == 1:
        totals = [of_part(parts[0])]
    else:
        with ThreadPoolExecutor(threads) as pool:
            totals = list(pool.map(of_part, parts))
    total = _Totals(*(sum(more[1:], more[0]) for more in zip(*totals, strict=True)))
    if not curved:
        return Sums(total.value, total.slope, total.outer)
    theta = group.nodes[:, None]
    spread = _second_moments(total.moments, tables.chance, group.nodes, group.used)
    known = information(total.answers, tables.chance, theta, group.used)
    return Sums(total.value, total.slope, spread - total.outer - known)


class _Totals(NamedTuple):
    """Of some patterns: value, slope, and what the curvature is made of.

    Attributes:
        value: Weighted sum of log-likelihoods.
        slope: Sum of scores.
        outer: Sum of outer products of patterns' scores.
        answers: Expected answers next to each cut, by node.
        moments: Second moments of the counts, by node.
    """

    value: float
    slope: _Table
    outer: _Table
    answers: _Table
    moments: _Table

    @classmethod
    def of(cls, at: _Table, tables: "_Tables", curved: bool, group: Group) -> "_Totals":
        n_items, n_cuts = group.used.shape
        size = max(_BLOCK // group.nodes.size, 64)
        value, slope, outer = 0.0, np.zeros(at.size), np.zeros((at.size, at.size))
        answers = np.zeros(tables.chance.shape)
        moments = np.zeros((curved * group.nodes.size, *2 * [n_items * (n_cuts + 1)]))
        for begin in range(0, group.weight.size, size):
            part = group.cut(slice(begin, begin + size))
            reached, share, by_pattern, score = _block(at, part, tables)
            value += float(part.weight @ by_pattern)
            slope += score @ part.weight
            if curved:
                scaled = score * np.sqrt(part.weight)
                outer += scaled @ scaled.T
                share *= part.weight
                answers[reached] += share @ part.both.T
                _add_moments(moments, part.counts(), reached, share)
        return cls(value, slope, outer, answers, moments)


class _Tables(NamedTuple):
    """What does not depend on the patterns, by node and cut, and the slope of each cut's item."""

    softplus: _Table
    chance: _Table
    with_node: _Table
    slopes: _Table
    log_weight: _Table

    @classmethod
    def of(cls, at: _Table, group: Group) -> "_Tables":
        n_items, n_cuts = group.used.shape
        slopes, theta = np.repeat(at[:n_items], n_cuts), group.nodes[:, None]
        eta = theta * slopes - at[n_items:]
        small = np.exp(-np.abs(eta))
        chance = np.where(eta > 0, 1.0, small) / (1.0 + small)
        softplus = np.maximum(eta, 0.0) + np.log1p(small)
        return cls(softplus, chance, theta * chance, slopes, _log_weight(group.nodes))


def _block(at: _Table, part: Group, tables: _Tables) -> tuple[slice, _Table, _Table, _Table]:
    """Nodes that the patterns reach, their density there, log-likelihoods, (n,), and scores."""
    n_items, n_cuts = part.used.shape
    joint = tables.softplus @ -part.both
    joint += np.multiply.outer(part.nodes, tables.slopes @ part.above)
    joint += tables.log_weight[:, None]
    top = joint.max(0)
    joint -= top
    there = np.flatnonzero(joint.max(1) > _LOG_NO_SHARE)
    reached = slice(there[0], there[-1] + 1)
    share = np.exp(joint[reached])
    total = share.sum(0)
    share /= total
    by_pattern = top + np.log(total) - at[n_items:] @ part.above
    by_cut = part.above - part.both * (tables.chance[reached].T @ share)
    by_slope = part.above * (part.nodes[reached] @ share)
    by_slope -= part.both * (tables.with_node[reached].T @ share)
    of_item = by_slope.reshape(n_items, n_cuts, -1).sum(1)
    return reached, share, by_pattern, np.concatenate([of_item, -by_cut])


def _log_weight(theta: _Table) -> _Table:
    log_weight = -0.5 * theta**2
    normalised: _Table = log_weight - np.log(np.exp(log_weight).sum())
    return normalised


def _add_moments(moments: _Table, counts: _Table, reached: slice, weighted: _Table) -> None:
    """Add second moments of the counts at each node that the patterns reach."""
    for q, root in enumerate(np.sqrt(weighted), start=reached.start):
        scaled = counts * root
        moments[q] += scaled @ scaled.T


def _second_moments(
    moments: _Table, chance: _Table, theta: _Table, used: NDArray[np.bool_]
) -> _Table:
    """Second moments of the scores from those of the counts, summed over nodes."""
    n_items, n_cuts = used.shape
    width = n_items * n_cuts
    by_cut = np.zeros((width, width))
    by_both = np.zeros((n_items, width))
    by_slope = np.zeros((n_items, n_items))
    for q, table in enumerate(moments):
        own = (chance[q].reshape(n_items, n_cuts), used)
        half = _residual(table.reshape(n_items, n_cuts + 1, -1), *own).reshape(width, -1)
        whole = _residual(half.T.reshape(n_items, n_cuts + 1, -1), *own).reshape(width, width)
        of_item = whole.reshape(n_items, n_cuts, width).sum(1)
        by_cut += whole
        by_both -= theta[q] * of_item
        by_slope += theta[q] ** 2 * of_item.reshape(n_items, n_items, n_cuts).sum(2)
    return np.block([[by_slope, by_both], [by_both.T, by_cut]])


def _residual(counts: _Table, chance: _Table, used: NDArray[np.bool_]) -> _Table:
    """Answers above each cut less those expected, from counts, (n_items, n_categories, n)."""
    above = (used * (1.0 - chance))[:, :, None] * counts[:, 1:]
    left: _Table = above - (used * chance)[:, :, None] * counts[:, :-1]
    return left
