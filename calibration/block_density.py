"""The density of the items that is sampled where many respondents gave few answers each.

Theta is integrated out by the trapezoid rule. A respondent's posterior of theta is far narrower
than the population, so patterns are sorted by their trait at the mode and taken in blocks, and a
block's nodes lie only where its own patterns have any share: about a third of what nodes for
everyone would be. Answers are counts by category, a byte each, so that a log-likelihood is one
matrix product of a small table, which is all that depends on the items.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from calibration import density, layout, scores
from calibration.curvature import groups, seen_at, without_patterns
from calibration.data import Responses
from calibration.density import MarginalData, Table

_SIZE = 512  # patterns of a block: their table stays in a core's cache
_ALONE = 2048  # patterns that are one block, with nodes for everyone
_SHARE = np.exp(-16.0)  # of a pattern's highest node, below which a node is left out
_PER_SD = 1.25  # of the narrowest posterior, between two nodes
_FLOAT32_ANSWERS = 64  # per respondent: beyond, a log-likelihood is too large for its digits

_Table = NDArray[np.float64]


class Blocks(NamedTuple):
    """Distinct patterns in blocks. The dtype of ``weight`` is that of the sums.

    Attributes:
        rest: Data of what takes no sum over respondents.
        n_used: Blocks that hold patterns; the others pad.
        counts: Answers by category, shape (n_blocks, n_items * n_categories, size).
        weight: Respondents that share the pattern, 0 for padding, shape (n_blocks, size).
        reference: Log-likelihoods at the mode, shape (n_blocks, size): their difference from it
            is what single precision holds.
        nodes: Evenly spaced, shape (n_blocks, n_nodes).
    """

    rest: MarginalData
    n_used: Table
    counts: Table
    weight: Table
    reference: Table
    nodes: Table


class _Block(NamedTuple):
    counts: Table
    weight: Table
    reference: Table
    nodes: Table


def log_density(y: Array, data: Blocks) -> Array:
    """`density.marginal_log_density` of one group, up to a constant. It has first derivatives only.

    Args:
        y: Item coordinates.
        data: The respondents.
    """
    seen = density.seen_by_patterns(y, data.rest)[0]
    # The slope is taken on the way forward, so that the large table is exponentiated once.
    fixed = jax.lax.stop_gradient(seen)
    value, slope = _sums(fixed, data)
    return density.without_patterns(y, data.rest) + value + slope @ (seen - fixed)


def from_middle(y: Array, data: Blocks) -> Array:
    """`log_density` for chains, the cuts counted from the middle one."""
    return log_density(density.count_from_lowest(y, data.rest.used), data)


def _sums(seen: Array, data: Blocks) -> tuple[Array, Array]:
    """Weighted sum of log-likelihoods less their references, and its slope."""
    at = seen.astype(data.weight.dtype)

    def add(k: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        block = _Block(data.counts[k], data.weight[k], data.reference[k], data.nodes[k])
        value, slope = _of_block(at, block, data.rest.used)
        return sums[0] + value, sums[1] + slope

    nothing = jnp.zeros(()), jnp.zeros(seen.shape)
    total: tuple[Array, Array] = jax.lax.fori_loop(0, data.n_used, add, nothing)
    return total


def _of_block(at: Array, block: _Block, used: Table) -> tuple[Array, Array]:
    """Fisher's identity: the slope is that of the counts expected at each node."""
    table, back = jax.vjp(lambda seen: _table(seen, used, block.nodes), at)
    share, by_pattern = _integrate(table, block)
    value = jnp.sum((block.weight * (by_pattern - block.reference)).astype(float))
    weighted = share * (block.weight / share.sum(0))
    (slope,) = back(weighted @ block.counts.astype(at.dtype).T)
    return value, slope.astype(float)


def _integrate(table: Array, block: _Block) -> tuple[Array, Array]:
    """Density of the nodes given the pattern, unnormalised, and the log-likelihoods."""
    spacing = block.nodes[1] - block.nodes[0]
    log_weight = jnp.log(spacing / jnp.sqrt(2 * jnp.pi)) - 0.5 * block.nodes**2
    joint = table @ block.counts.astype(table.dtype) + log_weight.astype(table.dtype)[:, None]
    top = joint.max(0)
    share = jnp.exp(joint - top)
    return share, top + jnp.log(share.sum(0))


def _table(seen: Array, used: Table, nodes: Table) -> Array:
    """Log probability of each category but for the factor between cuts, by node.

    Shape (n_nodes, n_items * n_categories).
    """
    n_items, n_cuts = used.shape
    slopes, shifts = jnp.repeat(seen[:n_items], n_cuts), seen[n_items:]
    eta = nodes.astype(seen.dtype)[:, None] * slopes - shifts
    missed = -jax.nn.softplus(eta)
    reached, missed = (
        jnp.where(used, part.reshape(-1, n_items, n_cuts), 0.0) for part in (eta + missed, missed)
    )
    edge = ((0, 0), (0, 0), (1, 0)), ((0, 0), (0, 0), (0, 1))
    by_category = jnp.pad(reached, edge[0]) + jnp.pad(missed, edge[1])
    return by_category.reshape(len(eta), -1)


