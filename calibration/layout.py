"""Counts as the sufficient statistics that the likelihoods read. NumPy only.

With ``eta_k = a theta - c_k``, the probability of a category between cuts k and k + 1 is
``sigma(eta_k) - sigma(eta_k+1) = sigma(eta_k) * sigma(-eta_k+1) * (1 - exp(c_k - c_k+1))``. So a
cut needs only how many answers lie in the category above it and in the one below it, and the last
factor, free of theta, only the totals of the middle categories. No clip, no difference of
nearly equal numbers.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.data import Responses
from calibration.distinct import distinct_rows

THETA_LIMIT = 6.0
MANY_ANSWERS = 64
LOGISTIC_VARIANCE = 1.7**2  # of the normal that a logistic curve resembles


class CutCounts(NamedTuple):
    """Statistics per respondent (or per answer pattern, with its weight).

    Attributes:
        above: Answers in the category above each cut, shape (n, n_items, n_cuts).
        below: Answers in the category below each cut, same shape.
        weight: Respondents that share the row, shape (n,); 0 pads.
        middle: Answers between neighbouring cuts over all rows, shape (n_items, n_cuts - 1).
        used: Which cuts an item has, bool, shape (n_items, n_cuts).
    """

    above: NDArray[np.float64]
    below: NDArray[np.float64]
    weight: NDArray[np.float64]
    middle: NDArray[np.float64]
    used: NDArray[np.bool_]


def cut_counts(responses: Responses) -> CutCounts:
    """One row per respondent."""
    return _from_counts(responses, responses.counts, np.ones(responses.n_respondents))


def pattern_counts(
    responses: Responses, found: tuple[NDArray[np.int64], NDArray[np.float64]], size: int
) -> CutCounts:
    """One row per distinct pattern, as `distinct_patterns` gives them, padded to ``size`` rows."""
    patterns, weight = found
    padded = np.zeros((size, *patterns.shape[1:]), np.int64)
    padded[: len(patterns)] = patterns
    return _from_counts(responses, padded, np.pad(weight, (0, size - weight.size)))


def distinct_patterns(
    counts: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct rows and how many respondents share each.

    In order of the mean category, so that rows that lie together have like traits.
    """
    found = distinct_rows(counts)
    patterns = counts[found.first]
    place = (patterns @ np.arange(counts.shape[2])).sum(1)
    order = np.argsort(place / np.maximum(patterns.sum((1, 2)), 1), kind="stable")
    return patterns[order], found.often[order].astype(np.float64)


