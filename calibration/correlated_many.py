"""Correlated traits of many respondents: data, mode, chains and scores.

The items of each trait are first found by themselves, then the correlations by expectation and
maximisation with the items held, and then all together by slopes alone from a curvature taken by
differences of slopes: exact enough to whiten by, and for standard errors to four digits.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray
from numpyro.distributions.transforms import CorrCholeskyTransform

from calibration import adaptive, coordinates, density, grm, layout, nuts
from calibration import marginal_correlated as marginal
from calibration.adaptive_density import group_of
from calibration.curvature import find_marginal_mode
from calibration.data import Responses
from calibration.errors import NotConvergedError
from calibration.marginal_correlated import MarginalTraits, Sites
from calibration.newton import LogDensity, Mode, approach
from calibration.results import Priors

_OWN_NODES, _TO_COMPARE = (7, 31, 61, 121), 241
_PASSES_OF_SEARCH, _PASSES_NEARBY = 15, 5
_PASSES = (2, 3, 4, 6, 9)  # of chains
_TRIED_POINTS, _ERROR, _ERROR_OF_NODES = 4, 0.01, 0.03
_TOO_STEEP = 0.1  # error of the most nodes: beyond it chains creep
_CLOSEST, _NODES_OF_ALL, _OWN_NODES_OF_FEW = 0.05, 20_000, 31
FEW_TRAITS = 1000  # respondents times traits
_MAXIMISATIONS = 20
_DIFFERENCE = 1e-3
_THREADS = 2
_ROUNDS, _REFINEMENTS = 12, 5
_LONGEST, _NEARBY, _SHORTEST, _SHALLOW = 1.0, 0.3, 1e-3, 0.2
_NEAR, _NEAR_FOR_CHAINS, _FLAT = 1e-3, 0.5, 1e-3
_FLOAT32_ANSWERS = 64
_SINGULAR, _A_GOOD_PART = 1e-4, 0.3

_ENDLESS = (
    "no mode: a parameter runs off without end, as where two items or two traits are equal, or a "
    "category holds too few answers"
)

_Table = NDArray[np.float64]


class Start(NamedTuple):
    """Traits by themselves.

    Attributes:
        y: No correlations, then item coordinates of all items.
        sites: Laplace approximations of the respondents' likelihoods.
        own: Whether nodes are each respondent's own.
        nodes: Shared ones.
    """

    y: _Table
    sites: Sites
    own: bool
    nodes: _Table


class Found(NamedTuple):
    """The mode, and the data with the sites there."""

    mode: Mode
    data: MarginalTraits
    own: bool

    @property
    def few(self) -> bool:
        """Whether respondents leave the posterior far from normal."""
        return self.data.sites.shift.size <= FEW_TRAITS


class Looked(NamedTuple):
    """Respondents at a point.

    Attributes:
        second: Mean outer product of their traits, shape (n_traits, n_traits).
        mean: Of a respondent's traits, shape (n_traits, n).
        covariance: The same, shape (n_traits, n_traits, n).
        sites: To go on from.
    """

    second: Array
    mean: Array
    covariance: Array
    sites: Sites


def find(
    responses: Responses,
    parts: Sequence[Responses],
    *,
    prior_weight: float,
    priors: Priors | None = None,
) -> Found:
    """The mode of all parameters together.

    Args:
        responses: All items.
        parts: Those of each trait.
        prior_weight: 1 for the posterior, 0 for maximum likelihood.
        priors: Of the items.

    Raises:
        NotConvergedError: No mode was found.
    """
    priors = priors or Priors()
    start = _start(responses, parts, priors)
    data = _lay_out(responses, parts, start, prior_weight, priors)
    y, data = _with_correlations(start, data)
    if not start.own:
        data = _closer(y, data)
    mode, data = _climb(y, data, start.own)
    for _ in range(_REFINEMENTS):
        closer = _with_enough_own_nodes(mode, data) if start.own else _closer(mode.y, data)
        if closer.nodes.size <= data.nodes.size:
            break
        mode, data = _climb(mode.y, closer, start.own)
    else:
        raise NotConvergedError(_endless(mode.y, responses, parts))
    if start.own and data.nodes.size == _OWN_NODES[-1]:
        _check_own_nodes(mode, data, responses)
    # Chains need a point that is good to whiten by, standard errors need the maximum.
    near = _NEAR_FOR_CHAINS if prior_weight else _NEAR
    flat = not prior_weight and np.linalg.eigvalsh(-mode.hessian)[0] < _FLAT
    if mode.gradient_max < near and not flat:
        return Found(mode, _for_chains(data, start.own) if prior_weight else data, start.own)
    raise NotConvergedError(_endless(mode.y, responses, parts))


def _endless(y: _Table, responses: Responses, parts: Sequence[Responses]) -> str:
    """What ran off where the search ended."""
    at_border = _at_border(y, [part.family for part in parts])
    return f"{_ENDLESS}.{at_border}{grm.run_off(responses, y)}".rstrip(".")


def _at_border(y: _Table, traits: Sequence[str]) -> str:
    """Names the traits that a singular Omega makes depend on each other."""
    sizes, directions = np.linalg.eigh(correlations(y, len(traits)))
    if sizes[0] > _SINGULAR:
        return ""
    shares = zip(traits, np.abs(directions[:, 0]), strict=True)
    named = ", ".join(name for name, share in shares if share > _A_GOOD_PART)
    return (
        f" The correlations ran to their border, where each of the traits {named} follows from "
        "the rest: give more respondents, or method 'nuts', whose priors hold them inside."
    )


def _climb(y: _Table, data: MarginalTraits, own: bool) -> tuple[Mode, MarginalTraits]:
    """By slopes alone, and again with a new curvature where that does not lead to the top."""
    evaluate = partial(_evaluate, own=own)
    hessian, steps = _hessian(y, data, own), 0
    for _ in range(_ROUNDS):
        bent = _downhill(hessian)
        value, slope, _ = evaluate(y, data)
        step = np.linalg.solve(-bent, slope)
        longest = float(np.abs(step).max())
        if longest > _NEARBY:
            step *= min(1.0, _LONGEST / longest)
            while evaluate(y + step, data)[0] < value and np.abs(step).max() > _SHORTEST:
                step *= 0.5
            y, taken = y + step, 1
        else:
            y, taken = approach(evaluate, Mode(y, 0.0, bent, 0.0, 0), data)
        steps += taken
        data = data._replace(sites=_look(y, data, own).sites)
        value, slope, _ = evaluate(y, data)
        hessian = _hessian(y, data, own)
        left = _in_errors(slope, _downhill(hessian))
        if left < _NEAR:
            break
    return Mode(y, value, hessian, left, steps), data


def _downhill(hessian: _Table) -> _Table:
    """The curvature with every direction bent down, shallow ones by a little."""
    curvature, vectors = np.linalg.eigh(-hessian)
    bent: _Table = -(vectors * np.maximum(np.abs(curvature), _SHALLOW)) @ vectors.T
    return bent


def to_sample(found: Found, responses: Responses) -> tuple[LogDensity, nuts.Whitened]:
    """The density of `density.from_standardised`'s coordinates, whitened at the mode."""
    data = found.data._replace(passes=jnp.asarray(_fewest_passes(found)))
    answers = responses.counts.sum((1, 2)).max() / len(data.slot)
    if found.own or answers <= _FLOAT32_ANSWERS:
        above, both = (part.astype(jnp.float32) for part in (data.above, data.both))
        data = data._replace(above=above, both=both)
    used = np.asarray(data.used)
    centre = jnp.asarray(coordinates.standardise(found.mode.y, used))
    change = np.asarray(jax.jacfwd(partial(_stated, used=used))(centre))
    scale = nuts.whitening(change.T @ found.mode.hessian @ change)
    on_nodes = (
        marginal.standardised_on_own_nodes if found.own else marginal.standardised_on_shared_nodes
    )
    return on_nodes, nuts.Whitened(centre, jnp.asarray(scale), data)


