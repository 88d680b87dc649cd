"""The log density of correlated traits with theta integrated out, for many respondents. JAX.

Each item belongs to one trait, so a respondent's likelihood is a product of functions of one trait
each, and only the prior N(0, Omega) couples them. Expectation propagation (Minka 2001; Rasmussen &
Williams 2006, 3.6) replaces each such function by a normal one that leaves the trait's posterior
mean and variance what they are: integrals over one trait at a time, by quadrature, and products of
normal densities. What it leaves out, the third and fourth cumulants of two traits together, is
added (Opper, Paquet & Winther 2013).

Parameters move little over the posterior, so a few passes from the mode's normal functions are
enough: an error of theirs enters the log density by its square. The slope is Fisher's identity.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import LKJCholesky
from numpyro.distributions.transforms import CorrCholeskyTransform

from calibration import density
from calibration.adaptive_density import no_slope
from calibration.correlated_density import LKJ_CONCENTRATION

# The trapezoid rule over a normal density is off by 2 exp(-2 (pi / coarseness)^2): at 3 by a tenth,
# and beyond it soon gives a likelihood, and cumulants, of any size. Chains stay below 1.6.
_COARSEST = 3.0


class Sites(NamedTuple):
    """Normal functions ``exp(shift theta - precision theta^2 / 2)``, each (n_traits, n)."""

    precision: Array
    shift: Array


class MarginalTraits(NamedTuple):
    """Many respondents, as columns.

    Attributes:
        above: Answers above each cut of a trait, shape (n_traits, n_slots, n); slots that a trait
            does not need hold none. Their dtype is the one that sums over nodes are done in.
        both: Answers next to each cut, same shape.
        slot: Which cut of all items it is, shape (n_traits, n_slots).
        middle: As in `layout.CutCounts`.
        used: The same.
        nodes: Of theta for `on_shared_nodes`, in posterior sds for `on_own_nodes`.
        log_weight: Of the nodes.
        sites: To start from.
        passes: How many are made.
        prior_weight: 0 or 1.
        priors: Of the items, see `density.other_priors`.
    """

    above: Array
    both: Array
    slot: Array
    middle: Array
    used: Array
    nodes: Array
    log_weight: Array
    sites: Sites
    passes: Array
    prior_weight: Array
    priors: density.PriorTable | None


class Normal(NamedTuple):
    """Posteriors by sites.

    Attributes:
        mean: Shape (n_traits, n).
        variance: The same.
        covariance: Shape (n_traits, n_traits, n).
        log_integral: Of prior times sites, shape (n,).
    """

    mean: Array
    variance: Array
    covariance: Array
    log_integral: Array


class Pass(NamedTuple):
    """One pass over the traits.

    Attributes:
        normal: Posteriors by the sites that it began with.
        share: Of each node in a trait's own posterior, times ``total``; (n_traits, n_nodes, n).
        total: Shape (n_traits, n).
        origin: ``theta = origin + unit * node``, shape (n_traits, n) or none.
        unit: The same.
        cumulants: Third and fourth of a trait, in units of its sd, shape (2, n_traits, n).
        log_evidence: Shape (n_traits, n).
        after: Sites that it ends with.
        coarseness: Gap between nodes, in units of the narrowest posterior's sd.
    """

    normal: Normal
    share: Array
    total: Array
    origin: Array
    unit: Array
    cumulants: Array
    log_evidence: Array
    after: Sites
    coarseness: Array


class Seen(NamedTuple):
    """All that the sum over respondents sees of the coordinates."""

    slopes: Array
    shifts: Array
    omega: Array


def on_shared_nodes(y: Array, data: MarginalTraits) -> Array:
    """Posterior of correlations and items, up to a constant; few answers per trait.

    Args:
        y: Partial correlations as `CorrCholeskyTransform` takes them, then item coordinates.
        data: The counts.

    Returns:
        Minus infinity where the nodes lie too far apart to tell.
    """
    return _without_respondents(y, data) + _total(False, seen_by(y, data), data)


def on_own_nodes(y: Array, data: MarginalTraits) -> Array:
    """The same on nodes around each respondent's own posterior; many answers per trait."""
    return _without_respondents(y, data) + _total(True, seen_by(y, data), data)


