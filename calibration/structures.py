"""Do correlated traits predict new respondents better than independent ones, or than one for all?

As `loo`: a respondent is left out with all answers, and theta is integrated out, here in as many
dimensions as there are traits. The two simpler models are not sampled: their draws are those of
the normal approximation at their modes, weighted to their posteriors where there are few
respondents. Of few, a model is fitted again without one who says too much, as in `loo`.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from calibration import coordinates, correlated, correlated_scores, density, grm, loo
from calibration.correlated import CorrelatedFit
from calibration.curvature import find_marginal_mode
from calibration.data import Responses
from calibration.density import MarginalData
from calibration.errors import SettingError
from calibration.loo import Draws, Left, Loo, Model
from calibration.newton import Mode
from calibration.results import Priors, SamplerSettings

_DRAWS = 400
_FEW_TRAITS = 100  # respondents times traits
_AGAIN = SamplerSettings(warmup=75, draws=150, target_accept=0.8)

_Table = NDArray[np.float64]


def compare_structures(
    fit: CorrelatedFit,
    responses: Responses,
    *,
    seed: int,
    most_left_out: int = loo.MOST_LEFT_OUT,
    most_fitted_again: int | None = None,
) -> tuple[Loo, ...]:
    """Correlated traits against the same traits each calibrated alone, and one trait for all items.

    Args:
        fit: A posterior of ``responses``.
        responses: What it was calibrated on.
        seed: Of the choice of respondents and of the simpler models' draws.
        most_left_out: Respondents that are left out one by one; of more, so many are drawn.
        most_fitted_again: Respondents without whom a model is fitted again, those with the largest
            Pareto shapes; None: all of 4 to 12 respondents with up to 100 traits of them
            together, which cost two seconds of processor time each, and none of more.

    Raises:
        NotConvergedError: A simpler model has no mode.
        SettingError: The fit has no draws (maximum likelihood), fewer than 10 respondents are
            to be left out, or a negative number fitted again, or any where `correlated.integrates`.
    """
    if not fit.draws:
        raise SettingError(f"{fit.family}: method 'mml' has no draws: fit it by 'nuts'")
    n = responses.n_respondents
    few = 3 < n <= correlated.FEW_RESPONDENTS and n * len(fit.traits) <= _FEW_TRAITS
    most = (loo.MOST_FITTED_AGAIN if few else 0) if most_fitted_again is None else most_fitted_again
    if most < 0:
        raise SettingError(f"most_fitted_again = {most}: give 0 or more")
    if most and correlated.integrates(responses, fit.traits):
        raise SettingError(
            f"most_fitted_again = {most}: fits without a respondent sample every trait, which {n} "
            "respondents' answers are too few for: give 0"
        )
    rng = np.random.default_rng((seed, 23))
    chosen = loo.who_is_left_out(n, most_left_out, rng)
    of_item = np.array(fit.trait_of_item)
    parts = [responses.of_items(of_item == c, trait) for c, trait in enumerate(fit.traits)]
    predict = _sampled_again(responses, of_item, seed, fit.priors)
    how = chosen, fit.priors, rng, most
    by_model: dict[Model, Left] = {
        "correlated": loo.fit_again(chosen, *_correlated(fit, responses, chosen), predict, most),
        "independent_traits": _all_of([_one_trait(part, *how) for part in parts]),
        "one_trait": _one_trait(responses, *how),
    }
    reference = by_model["correlated"]
    return tuple(loo.row(model, left, reference, chosen) for model, left in by_model.items())


def _correlated(
    fit: CorrelatedFit, responses: Responses, chosen: NDArray[np.int64]
) -> tuple[Left, loo.Weighted]:
    of_item = np.array(fit.trait_of_item)
    everyone = np.arange(responses.n_respondents)
    some = correlated_scores.prepare(responses.chosen(np.isin(everyone, chosen)), of_item)
    flat = {
        name: fit.draws[name].reshape(-1, *fit.draws[name].shape[2:])
        for name in ("discrimination", "thresholds", "correlation")
    }
    table = _log_likelihoods_by_draw(some, *flat.values())
    pointwise, shape = loo.smoothed(table)
    rough = correlated_scores.log_likelihoods(
        correlated_scores.prepare(responses, of_item),
        *grm.point(responses, fit.estimates),
        fit.correlation_mean,
    )
    left = Left(rough, pointwise, loo.log_sum(table.T) - np.log(len(table)), shape)
    return left, loo.Weighted(table, np.zeros(len(table)))


def _log_likelihoods_by_draw(
    answers: correlated_scores.Answers, a: _Table, b: _Table, omega: _Table
) -> _Table:
    """Of draws, some of them where there are many, shape (n_draws, n_respondents)."""
    thin = np.linspace(0, len(a) - 1, min(_DRAWS, len(a))).astype(int)
    draws = zip(a[thin], b[thin], omega[thin], strict=True)
    return np.stack([correlated_scores.log_likelihoods(answers, *draw) for draw in draws])


def _sampled_again(
    responses: Responses, of_item: NDArray[np.int64], seed: int, priors: Priors
) -> loo.Predict:
    """Correlated traits without the respondent, who is left out of the data.

    Traits of one without answers would be sampled with the rest, at twice the cost.
    """

    def predict(one: NDArray[np.bool_]) -> loo.Weighted:
        others = responses.chosen(~one)
        drawn = correlated.draw_items(others, of_item, seed=seed, sampler=_AGAIN, priors=priors)
        answers = correlated_scores.prepare(responses.chosen(one), of_item)
        table = _log_likelihoods_by_draw(answers, *drawn)
        return loo.Weighted(table[:, 0], np.zeros(len(table)))

    return predict


def _all_of(lefts: Sequence[Left]) -> Left:
    """Independent parts of one model; a respondent's shape is the largest that there is."""
    rough, pointwise, kept = (
        np.sum([getattr(left, name) for left in lefts], axis=0)
        for name in ("rough", "pointwise", "kept")
    )
    shapes = np.stack([left.shape for left in lefts])
    again = int(np.isnan(shapes).any(0).sum())
    return Left(rough, pointwise, kept, np.fmax.reduce(shapes), again)