@jax.jit
def _references(seen: Array, data: Blocks) -> Array:
    def of_block(block: _Block) -> Array:
        table = _table(seen.astype(data.weight.dtype), data.rest.used, block.nodes)
        return _integrate(table, block)[1]

    blocks = _Block(data.counts, data.weight, data.reference, data.nodes)
    found: Array = jax.lax.map(of_block, blocks)
    return found


def lay_out(responses: Responses, data: MarginalData, y: _Table) -> Blocks:
    """Blocks and their nodes, as the mode says.

    Args:
        responses: The data.
        data: Of the density, one group.
        y: The mode.
    """
    counts, weight = _patterns(data)
    a, c = (np.asarray(part)[0] for part in density.group_estimates(y, without_patterns(data))[2:])
    reach = _Reach.of(responses, counts, a, c / a[:, None])
    if weight.size <= _ALONE:
        size = layout.padded_size(weight.size)
        order = np.arange(weight.size)
        nodes = layout.nodes_for_spread(float(reach.narrowest.min()))[None]
    else:
        size, order = _SIZE, np.argsort(reach.mean, kind="stable")
        nodes = _windows(reach, order)
    return _blocks(data, y, (counts[order], weight[order]), nodes, size)


class _Reach(NamedTuple):
    """Where each pattern's posterior of theta lies at the mode.

    Attributes:
        mean: Its mean, shape (n,).
        low: The lowest node with a share of it.
        high: The highest.
        narrowest: Its sd, or what takes the place of it where an item is steeper.
    """

    mean: _Table
    low: _Table
    high: _Table
    narrowest: _Table

    @classmethod
    def of(cls, responses: Responses, counts: NDArray[np.int64], a: _Table, b: _Table) -> "_Reach":
        nodes = layout.theta_nodes(responses, a)
        share = scores.posterior_on_nodes(responses, counts, (a, b), nodes)
        reached = share > _SHARE
        total = share.sum(1)
        mean = share @ nodes / total
        sd = np.sqrt(np.maximum(share @ nodes**2 / total - mean**2, 0.0))
        return cls(
            mean,
            nodes[reached.argmax(1)],
            nodes[::-1][reached[:, ::-1].argmax(1)],
            np.minimum(sd, 1.2 / a.max()),
        )


def _windows(reach: _Reach, order: NDArray[np.intp]) -> _Table:
    """Nodes of each block, as many for each, shape (n_blocks, n_nodes)."""
    starts = np.arange(0, order.size, _SIZE)
    low = np.minimum.reduceat(reach.low[order], starts)
    high = np.maximum.reduceat(reach.high[order], starts)
    narrowest = np.minimum.reduceat(reach.narrowest[order], starts)
    most = int(np.ceil(((high - low) / (_PER_SD * narrowest)).max())) + 1
    n_nodes = -(-most // 4) * 4  # one of a few, so that families share compiled programs
    windows: _Table = np.linspace(low, high, n_nodes, axis=1)
    return windows


def _patterns(data: MarginalData) -> tuple[NDArray[np.int64], _Table]:
    """Counts by category, shape (n, n_items, n_categories), and weights, without padding."""
    group = next(iter(groups(data)))
    kept = group.cut(slice(int(np.count_nonzero(group.weight))))
    n_items, n_cuts = group.used.shape
    counts = kept.counts().T.reshape(-1, n_items, n_cuts + 1)
    return counts.astype(np.int64), kept.weight


def _blocks(
    data: MarginalData,
    y: _Table,
    patterns: tuple[NDArray[np.int64], _Table],
    nodes: _Table,
    size: int,
) -> Blocks:
    counts, weight = patterns
    used = -(-weight.size // size)
    n_blocks = layout.padded_size(used * size) // size
    rows = ((0, n_blocks * size - weight.size), (0, 0))
    light = int(counts.sum((1, 2)).max()) <= _FLOAT32_ANSWERS
    kept: Any = np.int8 if light else np.float64
    dtype: Any = np.float32 if light else np.float64
    columns = np.pad(counts.reshape(len(counts), -1).astype(kept), rows)
    columns = np.ascontiguousarray(columns.reshape(n_blocks, size, -1).transpose(0, 2, 1))
    weights = np.pad(weight, rows[0]).reshape(n_blocks, size).astype(dtype)
    rest = without_patterns(data)
    blocks = Blocks(
        rest,
        np.asarray(used),
        columns,
        weights,
        np.zeros(weights.shape, dtype),
        np.pad(nodes, ((0, n_blocks - len(nodes)), (0, 0)), "edge"),
    )
    return blocks._replace(reference=_references(seen_at(y, rest)[0], blocks))
