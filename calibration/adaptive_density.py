"""The marginal log density on nodes of each respondent's own, for sampling, and draws of theta.

While the items move, a respondent's nodes move with them: what all items share, the unit and the
origin of theta, moves nodes as it moves theta; what is left, which many answers know well, by the
slope of the posterior mode. An item counts in what is shared as much as it tells of theta: one
whose rare categories tell next to nothing moves far, and theta does not follow it. So the dimension
sampled is that of the items alone, and a draw costs a few nodes per respondent. Theta is drawn
afterwards given each draw of the items, by Metropolis steps whose proposals are independent of the
state and nearly the posterior itself, so that nearly every one is taken.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from calibration import adaptive, density, layout
from calibration.curvature import seen_at, without_patterns
from calibration.data import Responses
from calibration.density import MarginalData
from calibration.sums import Group

_RULES = (3, 5, 7, 9, 11, 15, 21, 31)
_TRIED_POINTS = 8
ERROR = 0.02
"""Of the log density's differences over the posterior, which fewest nodes are to stay below."""
_PROPOSALS = 2  # of theta, for each draw of the items
_WIDE_SHARE, _WIDE = 0.1, 2.5  # so that a long tail is proposed as well
_THREADS = 2
_STEEPEST = 80.0  # logits, whose exponential single precision holds; on from there log1p is linear

_Table = NDArray[np.float64]


class OwnNodes(NamedTuple):
    """Respondents with nodes of their own, as columns; n counts padding in.

    Attributes:
        rest: Data of what takes no sum over respondents.
        cuts: The answers, in single precision.
        weight: 0 for padding, shape (n,).
        at: Slopes and shifts at the mode, shape (n_seen,).
        centre: Posterior mean of theta there, shape (n,).
        lean: Its change with slopes and shifts, shape (n_seen, n).
        spread: Posterior sd of theta there, shape (n,).
        told: Share of each cut in what is known of theta there, shape (n_items * n_cuts,).
        nodes: In units of the spread, shape (n_nodes,).
        log_weight: Shape (n_nodes,).
        error: Of the log density's differences, at points of about the posterior.
    """

    rest: MarginalData
    cuts: "Cuts"
    weight: Array
    at: Array
    centre: Array
    lean: Array
    spread: Array
    told: Array
    nodes: Array
    log_weight: Array
    error: Array


class Cuts(NamedTuple):
    """Answers next to each cut, turned so that the rarer side at the mode is the upper one.

    A log-likelihood of thousands of answers has too many digits for single precision; its
    difference from that at the mode has not, where it is worked out as one:
    ``softplus(eta + d) - softplus(eta) = log1p(sigma(eta) expm1(d))``. Each array has shape
    (n_items * n_cuts, n).

    Attributes:
        sign: 1, or -1 where the cut is turned.
        upper: Answers on the upper side, after turning.
        both: Answers on either side.
        chance: Of the upper side at the mode, 0.5 at most.
    """

    sign: Array
    upper: Array
    both: Array
    chance: Array


def log_density(y: Array, data: OwnNodes) -> Array:
    """`density.marginal_log_density` of one group, up to a constant.

    Args:
        y: Item coordinates.
        data: The respondents.
    """
    seen = density.seen_by_patterns(y, data.rest)[0]
    return density.without_patterns(y, data.rest) + _total(seen, data)


def from_middle(y: Array, data: OwnNodes) -> Array:
    """`log_density` for chains, the cuts counted from the middle one."""
    return log_density(density.count_from_lowest(y, data.rest.used), data)


@jax.custom_vjp
def _total(seen: Array, data: OwnNodes) -> Array:
    """Sum of log-likelihoods less those at the mode; differentiated on the way forward.

    The nodes' own movement has no share in the derivative: the integral does not change by it.
    """
    return _total_forward(seen, data)[0]


def _total_forward(seen: Array, data: OwnNodes) -> tuple[Array, tuple[Array, OwnNodes]]:
    n_items, n_cuts = data.rest.used.shape
    centre, spread = _moved(seen, data)
    theta = centre + data.nodes[:, None] * spread
    joint, residual = _relative(seen, theta, data)
    joint += data.log_weight[:, None] + jnp.log(spread)
    top = joint.max(0)
    share = jnp.exp(joint - top)
    total = share.sum(0)
    share *= data.weight / total
    both = jnp.stack([share * theta, share]).astype(residual.dtype).reshape(2, -1)
    by_slope, by_cut = both @ residual.reshape(len(residual), -1).T
    slope = jnp.concatenate([by_slope.reshape(n_items, n_cuts).sum(1), -by_cut])
    return data.weight @ (top + jnp.log(total)), (slope.astype(seen.dtype), data)


