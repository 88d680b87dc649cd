"""Does the graded response model predict new respondents better than simpler models?

Leave-one-respondent-out predictive densities by Pareto-smoothed importance sampling (Vehtari,
Gelman & Gabry 2017; the smoothing is ArviZ's). A respondent is left out with all answers, and
theta is integrated out: with theta kept, leaving out an answer tells of the answer's luck, not of
the model (Merkle, Furr & Rabe-Hesketh 2019).

What it costs does not grow with the respondents: of many, only some are left out, and what the
density at the estimates misses on them is taken to be missed on all (the difference estimator of
Magnusson, Andersen, Jonasson & Vehtari 2020). The model of equal discriminations is not sampled:
its draws are those of the normal approximation at its mode, weighted to its posterior where there
are few respondents (Magnusson et al. 2019), and good as they are with many. The one without a trait
has its densities in closed form.

Where one respondent says too much for importance sampling, the model is fitted again without that
respondent (Vehtari, Gelman & Gabry 2017, 2.2): with few respondents, each of whom gave a good part
of all answers. The draws of both fits together give the density.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from calibration import coordinates, curvature, density, grm, layout, scores
from calibration.data import Responses
from calibration.errors import NotConvergedError, SettingError
from calibration.newton import Mode, approach, find_mode
from calibration.results import Fit, Priors, SamplerSettings

with warnings.catch_warnings():
    # ArviZ announces its next major version once a day; that says nothing about these numbers.
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as _arviz

Model = Literal[
    "grm",
    "equal_discrimination",
    "independence",
    "correlated",
    "independent_traits",
    "one_trait",
]
MOST_LEFT_OUT = 300
MOST_FITTED_AGAIN = 20
_DRAWS = 400
_ENOUGH = 16  # answers: nodes around a respondent's mode are exact, and fixed ones may not reach it
_LARGEST_SHAPE = min(1.0 - 1.0 / np.log10(_DRAWS), 0.7)  # Vehtari et al. 2024
_AGAIN = SamplerSettings(draws=250)
_MOST_BRIDGES, _SAME = 200, 1e-6

_Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Loo:
    """How well a model predicts a respondent that it has not seen.

    Attributes:
        model: ``"grm"``; ``"equal_discrimination"``: all items share one a;
            ``"independence"``: no trait, each item's shares of its categories. Or
            ``"correlated"``: several traits; ``"independent_traits"``: each calibrated alone;
            ``"one_trait"``: one for all their items.
        elpd: Expected log predictive density, summed over respondents.
        se: Its standard error.
        p_loo: Effective number of parameters.
        pareto_k_max: Largest Pareto shape of the respondents whose density importance sampling
            gives; None where there is none.
        unreliable: How many of them have a shape above what so many draws allow, 0.62: their
            part of ``elpd`` can't be trusted.
        difference: ``elpd`` less that of the fit's own model; below 0 it predicts worse.
        difference_se: Standard error of the difference, respondents paired.
        left_out: How many respondents were left out, one by one.
        fitted_again: For how many of them the model was fitted again without them.
    """

    model: Model
    elpd: float
    se: float
    p_loo: float
    pareto_k_max: float | None
    unreliable: int
    difference: float
    difference_se: float
    left_out: int
    fitted_again: int = 0


class Draws(NamedTuple):
    """Of a, (n, n_items), and b, (n, n_items, n_cuts), with the logs of their weights, (n,)."""

    a: _Table
    b: _Table
    log_weight: _Table


class Left(NamedTuple):
    """Log densities of respondents under one model.

    ``rough`` is of everyone, at the estimates; the others are of those left out: with the
    respondent left out, with the respondent kept, and the Pareto shape, NaN where importance
    sampling had no part in it.
    """

    rough: _Table
    pointwise: _Table
    kept: _Table
    shape: _Table
    fitted_again: int = 0


class Weighted(NamedTuple):
    """Log-likelihoods under draws, (n_draws, ...), and logs of the draws' weights, (n_draws,)."""

    log_likelihood: _Table
    log_weight: _Table


Predict = Callable[[NDArray[np.bool_]], Weighted]
"""Of the one respondent who is marked, under draws of a fit to the others' answers; (n_draws,)."""


