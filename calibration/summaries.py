"""Draws to summaries and convergence figures, all parameters of a block at once. NumPy only.

R-hat and ESS are those of Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021): split chains,
rank-normalised; the autocorrelation is cut by Geyer's (1992) initial monotone sequence. The
figures are ArviZ's, which takes parameters one by one.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.normal import quantiles
from calibration.results import Summary

_AT_ONCE = 4  # parameters: what they need fits into the processor's cache
_FEW_LAGS = 48  # draws that far apart hardly ever depend on each other

_Table = NDArray[np.float64]


class Figures(NamedTuple):
    """Figures of n parameters, each of shape (n,); see `results.Summary`."""

    mean: _Table
    sd: _Table
    low: _Table
    high: _Table
    r_hat: _Table
    ess_bulk: _Table
    ess_tail: _Table
    mcse: _Table

    def summary(self, k: int) -> Summary:
        """The k-th parameter's."""
        mean, sd, low, high, r_hat, bulk, tail, mcse = (float(part[k]) for part in self)
        return Summary(mean, sd, (low, high), r_hat, bulk, tail, mcse)


class Convergence(NamedTuple):
    """Worst figures over a set of parameters."""

    r_hat_max: float
    ess_bulk_min: float
    ess_tail_min: float

    @property
    def ess_min(self) -> float:
        """Bulk or tail."""
        return min(self.ess_bulk_min, self.ess_tail_min)