def standardised_on_shared_nodes(y: Array, data: MarginalTraits) -> Array:
    """`on_shared_nodes` for chains, by the coordinates of `density.from_standardised`."""
    stated, log_jacobian = density.from_standardised(y, data.used)
    return on_shared_nodes(stated, data) + log_jacobian


def standardised_on_own_nodes(y: Array, data: MarginalTraits) -> Array:
    """`on_own_nodes` for chains, by the coordinates of `density.from_standardised`."""
    stated, log_jacobian = density.from_standardised(y, data.used)
    return on_own_nodes(stated, data) + log_jacobian


def correlation_of(y: Array, n_traits: int) -> Array:
    """Omega, shape (n_traits, n_traits)."""
    root: Array = CorrCholeskyTransform()(y[: n_traits * (n_traits - 1) // 2])
    return root @ root.T


def respondents(y: Array, data: MarginalTraits, own: bool) -> tuple[Normal, Sites]:
    """Posteriors of the traits, and the sites to go on from."""
    last = propagate(own, seen_by(y, data), data)
    return last.normal, last.after


def _without_respondents(y: Array, data: MarginalTraits) -> Array:
    items = density.split_items(y, *data.used.shape)
    n_traits = data.slot.shape[0]
    free = y[: n_traits * (n_traits - 1) // 2]
    transform = CorrCholeskyTransform()
    root = transform(free)
    prior: Array = LKJCholesky(n_traits, LKJ_CONCENTRATION).log_prob(root)
    of_items = density.known_priors(data.priors, len(data.used))
    prior += transform.log_abs_det_jacobian(free, root) + density.log_prior(
        items, data.used, of_items
    )
    return (
        data.prior_weight * prior
        + density.between_cuts(items, data.middle, data.used)
        + density.unused_gaps(items, data.used)
    )


def seen_by(y: Array, data: MarginalTraits) -> Seen:
    """What the sum over respondents sees of the coordinates."""
    items = density.split_items(y, *data.used.shape)
    slopes = jnp.repeat(jnp.exp(items.log_a), data.used.shape[1])
    shifts = density.cut_points(items, data.used).reshape(-1)
    omega = correlation_of(y, data.slot.shape[0])
    return Seen(slopes[data.slot], shifts[data.slot], omega)


def _by_sites(omega: Array, sites: Sites) -> Normal:
    """Prior times sites; they enter one trait at a time, each a change of rank one."""
    n_traits, n = sites.shift.shape

    def enter(t: Array, so_far: tuple[Array, Array]) -> tuple[Array, Array]:
        covariance, log_grown = so_far
        column = covariance[t]
        grown = 1.0 + sites.precision[t] * column[t]
        covariance -= column[:, None] * (column * (sites.precision[t] / grown))
        return covariance, log_grown + jnp.log(grown)

    start = jnp.broadcast_to(omega[:, :, None], (n_traits, n_traits, n)), jnp.zeros(n)
    covariance, log_grown = jax.lax.fori_loop(0, n_traits, enter, start)
    mean = jnp.sum(covariance * sites.shift, 1)
    return Normal(
        mean,
        jnp.diagonal(covariance).T,
        covariance,
        0.5 * (jnp.sum(sites.shift * mean, 0) - log_grown),
    )


def _pass(own: bool, seen: Seen, data: MarginalTraits, table: Array, sites: Sites) -> Pass:
    normal = _by_sites(seen.omega, sites)
    left = 1.0 / (1.0 - sites.precision * normal.variance)
    variance = normal.variance * left  # of the cavity: all but the trait's own site
    mean = left * (normal.mean - normal.variance * sites.shift)
    origin, unit, dtype = jnp.zeros(()), jnp.ones(()), data.above.dtype
    if own:
        origin, unit = normal.mean, jnp.sqrt(normal.variance)
        theta = (origin[:, None] + unit[:, None] * data.nodes[:, None]).astype(dtype)
        table = _likelihood(seen, theta, data) + data.log_weight.astype(dtype)[:, None]
    away = (mean - origin) / unit
    narrow = unit**2 / variance
    linear, square = (part.astype(dtype)[:, None] for part in (away * narrow, -0.5 * narrow))
    nodes = data.nodes.astype(dtype)[:, None]
    joint = table + (nodes * linear + nodes**2 * square)
    top = joint.max(1)
    share = jnp.exp(joint - top[:, None])
    total, centre, spread, cumulants_of_trait = _moments(share, data.nodes)
    middle = data.nodes.size // 2
    gap = data.nodes[middle] - data.nodes[middle - 1]
    coarseness = gap / jnp.sqrt(jnp.maximum(spread.min(), 0.0))
    centre, spread = origin + unit * centre, unit**2 * spread
    after = Sites(
        jnp.maximum(1.0 / spread - 1.0 / variance, 0.0), centre / spread - mean / variance
    )
    # Of the cavity with the trait's own function, less that with its site in its place.
    log_evidence = top + jnp.log(total * unit / jnp.sqrt(2 * jnp.pi * normal.variance))
    squares = (mean**2 - (mean - origin) ** 2) / variance - normal.mean**2 / normal.variance
    log_evidence += 0.5 * squares
    return Pass(
        normal, share, total, origin, unit, cumulants_of_trait, log_evidence, after, coarseness
    )


def _moments(share: Array, nodes: Array) -> tuple[Array, Array, Array, Array]:
    """Total, mean, variance, and standardised third and fourth cumulants, in units of nodes."""
    powers = jnp.stack([nodes**k for k in range(5)]).astype(share.dtype)
    total, *raw = jnp.einsum("mk,tkn->mtn", powers, share).astype(float)
    first, second, third, fourth = (moment / total for moment in raw)
    variance = second - first**2
    third_central = third - 3.0 * first * second + 2.0 * first**3
    fourth_central = fourth - 4.0 * first * third + 6.0 * first**2 * second - 3.0 * first**4
    standardised = (third_central / variance**1.5, fourth_central / variance**2 - 3.0)
    return total, first, variance, jnp.stack(standardised)


def propagate(own: bool, seen: Seen, data: MarginalTraits) -> Pass:
    """Passes from the data's sites on, of which the last is returned."""
    table = jnp.zeros((), data.above.dtype) if own else _shared_table(seen, data)

    def once(_: Array, sites: Sites) -> Sites:
        return _pass(own, seen, data, table, sites).after

    sites = jax.lax.fori_loop(1, data.passes, once, data.sites)
    return _pass(own, seen, data, table, sites)


def _shared_table(seen: Seen, data: MarginalTraits) -> Array:
    """Log-likelihood and weight at each node, shape (n_traits, n_nodes, n)."""
    dtype = data.above.dtype
    softplus = jax.nn.softplus(_on_nodes(seen, data)).astype(dtype)
    slope = jnp.einsum("tc,tcn->tn", seen.slopes.astype(dtype), data.above)
    shift = jnp.einsum("tc,tcn->tn", seen.shifts.astype(dtype), data.above)
    nodes, log_weight = (part.astype(dtype)[:, None] for part in (data.nodes, data.log_weight))
    table = log_weight - jnp.einsum("tkc,tcn->tkn", softplus, data.both)
    return table + (nodes * slope[:, None] - shift[:, None])


def _on_nodes(seen: Seen, data: MarginalTraits) -> Array:
    return data.nodes[:, None] * seen.slopes[:, None] - seen.shifts[:, None]


def _likelihood(seen: Seen, theta: Array, data: MarginalTraits) -> Array:
    """Log-likelihood at nodes of each respondent's own, shape (n_traits, n_nodes, n)."""

    def add(total: Array, row: tuple[Array, ...]) -> tuple[Array, None]:
        slope, shift, above, both = row
        eta = slope[:, None, None] * theta - shift[:, None, None]
        softplus = jnp.maximum(eta, 0.0) + jnp.log(1.0 + jnp.exp(-jnp.abs(eta)))
        return total + (above[:, None] * eta - both[:, None] * softplus), None

    seen = jax.tree.map(lambda part: part.astype(theta.dtype), seen)
    rows = (seen.slopes.T, seen.shifts.T, data.above.swapaxes(0, 1), data.both.swapaxes(0, 1))
    return jax.lax.scan(add, jnp.zeros_like(theta), rows)[0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _total(own: bool, seen: Seen, data: MarginalTraits) -> Array:
    """Sum of the respondents' log-likelihoods; the sites and nodes have no share in the slope."""
    return _total_forward(own, seen, data)[0]


def cumulants(last: Pass) -> Array:
    """What third and fourth cumulants of two traits add to a log-likelihood, shape (n,)."""
    sd = jnp.sqrt(last.normal.variance)
    r = last.normal.covariance / (sd * sd[:, None])
    third, fourth = last.cumulants
    pairs = third * third[:, None] * r**3 / 6.0 + fourth * fourth[:, None] * r**4 / 24.0
    gain: Array = 0.5 * (pairs.sum((0, 1)) - jnp.einsum("ttn->n", pairs))
    return gain


def _total_forward(
    own: bool, seen: Seen, data: MarginalTraits
) -> tuple[Array, tuple[Seen, MarginalTraits]]:
    last = propagate(own, seen, data)
    value = jnp.sum(last.normal.log_integral + jnp.sum(last.log_evidence, 0) + cumulants(last))
    value = jnp.where(last.coarseness <= _COARSEST, value, -jnp.inf)  # also of what is no number
    slopes = _own_slope if own else _shared_slope
    by_slope, by_shift = slopes(seen, last, data)
    n = last.share.shape[2]
    second = last.normal.covariance.sum(2) + last.normal.mean @ last.normal.mean.T
    unlike = jnp.linalg.inv(seen.omega)
    by_omega = 0.5 * (unlike @ second @ unlike - n * unlike)
    slope = Seen(by_slope.astype(float), by_shift.astype(float), by_omega)
    return value, (slope, data)


def _shared_slope(seen: Seen, last: Pass, data: MarginalTraits) -> tuple[Array, Array]:
    dtype = last.share.dtype
    nodes = data.nodes.astype(dtype)
    share = last.share / last.total[:, None].astype(dtype)
    chance = jax.nn.sigmoid(_on_nodes(seen, data)).astype(dtype)
    near = jnp.einsum("tkn,tcn->tkc", share, data.both) * chance
    centre = jnp.einsum("k,tkn->tn", nodes, share)
    by_slope = jnp.einsum("tcn,tn->tc", data.above, centre) - jnp.einsum("k,tkc->tc", nodes, near)
    return by_slope, near.sum(1) - data.above.sum(2)


def _own_slope(seen: Seen, last: Pass, data: MarginalTraits) -> tuple[Array, Array]:
    dtype = last.share.dtype
    theta = (last.origin[:, None] + last.unit[:, None] * data.nodes[:, None]).astype(dtype)
    share = last.share / last.total[:, None].astype(dtype)
    slopes, shifts = (part.astype(dtype)[:, :, None, None] for part in (seen.slopes, seen.shifts))
    chance = jax.nn.sigmoid(slopes * theta[:, None] - shifts)
    residual = data.above[:, :, None] - data.both[:, :, None] * chance
    by_slope = jnp.sum(residual * (share * theta)[:, None], (2, 3))
    return by_slope, -jnp.sum(residual * share[:, None], (2, 3))


def _total_backward(
    own: bool, residual: tuple[Seen, MarginalTraits], scale: Array
) -> tuple[Seen, MarginalTraits]:
    del own
    slope, data = residual
    return jax.tree.map(lambda part: scale * part, slope), jax.tree.map(no_slope, data)


_total.defvjp(_total_forward, _total_backward)