def _total_backward(residual: tuple[Array, OwnNodes], scale: Array) -> tuple[Array, OwnNodes]:
    slope, data = residual
    return scale * slope, jax.tree.map(no_slope, data)


def no_slope(part: Array) -> Any:  # noqa: ANN401  # NumPy's array of JAX's dtype without slopes
    """What a part of the data has for a slope."""
    if jnp.issubdtype(part.dtype, jnp.floating):
        return jnp.zeros_like(part)
    return np.zeros(part.shape, jax.dtypes.float0)


_total.defvjp(_total_forward, _total_backward)


def _moved(seen: Array, data: OwnNodes) -> tuple[Array, Array]:
    at = (data.at, data.centre, data.lean, data.spread, data.told)
    return _at_items(seen, at, jnp)


def _at_items(
    seen: Any,  # noqa: ANN401  # NumPy's array or JAX's
    at_mode: tuple[Any, ...],
    np_or_jnp: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    """Centre and spread of each respondent's nodes at other items than the mode's."""
    at, centre, lean, spread, told = at_mode
    n_items = at.size - told.size
    slopes, n_cuts = seen[:n_items], told.size // n_items
    by_item = told.reshape(n_items, n_cuts).sum(1)
    unit = np_or_jnp.exp(np_or_jnp.sum(by_item * np_or_jnp.log(at[:n_items] / slopes)))
    by_cut = np_or_jnp.repeat(slopes, n_cuts)
    origin = np_or_jnp.sum(told * (seen[n_items:] - at[n_items:]) / by_cut)
    left = np_or_jnp.concatenate([slopes * unit, seen[n_items:] - by_cut * origin]) - at
    return origin + unit * (centre + left @ lean), unit * spread


def _relative(seen: Array, theta: Array, data: OwnNodes) -> tuple[Array, Array]:
    """Log joint density of answers and theta, less its likelihood at the mode, (n_nodes, n).

    Also the answers above each cut less those expected, shape (n_items * n_cuts, n_nodes, n).
    """
    n_items, n_cuts = data.rest.used.shape
    change = seen - data.at
    by_cut = [jnp.repeat(part[:n_items], n_cuts) for part in (change, data.at)]
    near, moved = (part.astype(jnp.float32) for part in (theta, theta - data.centre))

    def add(joint: Array, row: Any) -> tuple[Array, Array]:  # noqa: ANN401  # a row of each part
        steeper, slope, shift, cut = row
        d = cut.sign * (steeper * near + slope * moved - shift)
        grown = jnp.expm1(jnp.minimum(d, _STEEPEST))
        chance = cut.chance * (1.0 + grown) / (1.0 + cut.chance * grown)
        softplus = jnp.log1p(cut.chance * grown) + jnp.maximum(d - _STEEPEST, 0.0)
        joint += cut.upper * d - cut.both * softplus
        return joint, cut.sign * (cut.upper - cut.both * chance)

    scalars = (part.astype(jnp.float32) for part in (*by_cut, change[n_items:]))
    joint, residual = jax.lax.scan(add, jnp.zeros_like(near), (*scalars, data.cuts))
    return joint - 0.5 * theta**2, residual


def lay_out(responses: Responses, data: MarginalData, y: _Table, scale: _Table) -> OwnNodes:
    """Nodes around the mode, as few as the posterior of the items needs.

    Posteriors that steep items cut off may need more than there are rules for: see ``error``.

    Args:
        responses: The data.
        data: Of the density, one group.
        y: The mode.
        scale: ``y + scale @ z`` with standard normal z is about the posterior.
    """
    group = group_of(responses)
    rest = without_patterns(data)
    at = seen_at(y, rest)[0]
    theta, share, _ = adaptive.integrated(at, group)
    centre = (theta * share).sum(0)
    spread = np.sqrt(((theta - centre) ** 2 * share).sum(0))
    lean, told = _lean(at, group, centre)
    z = np.random.default_rng(0).standard_normal((_TRIED_POINTS, y.size))
    points = [at, *(seen_at(y + scale @ row, rest)[0] for row in z)]
    rule, error = _fewest(group, points, (at, centre, lean, spread, told))
    parts = (group.weight, at, centre, lean, spread, told, *rule, error)
    cuts = _turned(at, group, centre)
    return OwnNodes(rest, cuts, *(jnp.asarray(part) for part in parts))


def draw_theta(y: _Table, data: OwnNodes, seed: int, n: int) -> _Table:
    """A draw of each respondent's theta for each draw of the items.

    Args:
        y: Draws, shape (chains, draws, n_coordinates).
        data: What they were drawn with.
        seed: Of the draws of theta.
        n: Respondents without the padding.

    Returns:
        Single precision, shape (chains, draws, n).
    """
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), len(y))
    with ThreadPoolExecutor(_THREADS) as pool:
        drawn = pool.map(lambda key, chain: np.asarray(_walk(key, chain, data))[:, :n], keys, y)
        return np.stack(list(drawn))


