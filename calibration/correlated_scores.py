"""Correlated traits with theta integrated out, and as one score. NumPy only.

A respondent's answers are as probable as they are on average over theta ~ N(0, Omega): an integral
in as many dimensions as there are traits. Given the items the log density of theta is concave, so
Newton finds its mode from anywhere; around it importance sampling by a slightly wider normal needs
few points, the same for every respondent and draw. What they make of a normal, whose integral is
known, is what all results are divided by.
"""

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration import layout
from calibration.data import Responses
from calibration.errors import NotConvergedError
from calibration.results import RespondentScores

if TYPE_CHECKING:
    from calibration.correlated import CorrelatedFit

_WIDER = 1.1
_POINTS = (32, 128)
_POINTS_OF_ALL = 8192
_LONGEST_STEP, _CLOSE, _MOST_STEPS = 1.0, 1e-8, 100
_LEAST_GAIN, _ROUNDING = 0.1, 1e-10  # of a step: a part of its promise; of values: relative
_BLOCK = 2**16  # numbers at once: what stays in a core's cache

_Table = NDArray[np.float64]


class Answers(NamedTuple):
    """What the integral reads of responses; prepared once for all draws.

    ``above`` and ``both`` (answers next to a cut, above it and on either side) are of shape
    (n_respondents, n_items, n_cuts), ``between`` (answers between two cuts) has one cut less;
    ``used`` says which cuts an item has; ``loads`` is 1 where an item belongs to a trait.
    """

    above: _Table
    both: _Table
    between: _Table
    used: NDArray[np.bool_]
    loads: _Table


class Points(NamedTuple):
    """Of theta, shape (n, m, n_traits), with the logs of their weights, (n, m)."""

    theta: _Table
    log_weight: _Table

    @property
    def share(self) -> _Table:
        """Each point's part of its respondent's posterior, shape (n, m)."""
        weight = np.exp(self.log_weight - self.log_weight.max(1, keepdims=True))
        share: _Table = weight / weight.sum(1, keepdims=True)
        return share


def prepare(responses: Responses, of_item: NDArray[np.int64]) -> Answers:
    """Lay responses out; ``of_item`` is the index of each item's trait."""
    counts = layout.cut_counts(responses)
    between = counts.used[:, 1:]
    return Answers(
        counts.above,
        counts.above + counts.below,
        np.where(between, responses.counts[:, :, 1:-1], 0).astype(float),
        counts.used,
        np.eye(int(of_item.max()) + 1)[of_item],
    )


def log_likelihoods(
    answers: Answers, discrimination: _Table, thresholds: _Table, correlation: _Table
) -> _Table:
    """Log probability of each respondent's answers, theta integrated out, (n_respondents,).

    Args:
        answers: The data.
        discrimination: Shape (n_items,).
        thresholds: Shape (n_items, n_cuts); what lies beyond an item's own is not read.
        correlation: Of the traits, shape (n_traits, n_traits), positive definite.

    Raises:
        NotConvergedError: A respondent's theta has no mode, as of items that are not finite.
    """
    z = _points(len(correlation), len(answers.above), np.random.default_rng(0))
    found = _around_modes(answers, discrimination, thresholds, correlation, z)
    of_normal = _log_mean(0.5 * (1.0 - _WIDER**2) * (z**2).sum(1))
    cuts = np.where(answers.used, discrimination[:, None] * thresholds, 0.0)
    total: _Table = _log_mean(found.log_weight) - of_normal + _of_gaps(answers, cuts)
    return total


def draw_theta(
    answers: Answers,
    discrimination: _Table,
    thresholds: _Table,
    correlation: _Table,
    rng: np.random.Generator,
) -> _Table:
    """One draw of each respondent's theta given the items, shape (n_respondents, n_traits).

    The points of the integral, each as likely as its weight (Rubin 1988). For the arguments see
    `log_likelihoods`.

    Raises:
        NotConvergedError: As there.
    """
    z = _points(len(correlation), len(answers.above), rng)
    return pick(_around_modes(answers, discrimination, thresholds, correlation, z), rng)


def posterior_points(
    answers: Answers, discrimination: _Table, thresholds: _Table, correlation: _Table
) -> Points:
    """The points of the integral, which stand for each respondent's posterior given the items.

    For the arguments see `log_likelihoods`; enough to draw from again and again.

    Raises:
        NotConvergedError: As there.
    """
    z = _points(len(correlation), len(answers.above), np.random.default_rng(0))
    return _around_modes(answers, discrimination, thresholds, correlation, z)


def pick(points: Points, rng: np.random.Generator) -> _Table:
    """One of each respondent's points, as likely as its weight, shape (n_respondents, n_traits)."""
    picked = (points.log_weight + rng.gumbel(size=points.log_weight.shape)).argmax(1)
    theta: _Table = points.theta[np.arange(len(picked)), picked]
    return theta


def composite_scores(fit: "CorrelatedFit") -> RespondentScores:
    """One score of each respondent: the traits' mean, in units of its standard deviation.

    Every trait counts the same. As theta ~ N(0, Omega), the mean of the traits has the mean of
    Omega's entries as its variance, so that the score is N(0, 1) in the population, as one
    trait's is.
    """
    if "theta" not in fit.draws:
        spread = float(np.sqrt(fit.correlation_mean.mean()))
        sd = np.sqrt(fit.theta_covariance.mean((1, 2)))
        return RespondentScores(fit.theta.respondents, fit.theta.mean.mean(1) / spread, sd / spread)
    unit = np.sqrt(fit.draws["correlation"].mean((-1, -2)))
    drawn = fit.draws["theta"].mean(-1) / unit[..., None]
    return RespondentScores(fit.theta.respondents, drawn.mean((0, 1)), drawn.std((0, 1)))