def figures(*draws: _Table) -> Figures:
    """Figures of every parameter, in order.

    Args:
        draws: Each of shape (chains, draws, any number of parameters), at least 4 draws.
    """
    blocks = [
        table[:, :, k : k + _AT_ONCE] for table in draws for k in range(0, table.shape[2], _AT_ONCE)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # sorts and transforms leave the GIL
        parts = list(threads.map(_figures, blocks))
    return Figures(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def convergence(draws: _Table) -> Convergence:
    """Worst figures over parameters, draws of shape (chains, draws, n)."""
    return worst_of(figures(draws))


def worst_of(known: Figures) -> Convergence:
    """Worst figures over parameters."""
    return Convergence(
        float(known.r_hat.max()), float(known.ess_bulk.min()), float(known.ess_tail.min())
    )


def e_bfmi(energy: _Table) -> tuple[float, ...]:
    """Energy Bayesian fraction of missing information per chain (Betancourt 2016).

    0 of a chain that never moved: it explored nothing.
    """
    change = (np.diff(energy, axis=1) ** 2).mean(1)
    variance = energy.var(1, ddof=1)
    moved = variance > 0.0
    return tuple(np.where(moved, change / np.where(moved, variance, 1.0), 0.0).tolist())


def _figures(draws: _Table) -> Figures:
    """Of draws of shape (chains, draws, n)."""
    columns = np.ascontiguousarray(np.moveaxis(draws, 2, 0))
    n, _, size = columns.shape
    halves = _split(columns)
    normal, ordered = _rank_normal(halves)
    folded = np.abs(halves - _quantile(ordered, 0.5)[:, None, None])
    r_hat = np.maximum(_r_hat(normal), _r_hat(_rank_normal(folded)[0]))
    everything = columns.reshape(n, -1)
    sd = everything.std(1, ddof=1)
    if size % 2:  # the middle draw of each chain is in neither half
        ordered = np.sort(everything, axis=1)
    low, high = _narrowest(ordered, 0.95)
    ends = [_quantile(ordered, share)[:, None, None] for share in (0.05, 0.95)]
    tails = [_ess((halves <= end).astype(float)) for end in ends]
    return Figures(
        everything.mean(1),
        sd,
        low,
        high,
        r_hat,
        _ess(normal),
        np.minimum(*tails),
        sd / np.sqrt(_ess(halves)),
    )


def _split(columns: _Table) -> _Table:
    """Each chain's first and last half as chains of their own."""
    half = columns.shape[2] // 2
    return np.concatenate([columns[:, :, :half], columns[:, :, -half:]], 1)


def _rank_normal(halves: _Table) -> tuple[_Table, _Table]:
    """Normal scores of the ranks over all chains (Blom 1958), and the rows in order.

    Ties share their mean rank.
    """
    flat = halves.reshape(len(halves), -1)
    order = np.argsort(flat, axis=1)
    ordered = np.take_along_axis(flat, order, 1)
    scores = np.empty_like(flat)
    by_place = _normal_scores(flat.shape[1])[_twice_mean_places(ordered)]
    np.put_along_axis(scores, order, by_place, 1)
    return scores.reshape(halves.shape), ordered


@lru_cache(maxsize=4)
def _normal_scores(size: int) -> _Table:
    """By twice the place in order, counted from 0: a mean of places is a half at worst."""
    return quantiles((np.arange(2, 2 * size + 1) / 2 - 0.375) / (size + 0.25))


def _quantile(ordered: _Table, share: float) -> _Table:
    """Of each row, between the two values on either side where none lies there."""
    place = share * (ordered.shape[1] - 1)
    below = int(place)
    above = min(below + 1, ordered.shape[1] - 1)
    found: _Table = ordered[:, below] + (place - below) * (ordered[:, above] - ordered[:, below])
    return found


def _twice_mean_places(ordered: _Table) -> NDArray[np.int64]:
    """First plus last place of each value in its row, counted from 0."""
    place = np.broadcast_to(np.arange(ordered.shape[1]), ordered.shape)
    first = np.ones(ordered.shape, bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    if first.all():
        return 2 * place
    last = np.ones(ordered.shape, bool)
    last[:, :-1] = first[:, 1:]
    begins = np.maximum.accumulate(np.where(first, place, 0), 1)
    ends = np.minimum.accumulate(np.where(last, place, place[0, -1])[:, ::-1], 1)[:, ::-1]
    return begins + ends


def _r_hat(halves: _Table) -> _Table:
    size = halves.shape[2]
    between = halves.mean(2).var(1, ddof=1)
    within = halves.var(2, ddof=1).mean(1)
    ratio = between / np.where(within > 0, within, 1.0)
    return np.where(within > 0, np.sqrt(ratio + (size - 1) / size), np.nan)


def _ess(halves: _Table) -> _Table:
    """Effective sample size of the mean, shape (n,)."""
    n, chains, size = halves.shape
    time, plus = _correlation_time(halves, min(_FEW_LAGS, size))
    draws = chains * size
    known = draws / np.maximum(time, 1.0 / np.log10(draws))
    return np.where((plus > 0) & (np.ptp(halves.reshape(n, -1), 1) > 0), known, float(draws))


def _correlation_time(halves: _Table, lags: int) -> tuple[_Table, _Table]:
    """Sum of autocorrelations over lags of either sign, and the variance over all chains.

    Args:
        halves: Shape (n, chains, draws).
        lags: That are looked at first; all are where a sum does not end among them.
    """
    size = halves.shape[2]
    covariance = _autocovariance(halves, lags)
    within = covariance[:, 0] * size / (size - 1)
    plus = covariance[:, 0] + halves.mean(2).var(1, ddof=1)
    safe = np.where(plus > 0, plus, 1.0)
    rho = 1.0 - (within[:, None] - covariance) / safe[:, None]
    rho[:, 0] = 1.0
    pairs = rho[:, 0 : 2 * (lags // 2) : 2] + rho[:, 1 : 2 * (lags // 2) : 2]
    allowed = max((size - 3) // 2, 1)
    positive = np.logical_and.accumulate(pairs[:, :allowed] > 0, 1)
    if lags < size and positive[:, -1].any():
        return _correlation_time(halves, size)
    kept = np.minimum.accumulate(np.where(positive, pairs[:, :allowed], np.inf), 1)
    total = np.where(positive, kept, 0.0).sum(1)
    count = positive.sum(1)
    # The first lag that is left out still counts where it is positive by itself.
    next_even = np.take_along_axis(rho, np.minimum(2 * count, lags - 1)[:, None], 1)[:, 0]
    return -1.0 + 2.0 * total + np.maximum(next_even, 0.0), plus


def _autocovariance(halves: _Table, lags: int) -> _Table:
    """Mean over chains, shape (n, lags), each lag divided by the number of draws."""
    size = halves.shape[2]
    padded = _fast_length(size + lags - 1)  # so far that no lag wraps around
    spectrum = np.fft.rfft(halves - halves.mean(2, keepdims=True), padded, axis=2)
    power = (spectrum.real**2 + spectrum.imag**2).mean(1)
    covariance: _Table = np.fft.irfft(power, padded, axis=1)[:, :lags] / size
    return covariance


def _fast_length(least: int) -> int:
    """The smallest length from ``least`` on that is a power of 2, or 3 or 5 times one."""
    return min(factor << max(-(-least // factor) - 1, 0).bit_length() for factor in (1, 3, 5))


def _narrowest(ordered: _Table, probability: float) -> tuple[_Table, _Table]:
    """Narrowest interval that holds the given share of each row."""
    inside = int(np.floor(probability * ordered.shape[1]))
    width = ordered[:, inside:] - ordered[:, : ordered.shape[1] - inside]
    at = width.argmin(1)
    rows = np.arange(len(ordered))
    return ordered[rows, at], ordered[rows, at + inside]