def compare_models(
    fit: Fit,
    responses: Responses,
    *,
    seed: int,
    most_left_out: int = MOST_LEFT_OUT,
    most_fitted_again: int | None = None,
) -> tuple[Loo, ...]:
    """The graded response model against an equal discrimination, and against no trait at all.

    Args:
        fit: A posterior of ``responses``.
        responses: What it was calibrated on.
        seed: Of the choice of respondents and of the simpler model's draws.
        most_left_out: Respondents that are left out one by one; of more, so many are drawn.
        most_fitted_again: Respondents without whom a model is fitted again, those with the largest
            Pareto shapes; None: 20 of up to 64 respondents, who cost a fraction of a second each,
            and none of more.

    Raises:
        NotConvergedError: The model of equal discriminations has no mode.
        SettingError: The fit has no draws (maximum likelihood), fewer than 10 respondents are
            to be left out, or a negative number fitted again.
    """
    if not fit.draws:
        raise SettingError(f"{fit.family}: method 'mml' has no draws: fit it by 'nuts'")
    few = responses.n_respondents <= grm.FEW_RESPONDENTS
    most = (MOST_FITTED_AGAIN if few else 0) if most_fitted_again is None else most_fitted_again
    if most < 0:
        raise SettingError(f"most_fitted_again = {most}: give 0 or more")
    rng = np.random.default_rng((seed, 17))
    chosen = who_is_left_out(responses.n_respondents, most_left_out, rng)
    priors = fit.priors
    mode = _equal_slopes(responses, priors)
    full = leave_out(responses, chosen, grm.point(responses, fit.estimates), _spread_out(fit))
    draws = _approximated(responses, mode, priors, rng)
    equal = leave_out(responses, chosen, _items(mode.y, responses), draws)

    def sampled_again(others: Responses) -> Draws:
        a, b = grm.draw_items(others, seed=seed, sampler=_AGAIN, priors=priors)
        return Draws(a, b, np.zeros(len(a)))

    def equal_again(others: Responses) -> Draws:
        return _approximated(others, _equal_slopes(others, priors, near=mode), priors, rng)

    by_model: dict[Model, Left] = {
        "grm": fit_again(chosen, *full, predicted_by(sampled_again, responses), most),
        "equal_discrimination": fit_again(
            chosen, *equal, predicted_by(equal_again, responses), most
        ),
        "independence": _independent(responses, chosen),
    }
    return tuple(row(model, left, by_model["grm"], chosen) for model, left in by_model.items())