@jax.jit
def _walk(key: Array, y: Array, data: OwnNodes) -> Array:
    def one(theta: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        key, point = step
        seen = density.seen_by_patterns(point, data.rest)[0]
        centre, spread = _moved(seen, data)
        wide, normal, level = jax.random.split(key, 3)
        shape = (_PROPOSALS, theta.size)
        width = jnp.where(jax.random.uniform(wide, shape) < _WIDE_SHARE, _WIDE, 1.0)
        proposed = centre + spread * width * jax.random.normal(normal, shape)
        everyone = jnp.concatenate([theta[None], proposed])
        gain = _relative(seen, everyone, data)[0] - _log_proposal((everyone - centre) / spread)
        taken, best = theta, gain[0]
        log_level = jnp.log(jax.random.uniform(level, shape))
        for k in range(_PROPOSALS):
            better = gain[k + 1] - best > log_level[k]
            taken = jnp.where(better, proposed[k], taken)
            best = jnp.where(better, gain[k + 1], best)
        return taken, taken.astype(jnp.float32)

    keys = jax.random.split(key, len(y))
    return jax.lax.scan(one, data.centre, (keys, y))[1]


def _log_proposal(z: Array) -> Array:
    narrow = jnp.log(1.0 - _WIDE_SHARE) - 0.5 * z**2
    return jnp.logaddexp(narrow, jnp.log(_WIDE_SHARE / _WIDE) - 0.5 * (z / _WIDE) ** 2)


def group_of(responses: Responses) -> Group:
    """Respondents as columns, padded so that families of like size share programs."""
    counts = layout.cut_counts(responses)
    size = layout.padded_size(responses.n_respondents)
    above, below = (
        np.pad(part.reshape(len(part), -1).T, ((0, 0), (0, size - len(part))))
        for part in (counts.above, counts.below)
    )
    weight = np.pad(counts.weight, (0, size - counts.weight.size))
    return Group(above, above + below, weight, counts.used, np.zeros(0))


def _turned(at: _Table, group: Group, theta: _Table) -> Cuts:
    n_items, n_cuts = group.used.shape
    eta = np.repeat(at[:n_items], n_cuts)[:, None] * theta - at[n_items:, None]
    parts = (
        np.where(eta > 0, -1.0, 1.0),
        np.where(eta > 0, group.both - group.above, group.above),
        group.both,
        adaptive.chance_above(-np.abs(eta)),
    )
    return Cuts(*(jnp.asarray(part, jnp.float32) for part in parts))


def _lean(at: _Table, group: Group, theta: _Table) -> tuple[_Table, _Table]:
    """Derivative of the posterior mode of theta by slopes and shifts, shape (n_seen, n).

    And the share of each cut in the information on theta, shape (n_items * n_cuts,).
    """
    n_items, n_cuts = group.used.shape
    slopes = np.repeat(at[:n_items], n_cuts)[:, None]
    chance = adaptive.chance_above(slopes * theta - at[n_items:, None])
    variance = group.both * chance * (1.0 - chance)
    by_slope = group.above - group.both * chance - slopes * theta * variance
    by_item = by_slope.reshape(n_items, n_cuts, -1).sum(1)
    information = slopes**2 * variance
    lean: _Table = np.concatenate([by_item, slopes * variance]) / (information.sum(0) + 1.0)
    told = information @ group.weight
    return lean, told / told.sum()


def _fewest(
    group: Group, points: list[_Table], at_mode: tuple[_Table, ...]
) -> tuple[tuple[_Table, _Table], float]:
    """The smallest rule by which no point's log-likelihood is off against the mode's, and by what.

    The largest there is where none is good enough.
    """
    exact = np.array([group.weight @ adaptive.integrated(seen, group)[2] for seen in points])
    for n in _RULES:
        rule = adaptive.hermite(n)
        off = np.array([_by_rule(group, seen, at_mode, rule) for seen in points]) - exact
        error = float(np.abs(off - off[0]).max())
        if error < ERROR:
            break
    return rule, error


def _by_rule(
    group: Group,
    seen: _Table,
    at_mode: tuple[_Table, ...],
    rule: tuple[_Table, _Table],
) -> float:
    centre, spread = _at_items(seen, at_mode, np)
    theta = centre + rule[0][:, None] * spread
    joint = adaptive.log_joint(seen, group, theta) + rule[1][:, None] + np.log(spread)
    top = joint.max(0)
    return float(group.weight @ (top + np.log(np.exp(joint - top).sum(0))))