def stated(y: _Table, used: NDArray[np.bool_]) -> _Table:
    """Draws by the lowest cuts, shape (chains, draws, n), from those that were sampled."""
    flat = jax.vmap(partial(_stated, used=used))(jnp.asarray(y.reshape(-1, y.shape[-1])))
    return np.asarray(flat).reshape(y.shape)


def _stated(y: Array, used: NDArray[np.bool_]) -> Array:
    return density.from_standardised(y, used)[0]


def _fewest_passes(found: Found) -> int:
    """By which the log density at no point near the mode is off by more than a hundredth."""
    points = _points_around(found.mode)

    def values(passes: int) -> _Table:
        data = found.data._replace(passes=jnp.asarray(passes))
        return np.array([_evaluate(y, data, own=found.own)[0] for y in points])

    exact = values(2 * _PASSES_OF_SEARCH)
    enough = (n for n in _PASSES if np.abs(values(n) - exact).max() < _ERROR)
    return next(enough, _PASSES_OF_SEARCH)


def _points_around(mode: Mode) -> _Table:
    """Drawn from the Laplace approximation, shape (n_points, n)."""
    curvature, vectors = np.linalg.eigh(-_downhill(mode.hessian))
    z = np.random.default_rng(0).standard_normal((_TRIED_POINTS, curvature.size))
    points: _Table = mode.y + (z / np.sqrt(curvature)) @ vectors.T
    return points


