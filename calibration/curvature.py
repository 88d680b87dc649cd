"""Value, slope and curvature of the marginal log density, by sums over patterns and nodes.

A group's likelihood sees the coordinates only through the slope of each item and the shift of
each cut on the scale of the nodes, ``eta = slope * node - shift``. In these the second derivatives
are Louis' (1982): expected curvature of the complete data, plus the covariance of their score
under each pattern's density of the nodes. That is a matrix product over patterns and nodes, where
differentiating twice would run through the large table once per coordinate. What is left, the
map from the coordinates and the priors, is small and is differentiated by JAX.

Without the first part of the covariance (scores of patterns instead of patterns and nodes) the
curvature is that of Berndt et al. (1974): right where the model is, and cheaper by the number of
nodes. It leads the search until it no longer helps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from calibration import density
from calibration.data import Responses
from calibration.density import MarginalData, Patterns
from calibration.layout import theta_nodes
from calibration.newton import Mode, find_mode

_TABLE = 2**17
"""Numbers of the table of scores at once: what stays in a core's cache."""

_REFINEMENTS = 4


class Sums(NamedTuple):
    """Of one block of patterns of one group; derivatives by (slopes, shifts).

    Attributes:
        value: Weighted sum of log-likelihoods less their references.
        slope: First derivatives, shape (n_items + n_items * n_cuts,).
        curvature: Second derivatives, exact or Berndt's.
    """

    value: Array
    slope: Array
    curvature: Array


def find_marginal_mode(
    responses: Responses, start: NDArray[np.float64], data: MarginalData
) -> Mode:
    """The maximum of `density.marginal_log_density`.

    Items that turn out steeper than the nodes were laid out for get closer nodes, and the search
    goes on: on nodes too far apart a steep item's likelihood has a maximum between two of them.

    Raises:
        NotConvergedError: No mode within the steps.
    """
    mode = find_mode(density.marginal_log_density, start, data, evaluate=evaluate)
    for _ in range(_REFINEMENTS):
        seen = density.seen_by_patterns(jnp.asarray(mode.y), data)[:, : len(responses.items)]
        nodes = theta_nodes(responses, np.asarray(seen.max(0)))
        if nodes.size <= data.nodes.size:
            break
        data = data._replace(nodes=jnp.asarray(nodes))
        mode = find_mode(density.marginal_log_density, mode.y, data, evaluate=evaluate)
    return mode


@jax.jit
def evaluate(y: Array, data: MarginalData, rough: Array) -> tuple[Array, Array, Array]:
    """Value, first and second derivatives of `density.marginal_log_density`.

    Args:
        y: Coordinates, shape (n,).
        data: The patterns, in float64.
        rough: Whether Berndt's curvature is enough.
    """

    def others(point: Array) -> Array:
        return density.without_patterns(point, data)

    def seen(point: Array) -> Array:
        return density.seen_by_patterns(point, data)

    at, by_y = seen(y), jax.jacfwd(seen)(y)
    value, slope, hessian = others(y), jax.grad(others)(y), jax.hessian(others)(y)
    sums = [
        _group(at[g], data, Patterns(data.patterns.above[g], data.patterns.both[g]), g, rough)
        for g in range(at.shape[0])
    ]
    slopes = jnp.stack([group.slope for group in sums])
    hessian += jax.hessian(lambda point: jnp.sum(slopes * seen(point)))(y)
    for g, group in enumerate(sums):
        value += group.value
        slope += by_y[g].T @ group.slope
        hessian += by_y[g].T @ group.curvature @ by_y[g]
    return value, slope, hessian


def _group(at: Array, data: MarginalData, patterns: Patterns, g: int, rough: Array) -> Sums:
    """Sums over one group's patterns, a block at a time so that memory stays bounded."""
    n, width = data.weight.shape[1], at.size
    size = _block(n, width * data.nodes.size)
    weight, reference = data.weight[g], data.reference[g]

    def cut(part: Array) -> Array:
        return jnp.moveaxis(part.reshape(*part.shape[:-1], n // size, size), -2, 0)

    def add(sums: Sums, block: tuple[Patterns, Array, Array]) -> tuple[Sums, None]:
        more = _block_sums(at, data, block, rough)
        return Sums(*(total + part for total, part in zip(sums, more, strict=True))), None

    nothing = Sums(jnp.zeros(()), jnp.zeros(width), jnp.zeros((width, width)))
    blocks = (Patterns(*map(cut, patterns)), cut(weight), cut(reference))
    total: Sums = jax.lax.scan(add, nothing, blocks)[0]
    return total


def _block(n: int, row: int) -> int:
    """The largest power of two that divides n and keeps the table small, at least 4."""
    size = n & -n
    while size > 4 and size * row > _TABLE:
        size //= 2
    return size


def _block_sums(
    at: Array, data: MarginalData, block: tuple[Patterns, Array, Array], rough: Array
) -> Sums:
    (above, both), weight, reference = block
    n_items, n_cuts = data.used.shape
    slopes, shifts = jnp.repeat(at[:n_items], n_cuts), at[n_items:]
    eta = data.nodes[:, None] * slopes - shifts
    chance = jax.nn.sigmoid(eta)
    tables = (-jax.nn.softplus(eta), slopes, shifts, density.node_table(data.nodes))
    share, by_pattern = density.integrate(density.by_node(*tables, Patterns(above, both)))
    share /= share.sum(0)
    weighted = share * weight
    by_cut = above - both * (chance.T @ share)
    by_slope = above * (data.nodes @ share) - both * ((data.nodes[:, None] * chance).T @ share)
    score = jnp.concatenate([by_slope.reshape(n_items, n_cuts, -1).sum(1), -by_cut])

    def louis() -> Array:
        chances = chance.T.reshape(n_items, n_cuts, -1, 1)
        residual = (
            above.reshape(n_items, n_cuts, 1, -1) - both.reshape(n_items, n_cuts, 1, -1) * chances
        )
        by_slope = data.nodes[:, None] * residual.sum(1) - score[:n_items, None]
        by_cut = -residual.reshape(shifts.size, *by_slope.shape[1:]) - score[n_items:, None]
        spread = jnp.concatenate([by_slope, by_cut]) * jnp.sqrt(weighted)
        spread = spread.reshape(at.size, -1)
        return spread @ spread.T - _information(data, chance, weighted @ both.T)

    curvature = jax.lax.cond(rough, lambda: -(score * weight) @ score.T, louis)
    return Sums(jnp.sum(weight * (by_pattern - reference)), score @ weight, curvature)


def _information(data: MarginalData, chance: Array, answers: Array) -> Array:
    """Expected information of the complete data; ``answers`` by node and cut."""
    n_items, n_cuts = data.used.shape
    variance = answers * chance * (1 - chance)
    item = jnp.repeat(jnp.eye(n_items), n_cuts, axis=1)
    by_slope = item @ (data.nodes**2 @ variance)
    across = -item * (data.nodes @ variance)
    return jnp.block([[jnp.diag(by_slope), across], [across.T, jnp.diag(variance.sum(0))]])
