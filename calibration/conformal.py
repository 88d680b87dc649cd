"""Sets of grades that hold the real one as often as they say (split conformal prediction).

Of the answers a random fifth is held out. Items are estimated on the rest, and each held-out
answer is predicted from the respondent's other answers. One half of the held-out answers then says
how improbable a real grade may be (Sadinle, Lei & Wasserman 2019), with the finite-sample
correction of Vovk et al. (2005): whatever the data's law, and however wrong the model, a set
holds the real grade with at least the stated probability. The other half measures it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration import correlated_scores, grm, scores
from calibration.correlated import (
    CorrelatedFit,
    fit_correlated,
    integrates,
    penalised_estimates,
    traits_of,
)
from calibration.data import Responses
from calibration.errors import SettingError, TooFewRespondentsError
from calibration.layout import theta_nodes
from calibration.predictive import category_shares
from calibration.results import Method, Priors, SamplerSettings

_HELD_OUT = 0.2
_DRAWS = 250  # per chain: a probability is then known to a hundredth

_Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Conformal:
    """Prediction sets of a family.

    A grade is in the set where its predicted probability is at least ``cutoff``; the most
    probable grade always is.

    Attributes:
        level: Probability that a set is to hold the real grade.
        cutoff: The least probable grade that is taken in.
        coverage: Share of the tested answers whose set held them.
        coverage_by_item: The same per item; NaN where an item has no tested answer.
        mean_size: Grades in a set, on average over the tested answers.
        n_calibrated: Answers that set the cutoff.
        n_tested: Answers that measured the coverage.
        coverage_floor: Coverage below which chance alone falls once in 1,000 times.
    """

    level: float
    cutoff: float
    coverage: float
    coverage_by_item: tuple[float, ...]
    mean_size: float
    n_calibrated: int
    n_tested: int
    coverage_floor: float


def predict_sets(
    responses: Responses,
    *,
    seed: int,
    level: float = 0.9,
    method: Method = "mml",
    traits: Sequence[str] | None = None,
    sampler: SamplerSettings | None = None,
    priors: Priors | None = None,
) -> Conformal:
    """Calibrate and test prediction sets.

    Args:
        responses: The data.
        seed: Of the split.
        level: Probability that a set holds the real grade, 0.5 to 0.99.
        method: Of the fit that stands by; items are estimated at the mode it starts from.
            Correlated traits are estimated at the mode with ``"mml"``, and where `fit_correlated`
            integrates them out; elsewhere they are sampled again in few draws.
        traits: Each item's trait, of correlated ones.
        sampler: Of the fit of correlated traits that stands by; so many draws are not made.
        priors: Of the items; a weak penalty for ``"mml"``.

    Raises:
        SettingError: A level out of range.
        TooFewRespondentsError: Too few answers to hold enough of them out.
        NotConvergedError: The items can't be estimated on the rest.
    """
    if not 0.5 <= level <= 0.99:
        raise SettingError(f"level = {level}: give 0.5 to 0.99")
    rng = np.random.default_rng((seed, 9))
    held = rng.binomial(responses.counts, _HELD_OUT)
    calibrate = rng.binomial(held, 0.5)
    test = held - calibrate
    rank = math.ceil((calibrate.sum() + 1) * level)
    if rank > calibrate.sum() or test.sum() == 0:
        raise TooFewRespondentsError(
            f"{responses.family}: {responses.n_responses} answers are too few for prediction sets "
            f"at level {level}: give more or a lower level"
        )
    rest = replace(responses, counts=responses.counts - held)
    if traits is None:
        probability = _predicted(rest, method, priors)
    elif method == "mml" or integrates(rest, tuple(dict.fromkeys(traits))):
        probability = _predicted_at_mode(rest, traits, priors)
    else:
        few = replace(sampler or SamplerSettings(), draws=_DRAWS)
        fit = fit_correlated(rest, seed=seed, traits=traits, sampler=few, priors=priors)
        probability = _predicted_by_draws(rest, fit)
    likeliest_first = np.sort(np.repeat(probability.ravel(), calibrate.ravel()))[::-1]
    cutoff = float(likeliest_first[rank - 1])
    inside = (probability >= cutoff) | (probability == probability.max(2, keepdims=True))
    return _measured(inside, test, (level, cutoff, int(calibrate.sum())))


def _predicted(rest: Responses, method: Method, priors: Priors | None) -> _Table:
    """Probability of each grade given the respondent's other answers, as the counts are shaped."""
    a, b = grm.mode_estimates(rest, method, priors)
    nodes = theta_nodes(rest)
    share = scores.posterior_on_nodes(rest, rest.counts, (a, b), nodes)
    by_node = category_shares(rest, a, b, nodes)
    share /= share.sum(1, keepdims=True)
    predicted: _Table = np.einsum("nt,jkt->njk", share, by_node)
    return predicted


def _predicted_at_mode(
    rest: Responses, traits: Sequence[str], priors: Priors | None = None
) -> _Table:
    """The same with correlated traits at the mode, in which traits tell of each other."""
    of_item = traits_of(rest, traits)[1]
    a, b, omega = penalised_estimates(rest, traits, priors)
    points = correlated_scores.posterior_points(
        correlated_scores.prepare(rest, of_item), a, b, omega
    )
    total = np.zeros((*rest.counts.shape[1:], rest.n_respondents))
    for theta, share in zip(points.theta.swapaxes(0, 1), points.share.T, strict=True):
        total += share * category_shares(rest, a, b, theta[:, of_item].T)
    return total.transpose(2, 0, 1)


def _predicted_by_draws(rest: Responses, fit: CorrelatedFit) -> _Table:
    """The same averaged over draws."""
    a, b, omega = (
        fit.draws[name].reshape(-1, *fit.draws[name].shape[2:])
        for name in ("discrimination", "thresholds", "correlation")
    )
    of_item = np.array(fit.trait_of_item)
    answers = correlated_scores.prepare(rest, of_item)
    rng = np.random.default_rng((fit.diagnostics.seed, 29))
    total = np.zeros((*rest.counts.shape[1:], rest.n_respondents))
    picked = range(0, len(a), fit.diagnostics.chains)
    for s in picked:
        theta = correlated_scores.draw_theta(answers, a[s], b[s], omega[s], rng)
        total += category_shares(rest, a[s], b[s], theta[:, of_item].T)
    predicted: _Table = total.transpose(2, 0, 1) / len(picked)
    return predicted


def _measured(
    inside: NDArray[np.bool_], test: NDArray[np.int64], made: tuple[float, float, int]
) -> Conformal:
    level, cutoff, n_calibrated = made
    n_tested = int(test.sum())
    hits = (inside * test).sum((0, 2))
    by_item = test.sum((0, 2))
    shares = np.where(by_item > 0, hits / np.maximum(by_item, 1), np.nan)
    scatter = math.sqrt(level * (1 - level) * (1 / n_calibrated + 1 / n_tested))
    return Conformal(
        level=level,
        cutoff=cutoff,
        coverage=float(hits.sum() / n_tested),
        coverage_by_item=tuple(shares.tolist()),
        mean_size=float((inside.sum(2) * test.sum(2)).sum() / n_tested),
        n_calibrated=n_calibrated,
        n_tested=n_tested,
        coverage_floor=level - 3.09 * scatter,
    )