def who_is_left_out(n: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of the respondents that are left out one by one, in order.

    Raises:
        SettingError: Fewer than 10.
    """
    if most < 10:
        raise SettingError(f"most_left_out = {most}: give 10 or more")
    return np.sort(rng.choice(n, min(n, most), replace=False))


def smoothed(log_likelihood: _Table, log_weight: _Table | None = None) -> tuple[_Table, _Table]:
    """Leave-one-out log densities and Pareto shapes, each of shape (n_respondents,).

    Args:
        log_likelihood: Draws by respondents, shape (n_draws, n_respondents).
        log_weight: Of the draws, shape (n_draws,), where they are not the posterior's own.
    """
    base = 0.0 if log_weight is None else log_weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # large shapes are told by `Loo.unreliable`
        smooth, shape = _arviz.psislw(base - log_likelihood.T)
    return log_sum(np.asarray(smooth) + log_likelihood.T), np.asarray(shape, float)


def log_sum(table: _Table) -> _Table:
    """Log of the sum of exponentials over the last axis."""
    top = table.max(-1)
    total: _Table = top + np.log(np.exp(table - top[..., None]).sum(-1))
    return total


def row(model: Model, left: Left, reference: Left, chosen: NDArray[np.int64]) -> Loo:
    """A model's figures, against those of the reference."""
    elpd, se = _total(left.rough, left.pointwise, chosen)
    difference, difference_se = _total(
        left.rough - reference.rough, left.pointwise - reference.pointwise, chosen
    )
    smoothed_by = left.shape[~np.isnan(left.shape)]
    return Loo(
        model,
        elpd,
        se,
        float(left.rough.size * (left.kept - left.pointwise).mean()),
        float(smoothed_by.max()) if smoothed_by.size else None,
        int((smoothed_by > _LARGEST_SHAPE).sum()),
        difference,
        difference_se,
        chosen.size,
        left.fitted_again,
    )


def _total(rough: _Table, pointwise: _Table, chosen: NDArray[np.int64]) -> tuple[float, float]:
    """Sum over everyone and its standard error, from exact values of those that were chosen."""
    n, missed = rough.size, pointwise - rough[chosen]
    share = chosen.size / n
    variance = n * pointwise.var(ddof=1) + n**2 * (1 - share) / chosen.size * missed.var(ddof=1)
    return float(rough.sum() + n * missed.mean()), float(np.sqrt(variance))


def leave_out(
    responses: Responses, chosen: NDArray[np.int64], point: tuple[_Table, _Table], draws: Draws
) -> tuple[Left, Weighted]:
    """Of those chosen, with one trait; the same answers have the same density."""
    counts = responses.counts[chosen]
    _, first, place = np.unique(
        counts.reshape(chosen.size, -1), axis=0, return_index=True, return_inverse=True
    )
    some = responses.chosen(np.isin(np.arange(responses.n_respondents), chosen[first]))
    at = np.searchsorted(np.sort(chosen[first]), chosen[first])[place.ravel()]
    table = log_likelihoods_by_draw(some, draws)
    pointwise, shape = smoothed(table, draws.log_weight)
    kept = log_sum(table.T + draws.log_weight) - log_sum(draws.log_weight)
    rough = scores.integrate(responses, *point).log_likelihood
    left = Left(rough, pointwise[at], kept[at], shape[at])
    return left, Weighted(table[:, at], draws.log_weight)


def log_likelihoods_by_draw(responses: Responses, draws: Draws) -> _Table:
    """Log-likelihoods, shape (n_draws, n_respondents)."""
    answers = responses.counts.sum((1, 2))
    narrow = (answers == 0) | (answers >= _ENOUGH)
    if answers.size <= grm.FEW_RESPONDENTS and narrow.all():
        return scores.log_likelihood_by_draw(responses, draws.a, draws.b)
    return np.stack(
        [scores.integrate(responses, a, b).log_likelihood for a, b in zip(*draws[:2], strict=True)]
    )


def fit_again(
    chosen: NDArray[np.int64], left: Left, kept: Weighted, predict: Predict, most: int
) -> Left:
    """Densities from fits without the respondent, where the Pareto shapes are largest.

    ``kept`` is of those chosen, under the draws of the fit to all.
    """
    pointwise, shape = left.pointwise.copy(), left.shape.copy()
    worst = np.argsort(-shape)[:most]
    for place in worst[shape[worst] > _LARGEST_SHAPE]:
        try:
            without = predict(np.arange(left.rough.size) == chosen[place])
        except NotConvergedError:
            continue  # its shape goes on telling
        pointwise[place] = bridged(without, kept._replace(log_likelihood=kept[0][:, place]))
        shape[place] = np.nan
    return left._replace(pointwise=pointwise, shape=shape, fitted_again=int(np.isnan(shape).sum()))


def bridged(without: Weighted, kept: Weighted) -> float:
    """Log of the mean likelihood over draws without the respondent, by both kinds of draws.

    The optimal bridge of Meng & Wong 1996: the mean over draws without the respondent alone hangs
    on the few that happen to suit the respondent.
    """
    draws = without.log_weight.size + kept.log_weight.size
    log_share = np.log([part.log_weight.size / draws for part in (kept, without)])

    def log_mean(part: Weighted, log_value: _Table) -> float:
        return float(log_sum(part.log_weight + log_value) - log_sum(part.log_weight))

    found = log_mean(without, without.log_likelihood)
    for _ in range(_MOST_BRIDGES):
        both = [
            np.logaddexp(log_share[0] + part.log_likelihood, log_share[1] + found)
            for part in (without, kept)
        ]
        before, found = (
            found,
            log_mean(without, without.log_likelihood - both[0]) - log_mean(kept, -both[1]),
        )
        if abs(found - before) < _SAME:
            break
    return found


def predicted_by(again: Callable[[Responses], Draws], responses: Responses) -> Predict:
    """With one trait, by a fit to responses of which one respondent's are missing.

    Nothing else of the data changes its shape, so nothing is compiled.
    """

    def predict(one: NDArray[np.bool_]) -> Weighted:
        others = replace(responses, counts=np.where(one[:, None, None], 0, responses.counts))
        draws = again(others)
        table = log_likelihoods_by_draw(responses.chosen(one), draws)
        return Weighted(table[:, 0], draws.log_weight)

    return predict


def _spread_out(fit: Fit) -> Draws:
    a, b = (fit.draws[name] for name in ("discrimination", "thresholds"))
    flat_a, flat_b = a.reshape(-1, a.shape[-1]), b.reshape(-1, *b.shape[-2:])
    thin = np.linspace(0, len(flat_a) - 1, min(_DRAWS, len(flat_a))).astype(int)
    return Draws(flat_a[thin], flat_b[thin], np.zeros(thin.size))


def _equal_slopes(responses: Responses, priors: Priors, near: Mode | None = None) -> Mode:
    """Mode of the model where a is shared, log a ~ N(0, 1).

    It is the graded response model's density on a plane, so nothing new is compiled. From the mode
    ``near`` of one more respondent slopes alone lead to it, and its curvature goes on, as much
    less as there are fewer respondents.
    """
    data, through = _restricted(responses, priors)

    def evaluate(
        y: _Table, data: density.MarginalData, *, curved: bool = True
    ) -> tuple[float, _Table, _Table]:
        value, slope, hessian = curvature.evaluate(through @ y, data, curved=curved)
        return value, through.T @ slope, through.T @ hessian @ through

    if near is not None:
        fewer = 1.0 - 1.0 / responses.n_respondents
        return replace(near, y=approach(evaluate, near, data)[0], hessian=fewer * near.hessian)
    items = grm.start_items(responses)
    start = through[: items.size].T @ items / through.sum(0)
    return find_mode(density.marginal_log_density, start, data, evaluate=evaluate)


def _approximated(
    responses: Responses, mode: Mode, priors: Priors, rng: np.random.Generator
) -> Draws:
    """Draws of the model where a is shared from the normal approximation at its mode."""
    z = rng.standard_normal((_DRAWS, mode.y.size))
    y = mode.y + np.linalg.solve(np.linalg.cholesky(-mode.hessian).T, z.T).T
    draws = Draws(*_items(y, responses), np.zeros(_DRAWS))
    if responses.n_respondents > grm.FEW_RESPONDENTS:
        return draws
    by_draw = log_likelihoods_by_draw(responses, draws).sum(1)
    log_weight = by_draw + _log_prior(y, responses, priors) + 0.5 * (z**2).sum(1)
    return draws._replace(log_weight=log_weight - log_weight.max())


def _restricted(responses: Responses, priors: Priors) -> tuple[density.MarginalData, _Table]:
    """The full model's data, and the map from coordinates with one log a to its own.

    Few respondents get a second group with nobody in it: with two groups the program is the one
    that comparing groups has compiled, and a fit of few compiles no other of its kind.
    """
    n_items, n_cuts = responses.counts.shape[1], responses.counts.shape[2] - 1
    everyone = np.ones(responses.n_respondents, bool)
    few = responses.n_respondents <= grm.FEW_RESPONDENTS
    groups = [everyone, everyone] if few else [everyone]
    data = grm.marginal_data(responses, groups, prior_weight=1.0, priors=priors)
    first = np.arange(len(groups)) == 0
    data = data._replace(
        weight=data.weight * first[:, None], middle=data.middle * first[:, None, None]
    )
    width = n_items * (n_cuts + 1)
    through = np.zeros((len(groups) * width + 2 * (len(groups) - 1), width - n_items + 1))
    through[:n_items, 0] = 1.0
    through[n_items:width, 1:] = np.eye(width - n_items)
    return data, through


def _items(y: _Table, responses: Responses) -> tuple[_Table, _Table]:
    """Discriminations and thresholds from one log a, lowest cut points and log gaps."""
    n_items, n_cuts = responses.counts.shape[1], responses.counts.shape[2] - 1
    full = np.concatenate([np.repeat(y[..., :1], n_items, -1), y[..., 1:]], -1)
    log_a, lowest, gaps = coordinates.unpack_items(full, n_items, n_cuts)
    used = layout.used_cuts(responses.categories, n_cuts)
    return np.exp(log_a), coordinates.thresholds_of(log_a, lowest, gaps, used)


def _log_prior(y: _Table, responses: Responses, priors: Priors) -> _Table:
    """Of the draws of one log a and the cut points."""
    a, b = _items(y, responses)
    gaps = y[..., 1 + a.shape[-1] :].reshape(*y.shape[:-1], a.shape[-1], -1)
    return log_prior_of_cuts(a, b, gaps, responses, priors) - 0.5 * y[..., 0] ** 2


def log_prior_of_cuts(
    a: _Table, b: _Table, log_gap: _Table, responses: Responses, priors: Priors
) -> _Table:
    """Of draws of the cut points, the change to log gaps included, shape (n_draws,)."""
    used = layout.used_cuts(responses.categories, b.shape[-1])
    cuts = np.where(used, a[..., None] * b, 0.0)
    change = np.where(used[:, 1:], log_gap, -0.5 * log_gap**2).sum((-2, -1))
    log_prior: _Table = change - 0.5 * ((cuts / priors.cut_sd) ** 2).sum((-2, -1))
    return log_prior


def _independent(responses: Responses, chosen: NDArray[np.int64]) -> Left:
    """Shares of the categories have uniform Dirichlet posteriors, so all is known exactly."""
    pointwise, kept = np.zeros((2, responses.n_respondents))
    for j, observed in enumerate(responses.categories):
        own = responses.counts[:, j, : len(observed)]
        total = own.sum(0) + 1
        pointwise += _log_rising(total - own, own)
        kept += _log_rising(np.broadcast_to(total, own.shape), own)
    unsampled = np.full(chosen.size, np.nan)
    return Left(pointwise, pointwise[chosen], kept[chosen], unsampled)


def _log_rising(first: NDArray[np.int64], own: NDArray[np.int64]) -> _Table:
    """Log probability of answers in order, each share's posterior counts growing with them."""

    def log_gamma(counts: NDArray[np.int64]) -> _Table:
        return np.asarray(jax.scipy.special.gammaln(counts.astype(float)))

    by_category = log_gamma(first + own) - log_gamma(first)
    whole, answers = first.sum(1), own.sum(1)
    rising: _Table = by_category.sum(1) - log_gamma(whole + answers) + log_gamma(whole)
    return rising