def _one_trait(
    responses: Responses,
    chosen: NDArray[np.int64],
    priors: Priors,
    rng: np.random.Generator,
    most: int,
) -> Left:
    """The graded response model of one trait behind all the items."""
    mode, data = _mode(responses, priors)
    log_a, lowest, log_gap = coordinates.unpack_items(mode.y, *data.used.shape)
    used = np.asarray(data.used)
    point = np.exp(log_a), coordinates.thresholds_of(log_a, lowest, log_gap, used)
    left = loo.leave_out(
        responses, chosen, point, _approximated(responses, priors, mode, data, rng)
    )

    def again(others: Responses) -> Draws:
        return _approximated(others, priors, *_mode(others, priors), rng)

    return loo.fit_again(chosen, *left, loo.predicted_by(again, responses), most)


def _mode(responses: Responses, priors: Priors) -> tuple[Mode, MarginalData]:
    everyone = np.ones(responses.n_respondents, bool)
    data = grm.marginal_data(responses, [everyone], prior_weight=1.0, priors=priors)
    return find_marginal_mode(responses, grm.start_items(responses), data), data


def _approximated(
    responses: Responses,
    priors: Priors,
    mode: Mode,
    data: MarginalData,
    rng: np.random.Generator,
) -> Draws:
    """Draws from the normal approximation at the mode."""
    used = np.asarray(data.used)
    z = rng.standard_normal((_DRAWS, mode.y.size))
    y = mode.y + np.linalg.solve(np.linalg.cholesky(-mode.hessian).T, z.T).T
    log_a, lowest, log_gap = coordinates.unpack_items(y, *used.shape)
    draws = Draws(
        np.exp(log_a),
        coordinates.thresholds_of(log_a, lowest, log_gap, used),
        np.zeros(_DRAWS),
    )
    if responses.n_respondents > grm.FEW_RESPONDENTS:
        return draws
    log_weight = _log_posterior(responses, draws, log_gap, priors) + 0.5 * (z**2).sum(1)
    return draws._replace(log_weight=log_weight - log_weight.max())


def _log_posterior(responses: Responses, draws: Draws, log_gap: _Table, priors: Priors) -> _Table:
    """Of draws of the items, theta integrated out, up to a constant; shape (n_draws,)."""
    by_draw = loo.log_likelihoods_by_draw(responses, draws).sum(1)
    table = density.tabulate(priors, draws.a.shape[1])
    by_slopes = jax.vmap(partial(density.hierarchical_log_prior, priors=table))
    of_slopes = np.asarray(by_slopes(jnp.log(draws.a)))
    total: _Table = (
        by_draw + of_slopes + loo.log_prior_of_cuts(draws.a, draws.b, log_gap, responses, priors)
    )
    return total
