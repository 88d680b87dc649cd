"""Do correlated traits predict new respondents better than independent ones, or than one for all?

As `loo`: a respondent is left out with all answers, and theta is integrated out, here in as many
dimensions as there are traits. The two simpler models are not sampled: their draws are those of
the normal approximation at their modes, weighted to their posteriors where there are few
respondents.
"""

from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from calibration import coordinates, correlated_scores, density, grm, loo
from calibration.correlated import CorrelatedFit
from calibration.curvature import find_marginal_mode
from calibration.data import Responses
from calibration.errors import SettingError
from calibration.loo import Draws, Left, Loo, Model
from calibration.results import Priors

_DRAWS = 400

_Table = NDArray[np.float64]


def compare_structures(
    fit: CorrelatedFit,
    responses: Responses,
    *,
    seed: int,
    most_left_out: int = loo.MOST_LEFT_OUT,
) -> tuple[Loo, ...]:
    """Correlated traits against the same traits each calibrated alone, and one trait for all items.

    Args:
        fit: A posterior of ``responses``.
        responses: What it was calibrated on.
        seed: Of the choice of respondents and of the simpler models' draws.
        most_left_out: Respondents that are left out one by one; of more, so many are drawn.

    Raises:
        NotConvergedError: A simpler model has no mode.
        SettingError: The fit has no draws (maximum likelihood), or fewer than 10 respondents are
            to be left out.
    """
    if not fit.draws:
        raise SettingError(f"{fit.family}: method 'mml' has no draws: fit it by 'nuts'")
    rng = np.random.default_rng((seed, 23))
    chosen = loo.who_is_left_out(responses.n_respondents, most_left_out, rng)
    of_item = np.array(fit.trait_of_item)
    parts = [responses.of_items(of_item == c, trait) for c, trait in enumerate(fit.traits)]
    how = chosen, fit.priors, rng
    by_model: dict[Model, Left] = {
        "correlated": _correlated(fit, responses, chosen),
        "independent_traits": _all_of([_one_trait(part, *how) for part in parts]),
        "one_trait": _one_trait(responses, *how),
    }
    reference = by_model["correlated"]
    return tuple(loo.row(model, left, reference, chosen) for model, left in by_model.items())


def _correlated(fit: CorrelatedFit, responses: Responses, chosen: NDArray[np.int64]) -> Left:
    of_item = np.array(fit.trait_of_item)
    everyone = np.arange(responses.n_respondents)
    some = correlated_scores.prepare(responses.chosen(np.isin(everyone, chosen)), of_item)
    flat = {
        name: fit.draws[name].reshape(-1, *fit.draws[name].shape[2:])
        for name in ("discrimination", "thresholds", "correlation")
    }
    thin = np.linspace(0, len(flat["correlation"]) - 1, _DRAWS).astype(int)
    table = np.stack(
        [
            correlated_scores.log_likelihoods(some, a, b, omega)
            for a, b, omega in zip(*(values[thin] for values in flat.values()), strict=True)
        ]
    )
    pointwise, shape = loo.smoothed(table)
    rough = correlated_scores.log_likelihoods(
        correlated_scores.prepare(responses, of_item),
        *grm.point(responses, fit.estimates),
        fit.correlation_mean,
    )
    return Left(rough, pointwise, loo.log_sum(table.T) - np.log(len(table)), shape)


def _all_of(lefts: Sequence[Left]) -> Left:
    """Independent parts of one model."""
    rough, pointwise, kept = (
        np.sum([getattr(left, name) for left in lefts], axis=0)
        for name in ("rough", "pointwise", "kept")
    )
    return Left(rough, pointwise, kept, reduce(np.maximum, [left.shape for left in lefts]))


def _one_trait(
    responses: Responses, chosen: NDArray[np.int64], priors: Priors, rng: np.random.Generator
) -> Left:
    """The graded response model of one trait behind all the items."""
    everyone = np.ones(responses.n_respondents, bool)
    data = grm.marginal_data(responses, [everyone], prior_weight=1.0, priors=priors)
    mode = find_marginal_mode(responses, grm.start_items(responses), data)
    used = np.asarray(data.used)
    z = rng.standard_normal((_DRAWS, mode.y.size))
    y = mode.y + np.linalg.solve(np.linalg.cholesky(-mode.hessian).T, z.T).T
    log_a, lowest, log_gap = coordinates.unpack_items(y, *used.shape)
    draws = Draws(
        np.exp(log_a),
        coordinates.thresholds_of(log_a, lowest, log_gap, used),
        np.zeros(_DRAWS),
    )
    if responses.n_respondents <= grm.FEW_RESPONDENTS:
        log_weight = _log_posterior(responses, draws, log_gap, priors) + 0.5 * (z**2).sum(1)
        draws = draws._replace(log_weight=log_weight - log_weight.max())
    log_a, lowest, log_gap = coordinates.unpack_items(mode.y, *used.shape)
    point = np.exp(log_a), coordinates.thresholds_of(log_a, lowest, log_gap, used)
    return loo.leave_out(responses, chosen, point, draws)


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