def _with_enough_own_nodes(mode: Mode, data: MarginalTraits) -> MarginalTraits:
    """More of them where steep items leave posteriors that few do not integrate.

    Slopes are those of the exact integral, so that chains' energies drift where values are not.
    """
    for n_nodes in _OWN_NODES[_OWN_NODES.index(data.nodes.size) + 1 :]:
        more = _with_own_nodes(data, n_nodes)
        if _off_by(mode, data, more) <= _ERROR_OF_NODES:
            break
        data = more
    return data


def _check_own_nodes(mode: Mode, data: MarginalTraits, responses: Responses) -> None:
    """Raises NotConvergedError where posteriors have edges that no nodes follow."""
    if _off_by(mode, data, _with_own_nodes(data, _TO_COMPARE)) <= _TOO_STEEP:
        return
    a = np.exp(coordinates.unpack_items(mode.y, *data.used.shape)[0])
    j = int(a.argmax())
    raise NotConvergedError(
        f"item {responses.items[j]} has a discrimination of {a[j]:.3g}, too steep to integrate its "
        "trait out together with others where respondents gave so many answers: leave it out, or "
        "fit its trait alone"
    )


def _off_by(mode: Mode, data: MarginalTraits, other: MarginalTraits) -> float:
    """By what two sets of own nodes tell the log density's differences around the mode apart."""
    points = [mode.y, *_points_around(mode)]
    ours, theirs = (
        np.array([_evaluate(y, of, own=True)[0] for y in points]) for of in (data, other)
    )
    off = ours - theirs
    return float(np.abs(off - off[0]).max())


def _with_own_nodes(data: MarginalTraits, n_nodes: int) -> MarginalTraits:
    return _with_nodes(data, adaptive.hermite(n_nodes))


def _with_nodes(data: MarginalTraits, laid_out: tuple[_Table, _Table]) -> MarginalTraits:
    nodes, log_weight = laid_out
    return data._replace(nodes=jnp.asarray(nodes), log_weight=jnp.asarray(log_weight))


def posteriors(y: _Table, found: Found) -> tuple[_Table, _Table]:
    """Means (n, n_traits) and covariances (n, n_traits, n_traits) over draws of coordinates.

    A draw's passes leave its means and sds off by less than 0.0001 sd.
    """
    near = found.data._replace(passes=jnp.asarray(_PASSES_NEARBY))
    centre = np.asarray(_look(found.mode.y, near, found.own).mean)
    away = np.zeros(centre.shape)
    spread = np.zeros((len(centre), *centre.shape))
    for point in y:
        looked = _look(point, near, found.own)
        from_centre = np.asarray(looked.mean) - centre
        away += from_centre / len(y)
        spread += (np.asarray(looked.covariance) + from_centre[:, None] * from_centre) / len(y)
    spread -= away[:, None] * away
    return (centre + away).T, spread.transpose(2, 0, 1)


def log_likelihood(found: Found, a: _Table, b: _Table, omega: _Table) -> float:
    """Of all respondents, the traits integrated out.

    Args:
        found: The data.
        a: Discriminations, shape (n_items,).
        b: Thresholds, shape (n_items, n_cuts), NaN beyond an item's own.
        omega: Correlations of the traits.
    """
    free = np.asarray(CorrCholeskyTransform().inv(jnp.linalg.cholesky(jnp.asarray(omega))))
    cuts = a[:, None] * b
    gaps = np.log(np.where(np.isnan(cuts[:, 1:]), 1.0, np.diff(cuts, axis=1)))
    y = np.concatenate([free, np.log(a), cuts[:, 0], gaps.ravel()])
    data = found.data._replace(prior_weight=jnp.asarray(0.0))
    return _evaluate(y, data, own=found.own)[0]