def _around_modes(
    answers: Answers, discrimination: _Table, thresholds: _Table, correlation: _Table, z: _Table
) -> Points:
    """Points of the wider normal, and how much more likely theta is there than they are."""
    cuts = np.where(answers.used, discrimination[:, None] * thresholds, 0.0)
    precision = np.linalg.inv(correlation).astype(np.float64)
    mode, curvature = _modes(answers, discrimination, cuts, precision)
    root = np.linalg.inv(np.linalg.cholesky(curvature)).swapaxes(-1, -2)
    theta = mode[:, None] + _WIDER * np.einsum("nij,mj->nmi", root, z)
    log_prior = -0.5 * np.einsum("nmi,ij,nmj->nm", theta, precision, theta)
    log_density = _log_density(answers, discrimination, cuts, theta) + log_prior
    log_volume = np.log(np.diagonal(root, 0, 1, 2)).sum(1) - 0.5 * np.linalg.slogdet(correlation)[1]
    return Points(theta, log_density + 0.5 * (z**2).sum(1) + log_volume[:, None])


def _modes(
    answers: Answers, discrimination: _Table, cuts: _Table, precision: _Table
) -> tuple[_Table, _Table]:
    """Each respondent's mode of theta, (n, n_traits), and minus the Hessian there.

    A step that gains less than a part of what its slope promises is halved: between two steep cuts
    the density hardly bends, and Newton leaps from one side of its mode to the other.
    """
    look = partial(_look, answers, discrimination, cuts, precision)
    theta = np.zeros((len(answers.above), len(precision)))
    here = look(theta)
    for _ in range(_MOST_STEPS):
        step = np.linalg.solve(here.curvature, here.uphill[..., None])[..., 0].astype(float)
        longest = np.abs(step).max(1, keepdims=True)
        if longest.max() < _CLOSE:
            return theta, here.curvature
        step *= np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-300))
        there = look(theta + step)
        while (short := _falls_short(here, there, step)).any():
            step[short] *= 0.5
            there = look(theta + step)
        theta, here = theta + step, there
    raise NotConvergedError(f"no mode of theta was found in {_MOST_STEPS} Newton steps")


class _Look(NamedTuple):
    """Of log densities of theta: values (n,), slopes (n, n_traits), and minus the Hessians."""

    value: _Table
    uphill: _Table
    curvature: _Table


def _look(
    answers: Answers, discrimination: _Table, cuts: _Table, precision: _Table, theta: _Table
) -> _Look:
    eta = discrimination[:, None] * (theta @ answers.loads.T)[..., None] - cuts
    small = np.exp(-np.abs(eta))
    reached = np.where(eta > 0, 1.0, small) / (1.0 + small)
    soft = np.maximum(eta, 0.0) + np.log1p(small)
    slope = (answers.above - answers.both * reached).sum(2) * discrimination
    bend = (answers.both * reached * (1.0 - reached)).sum(2) * discrimination**2
    pulled = theta @ precision
    return _Look(
        (answers.above * eta - answers.both * soft).sum((1, 2)) - 0.5 * (theta * pulled).sum(1),
        slope @ answers.loads - pulled,
        precision + (bend @ answers.loads)[:, :, None] * np.eye(len(precision)),
    )


def _falls_short(here: _Look, there: _Look, step: _Table) -> NDArray[np.bool_]:
    """Who gains too little, beyond what rounding can hide."""
    promised = (here.uphill * step).sum(1)
    hidden = _ROUNDING * (1.0 + np.abs(here.value))
    short: NDArray[np.bool_] = there.value - here.value < _LEAST_GAIN * promised - hidden
    return short


def _log_density(answers: Answers, discrimination: _Table, cuts: _Table, theta: _Table) -> _Table:
    """Of the answers given theta, (n, m, n_traits), but for what is free of theta; (n, m)."""
    n, m = theta.shape[:2]
    slopes = discrimination[:, None] * answers.loads
    above, both = (part.reshape(n, -1, 1) for part in (answers.above, answers.both))

    def of(rows: slice) -> _Table:
        eta = ((theta[rows] @ slopes.T)[..., None] - cuts).reshape(-1, m, cuts.size)
        # as exact as log1p in the sum, and several times as fast
        soft = np.maximum(eta, 0.0) + np.log(1.0 + np.exp(-np.abs(eta)))
        total: _Table = (eta @ above[rows] - soft @ both[rows])[..., 0]
        return total

    size = max(1, _BLOCK // (m * cuts.size))
    return np.concatenate([of(slice(k, k + size)) for k in range(0, n, size)])


def _of_gaps(answers: Answers, cuts: _Table) -> _Table:
    """The factor of the answers between two cuts that is free of theta, shape (n,)."""
    gap = np.where(answers.used[:, 1:], np.diff(cuts, axis=1), 1.0)
    free: _Table = np.einsum("njk,jk->n", answers.between, np.log(-np.expm1(-gap)))
    return free


def _points(n_traits: int, n: int, rng: np.random.Generator) -> _Table:
    """Standard normal points with means 0 and unit covariance, each with its mirror image.

    All respondents share them: what their means and covariances were off by would not average out.
    """
    low, high = _POINTS
    half = max(min(max(_POINTS_OF_ALL // n, low), high) // 2, 2 * n_traits)
    z = rng.standard_normal((half, n_traits))
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / half)).T
    return np.concatenate([z, -z])


def _log_mean(table: _Table) -> _Table:
    top = table.max(-1)
    mean: _Table = top + np.log(np.exp(table - top[..., None]).mean(-1))
    return mean
