"""The log density of correlated traits, in the coordinates that are sampled. JAX, float64.

The stated model: as in `density`, but each item belongs to one trait, a respondent's traits are
``theta_p ~ N(0, Omega)`` and ``Omega ~ LKJ(2)`` (Lewandowski, Kurowicka & Joe 2009).

What is known well and what is not is kept apart:

* The likelihood sees ``u``, each trait standardised over the respondents, and the items that go
  with it. Such a u lies on a sphere, which is laid flat by the stereographic projection around
  the rough scores: the only point that it leaves out is the trait turned round.
* Given u, its covariance is nearly inverse-Wishart, whatever the respondents' number. Its inverse
  is written by Bartlett's (1933) decomposition in units of ``u' u + ridge I``, so that what is
  sampled is nearly standard normal and nearly independent of u: a covariance drawn given the
  traits, neither centred nor not. The ridge keeps it smooth where traits fall together.
* The traits' means are drawn given the covariance.
* The flatter the items, the less they tell of u: half of that (in logs) is taken out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from calibration import density

LKJ_CONCENTRATION = 2.0


class CorrelatedData(NamedTuple):
    """Few respondents; the first four as in `density.JointData`.

    ``rough``, shape (n_respondents, n_traits), is a standardised score of each trait; ``basis``,
    shape (n_traits, n_respondents, n_respondents - 2), spans what is orthogonal to it and to a
    constant. ``loads``, shape (n_items, n_traits), is 1 where the item belongs to the trait.
    ``flatness`` is the share of the items' steepness that is taken out of the deviations, and
    ``ridge`` is added to the traits' squares; neither changes the model. ``priors`` are the items',
    see `density.other_priors`.
    """

    above: Array
    both: Array
    middle: Array
    used: Array
    rough: Array
    basis: Array
    loads: Array
    flatness: Array
    ridge: Array
    priors: density.PriorTable | None


class Parameters(NamedTuple):
    """What the coordinates stand for.

    Attributes:
        u: Standardised traits, shape (n_respondents, n_traits).
        known: Items that go with u.
        bartlett: Log diagonal, shape (n_traits,), and the lower triangle with it.
        root: Cholesky factor of ``u' u + ridge I``, and its inverse.
        spread: ``spread' spread`` is the covariance of u, shape (n_traits, n_traits).
        log_scale: ``theta = exp(log_scale) * (u + shift)``, shape (n_traits,).
        shift: The same.
        whitened_shift: Its coordinates, standard normal.
        log_room: Log change of u with one coordinate of each trait.
    """

    u: Array
    known: density.Items
    bartlett: tuple[Array, Array]
    root: tuple[Array, Array]
    spread: Array
    log_scale: Array
    shift: Array
    whitened_shift: Array
    log_room: Array


def parameters(y: Array, data: CorrelatedData) -> Parameters:
    """Unpack the coordinates, which are laid out as in `log_density`."""
    n, n_traits = data.rough.shape
    w, shift, log_diagonal, below, _ = split(y, data)
    known = density.from_middle(density.split_items(y, *data.used.shape), data.used)
    steepness = data.flatness * (data.loads.T @ known.log_a) / data.loads.sum(0)
    off = w * (jnp.exp(-steepness) / jnp.sqrt(4.0 * n))[:, None]
    square = jnp.sum(off**2, 1)
    along = jnp.einsum("cnw,cw->nc", data.basis, off) * jnp.sqrt(4.0 * n)
    u = (data.rough * (1.0 - square) + along) / (1.0 + square)
    lower = jnp.diag(jnp.exp(log_diagonal)).at[jnp.tril_indices(n_traits, -1)].set(below)
    root = jnp.linalg.cholesky(u.T @ u + data.ridge * jnp.eye(n_traits))
    spread = _inverse(lower) @ root.T
    log_scale = -0.5 * jnp.log(jnp.sum(spread**2, 0))
    return Parameters(
        u,
        known,
        (log_diagonal, lower),
        (root, _inverse(root)),
        spread,
        log_scale,
        spread.T @ shift / jnp.sqrt(n),
        shift,
        -jnp.sum(steepness + jnp.log1p(square)),
    )


def split(y: Array, data: CorrelatedData) -> tuple[Array, Array, Array, Array, Array]:
    """Deviations (n_traits, n - 2), shift, log diagonal, lower triangle, items."""
    n, c = data.rough.shape
    ends = [(n - 2) * c, (n - 1) * c, n * c, n * c + c * (c - 1) // 2]
    w, shift, diagonal, below, items = (
        y[begin:end] for begin, end in zip([0, *ends], [*ends, y.size], strict=True)
    )
    return w.reshape(c, n - 2), shift, diagonal, below, items


def log_density(y: Array, data: CorrelatedData) -> Array:
    """Posterior of traits, correlations and items, up to a constant.

    Args:
        y: w, the traits' shifts, log diagonal and lower triangle of Bartlett's factor, then item
            coordinates that go with u, with the middle cut in place of the lowest.
        data: The counts.
    """
    at = parameters(y, data)
    priors = density.known_priors(data.priors, len(data.used))
    eta = density.on_cuts(at.u @ data.loads.T, at.known, data.used)
    return (
        density.answers(eta, data.above, data.both)
        + density.between_cuts(at.known, data.middle, data.used)
        + density.log_prior(stated_items(at, data), data.used, priors)
        + density.unused_gaps(at.known, data.used)
        + _traits(at, data)
    )


def stated_items(at: Parameters, data: CorrelatedData) -> density.Items:
    """Items that go with theta."""
    log_a = at.known.log_a - data.loads @ at.log_scale
    lowest = at.known.lowest + (data.loads @ at.shift) * jnp.exp(at.known.log_a)
    return density.Items(log_a, lowest, at.known.log_gap)


def _traits(at: Parameters, data: CorrelatedData) -> Array:
    """Log prior of theta and Omega, and the change of coordinates.

    With P the inverse covariance of u, d(log scale) dOmega = |scale|^(c+1) |P|^-(c+1) dP, and for
    P = R^-T T T' R^-1 with lower triangular T, dP = |R|^-(c+1) prod T_ii^(c-i) dT, i from 0.
    """
    n, c = data.rough.shape
    log_diagonal, lower = at.bartlett
    root, unrooted = at.root
    scale = jnp.sum(at.log_scale)
    log_root = jnp.sum(jnp.log(jnp.diag(root)))
    log_precision = 2.0 * (jnp.sum(log_diagonal) - log_root)
    log_correlation = 2.0 * scale - log_precision
    square = jnp.sum(lower**2) - data.ridge * jnp.sum((unrooted.T @ lower) ** 2)
    prior = (
        (LKJ_CONCENTRATION - 1.0 - 0.5 * n) * log_correlation
        - 0.5 * square
        - 0.5 * jnp.sum(at.whitened_shift**2)
    )
    of_theta = n * scale + (n - 2) * at.log_room - 0.5 * log_precision
    of_omega = (c + 1) * (scale - log_precision - log_root)
    of_omega += jnp.sum((c + 1 - jnp.arange(c)) * log_diagonal)
    return prior + of_theta + of_omega


def _inverse(lower: Array) -> Array:
    return jax.scipy.linalg.solve_triangular(lower, jnp.eye(lower.shape[0]), lower=True)