def correlations(y: _Table, n_traits: int) -> _Table:
    """Draws of Omega, shape (..., n_traits, n_traits)."""
    free = jnp.asarray(y[..., : n_traits * (n_traits - 1) // 2])
    root = np.asarray(CorrCholeskyTransform()(free))
    omega: _Table = root @ root.swapaxes(-1, -2)
    return omega


def correlation_errors(found: Found) -> tuple[_Table, _Table]:
    """Omega at the mode and the standard errors of its entries, each (n_traits, n_traits)."""
    n_traits = len(found.data.slot)
    size = n_traits * (n_traits - 1) // 2
    free = jnp.asarray(found.mode.y[:size])
    covariance = np.linalg.inv(-found.mode.hessian)[:size, :size]
    of_free = partial(marginal.correlation_of, n_traits=n_traits)
    slope = np.asarray(jax.jacfwd(of_free)(free))
    variance = np.einsum("sta,ab,stb->st", slope, covariance, slope)
    return np.asarray(of_free(free)), np.sqrt(np.maximum(variance, 0.0))


def items_of(found: Found) -> Mode:
    """The mode of the items alone, the correlations' part of the curvature integrated out."""
    n_traits = len(found.data.slot)
    size = n_traits * (n_traits - 1) // 2
    covariance = np.linalg.inv(-found.mode.hessian)[size:, size:]
    hessian = -np.linalg.inv(covariance).astype(np.float64)
    return replace(found.mode, y=found.mode.y[size:], hessian=hessian)


def _start(responses: Responses, parts: Sequence[Responses], priors: Priors) -> Start:
    """With the priors: a trait of two items has a maximum only together with other traits."""
    n_cuts = responses.counts.shape[2] - 1
    place = {item: j for j, item in enumerate(responses.items)}
    log_a, lowest = np.zeros((2, len(place)))
    gaps = np.zeros((len(place), n_cuts - 1))
    precision, shift = np.zeros((2, len(parts), responses.n_respondents))
    shared = np.zeros(0)
    for t, part in enumerate(parts):
        everyone = np.ones(part.n_respondents, bool)
        data = grm.marginal_data(part, [everyone], prior_weight=1.0, priors=priors)
        mode = find_marginal_mode(part, grm.start_items(part), data)
        mine = [place[item] for item in part.items]
        own = coordinates.unpack_items(mode.y, *data.used.shape)
        log_a[mine], lowest[mine] = own[:2]
        gaps[mine, : own[2].shape[1]] = own[2]
        at = np.asarray(density.seen_by_patterns(jnp.asarray(mode.y), data)[0])
        theta, sd = (found[: len(everyone)] for found in adaptive.located(at, group_of(part)))
        precision[t], shift[t] = 1.0 / sd**2 - 1.0, theta / sd**2
        nodes = layout.theta_nodes(part, at[: len(part.items)])
        shared = max(shared, nodes, key=len)
    free = np.zeros(len(parts) * (len(parts) - 1) // 2)
    return Start(
        np.concatenate([free, log_a, lowest, gaps.ravel()]),
        Sites(jnp.asarray(precision), jnp.asarray(shift)),
        any(layout.many_answers(part) for part in parts),
        shared,
    )


def _lay_out(
    responses: Responses,
    parts: Sequence[Responses],
    start: Start,
    prior_weight: float,
    priors: Priors,
) -> MarginalTraits:
    counts = layout.cut_counts(responses)
    n = responses.n_respondents
    cut = np.arange(counts.used.size).reshape(counts.used.shape)
    mine = [np.isin(responses.items, part.items) for part in parts]
    slots = [cut[rows][counts.used[rows]] for rows in mine]
    width = max(map(len, slots))
    slot = np.zeros((len(slots), width), np.int64)
    above, both = np.zeros((2, len(slots), width, n))
    for t, own in enumerate(slots):
        slot[t, : own.size] = own
        above[t, : own.size] = counts.above.reshape(n, -1).T[own]
        both[t, : own.size] = (counts.above + counts.below).reshape(n, -1).T[own]
    nodes, log_weight = adaptive.hermite(_OWN_NODES[0]) if start.own else _evenly(start.nodes)
    return MarginalTraits(
        above=jnp.asarray(above),
        both=jnp.asarray(both),
        slot=jnp.asarray(slot),
        middle=jnp.asarray(counts.middle),
        used=jnp.asarray(counts.used),
        nodes=jnp.asarray(nodes),
        log_weight=jnp.asarray(log_weight),
        sites=start.sites,
        passes=jnp.asarray(_PASSES_OF_SEARCH),
        prior_weight=jnp.asarray(prior_weight),
        priors=density.other_priors(priors, len(responses.items)),
    )


def _evenly(nodes: _Table) -> tuple[_Table, _Table]:
    return nodes, np.full(nodes.size, np.log(nodes[1] - nodes[0]))


def _with_correlations(start: Start, data: MarginalTraits) -> tuple[_Table, MarginalTraits]:
    """Expectation and maximisation of the correlations, the items held."""
    y = start.y.copy()
    for _ in range(_MAXIMISATIONS):
        looked = _look(y, data, start.own)
        data = data._replace(sites=looked.sites)
        second = np.asarray(looked.second)
        sd = np.sqrt(np.diag(second))
        root = np.linalg.cholesky(second / np.outer(sd, sd))
        free = np.asarray(CorrCholeskyTransform().inv(jnp.asarray(root)))
        y[: free.size] = free
    return y, data


def _closer(y: _Table, data: MarginalTraits) -> MarginalTraits:
    """Nodes no closer than the narrowest posterior of a trait needs, as in `grm`."""
    log_a = coordinates.unpack_items(y, *data.used.shape)[0]
    variance = np.einsum("ttn->tn", np.asarray(_look(y, data, False).covariance))
    sd = float(np.sqrt(variance.min()))
    narrowest = min(sd, 1.2 * float(np.exp(-log_a.max())))
    return _with_nodes(data, _evenly(layout.nodes_for_spread(narrowest)))


def _for_chains(data: MarginalTraits, own: bool) -> MarginalTraits:
    """Closer nodes for few respondents, where they cost little.

    Chains come to items many times as steep as the mode's, and to origins and units of a trait at
    which a respondent lies many posterior sds from where the mode's sites are.
    """
    if data.sites.shift.size > FEW_TRAITS:
        return data
    if own:
        more = _with_own_nodes(data, _OWN_NODES_OF_FEW)
    else:
        gap = max(_CLOSEST, 2 * layout.THETA_LIMIT * data.sites.shift.size / _NODES_OF_ALL)
        more = _with_nodes(data, _evenly(layout.evenly(gap)))
    return more if more.nodes.size > data.nodes.size else data


@partial(jax.jit, static_argnames="own")
def _look(y: Array, data: MarginalTraits, own: bool) -> Looked:
    normal, sites = marginal.respondents(y, data, own)
    second = normal.covariance.mean(2) + normal.mean @ normal.mean.T / normal.mean.shape[1]
    return Looked(second, normal.mean, normal.covariance, sites)


@partial(jax.jit, static_argnames="own")
def _slope(y: Array, data: MarginalTraits, own: bool) -> tuple[Array, Array]:
    return jax.value_and_grad(marginal.on_own_nodes if own else marginal.on_shared_nodes)(y, data)


def _evaluate(
    y: _Table, data: MarginalTraits, *, curved: bool = False, own: bool
) -> tuple[float, _Table, None]:
    del curved
    value, slope = _slope(y, data, own)
    return float(value), np.asarray(slope), None


def _hessian(y: _Table, data: MarginalTraits, own: bool) -> _Table:
    """Second derivatives by differences of slopes, shape (n, n)."""
    near = data._replace(passes=jnp.asarray(_PASSES_NEARBY))

    def column(step: _Table) -> _Table:
        ends = [np.asarray(_slope(point, near, own)[1]) for point in (y + step, y - step)]
        difference: _Table = (ends[0] - ends[1]) / (2 * _DIFFERENCE)
        return difference

    with ThreadPoolExecutor(_THREADS) as pool:
        columns = np.stack(list(pool.map(column, _DIFFERENCE * np.eye(y.size))))
    return 0.5 * (columns + columns.T)


def _in_errors(slope: _Table, hessian: _Table) -> float:
    """Size of a slope in standard errors."""
    square = float(slope @ np.linalg.solve(-hessian, slope))
    return math.sqrt(max(square, 0.0))
