"""Draws to summaries and convergence figures, by ArviZ."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.results import Summary

with warnings.catch_warnings():
    # ArviZ announces its next major version once a day; that says nothing about these numbers.
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as _arviz


class Convergence(NamedTuple):
    """Worst figures over a set of parameters."""

    r_hat_max: float
    ess_bulk_min: float
    ess_tail_min: float


def summarise(draws: NDArray[np.float64]) -> Summary:
    """Summarise one parameter, draws of shape (chains, draws).

    R-hat and ESS are rank-normalised and split (Vehtari et al. 2021).
    """
    low, high = hdi(draws.ravel())
    return Summary(
        mean=float(draws.mean()),
        sd=float(draws.std(ddof=1)),
        hdi95=(low, high),
        r_hat=float(_arviz.rhat(draws)),
        ess_bulk=float(_arviz.ess(draws, method="bulk")),
        ess_tail=float(_arviz.ess(draws, method="tail")),
        mcse=float(_arviz.mcse(draws, method="mean")),
    )


def convergence(draws: NDArray[np.float64]) -> Convergence:
    """Worst figures over parameters, draws of shape (chains, draws, n)."""
    columns = [draws[:, :, k] for k in range(draws.shape[2])]
    return Convergence(
        max(float(_arviz.rhat(column)) for column in columns),
        min(float(_arviz.ess(column, method="bulk")) for column in columns),
        min(float(_arviz.ess(column, method="tail")) for column in columns),
    )


def worst(parts: list[Convergence]) -> Convergence:
    """The worst of several."""
    r_hat, bulk, tail = zip(*parts, strict=True)
    return Convergence(max(r_hat), min(bulk), min(tail))


def convergence_of(summaries: list[Summary]) -> Convergence:
    """Worst figures over parameters that are summarised already."""
    return worst(
        [
            Convergence(s.r_hat, s.ess_bulk, s.ess_tail)
            for s in summaries
            if s.r_hat is not None and s.ess_bulk is not None and s.ess_tail is not None
        ]
    )


def hdi(draws: NDArray[np.float64], probability: float = 0.95) -> tuple[float, float]:
    """Narrowest interval that holds the given share of the draws, shape (n,)."""
    low, high = _arviz.hdi(draws, hdi_prob=probability)
    return float(low), float(high)


def e_bfmi(energy: NDArray[np.float64]) -> tuple[float, ...]:
    """Energy Bayesian fraction of missing information per chain (Betancourt 2016)."""
    return tuple(float(value) for value in _arviz.bfmi(energy))