def padded_size(n: int) -> int:
    """The next of 16, 20, 24, 28, 32, 40, ...: families of like size share one program."""
    step = max(4, 1 << max((n - 1).bit_length() - 3, 0))
    return max(16, -(-n // step) * step)


def shared_size(n: int) -> int:
    """A power of two up to 4,096, for searches, which cost less than compiling them again."""
    return max(16, 1 << (n - 1).bit_length()) if n <= 4096 else padded_size(n)


def used_cuts(categories: tuple[tuple[int, ...], ...], n_cuts: int) -> NDArray[np.bool_]:
    """Which of the padded cuts each item has, shape (n_items, n_cuts)."""
    return np.arange(n_cuts) < np.array([len(observed) - 1 for observed in categories])[:, None]


def many_answers(responses: Responses) -> bool:
    """Whether the typical respondent's posterior of theta is narrow and near normal.

    With 64 answers its sd is about a fifth of the population's or less: nodes for everyone would
    be over a hundred, and single precision no longer holds a log-likelihood.
    """
    return bool(np.median(responses.counts.sum((1, 2))) > MANY_ANSWERS)


def theta_nodes(
    responses: Responses, slopes: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Evenly spaced nodes on ±6 for the trapezoid rule, 0.3 apart or closer.

    On a smooth density the rule's error falls off like exp(-2 (pi sd / spacing)^2), so a spacing
    of the narrowest respondent's posterior sd is as good as exact. An answer carries at most
    about slope^2 / 3 of information (Samejima 1969).

    Args:
        responses: How many answers to each item a respondent gave at most.
        slopes: Of the items, shape (n_items,); sqrt(3) without it.
    """
    most = responses.counts.sum(2).max(0)
    steepness = 3.0 if slopes is None else slopes**2
    return evenly(_half_octave(0.3, 1.0 / np.sqrt(1.0 + float(np.sum(most * steepness)) / 3)))


def nodes_for_spread(narrowest: float) -> NDArray[np.float64]:
    """Nodes just close enough for the narrowest posterior sd of theta, once that is known.

    Their number is one of a few, so that families share compiled programs.
    """
    return evenly(_half_octave(0.4, 1.25 * narrowest))


def _half_octave(widest: float, at_most: float) -> float:
    """The first of widest, widest / sqrt(2), widest / 2, ... that is small enough."""
    spacings = (widest / 2 ** (half / 2) for half in range(20))
    return next((spacing for spacing in spacings if spacing <= at_most), at_most)


def evenly(spacing: float) -> NDArray[np.float64]:
    """Nodes on ±6 for the trapezoid rule, no more than ``spacing`` apart."""
    intervals = int(np.ceil(2 * THETA_LIMIT / spacing - 1e-9))
    return np.linspace(-THETA_LIMIT, THETA_LIMIT, 1 + intervals)


def starting_items(
    responses: Responses,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Log discriminations from correlations, cut points from the items' cumulative shares.

    Returns:
        Log discriminations, shape (n_items,), lowest cut point, shape (n_items,), and log gaps,
        shape (n_items, n_cuts - 1), 0 where the item has no such gap.
    """
    slopes = _starting_slopes(responses.counts)
    used = used_cuts(responses.categories, responses.counts.shape[2] - 1)
    totals = responses.counts.sum(0) + 0.5 * np.pad(used, ((0, 0), (1, 0)), constant_values=True)
    below = np.cumsum(totals, 1)[:, :-1] / totals.sum(1, keepdims=True)
    # A logistic curve of slope a, averaged over N(0, 1), is about as flat as this.
    cuts = np.log(np.where(used, below, 0.5) / np.where(used, 1 - below, 0.5))
    cuts *= np.sqrt(1 + slopes**2 / LOGISTIC_VARIANCE)[:, None]
    gaps = np.log(np.where(used[:, 1:], np.maximum(np.diff(cuts, axis=1), 1e-3), 1.0))
    return np.log(slopes), cuts[:, 0], gaps


def _starting_slopes(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Slopes by the centroid method of one factor; 1 where an item is answered many times.

    There a correlation of means says nothing about single answers.
    """
    answers = counts.sum(2)
    if answers.max() > 1 or counts.shape[1] < 3:
        return np.ones(counts.shape[1])
    place = counts @ np.arange(counts.shape[2])
    mean = place.sum(0) / answers.sum(0)
    centred = np.where(answers > 0, place - mean, 0.0)
    scale = np.sqrt((centred**2).sum(0))
    correlations = centred.T @ centred / np.outer(scale, scale)
    np.fill_diagonal(correlations, 0.0)
    total = max(float(correlations.sum()), 1e-9)
    loading = np.clip(correlations.sum(0) / np.sqrt(total), 0.3, 0.9)
    slopes: NDArray[np.float64] = np.sqrt(LOGISTIC_VARIANCE) * loading / np.sqrt(1 - loading**2)
    return slopes


def _from_counts(
    responses: Responses, counts: NDArray[np.int64], weight: NDArray[np.float64]
) -> CutCounts:
    used = used_cuts(responses.categories, counts.shape[2] - 1)
    above = np.where(used, counts[:, :, 1:], 0).astype(np.float64)
    below = np.where(used, counts[:, :, :-1], 0).astype(np.float64)
    middle = np.einsum("n,njk->jk", weight, below[:, :, 1:])
    return CutCounts(above, below, weight, middle, used)
