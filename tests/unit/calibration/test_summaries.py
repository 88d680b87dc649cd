import warnings

import numpy as np
import pytest

from calibration import normal, summaries

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of ArviZ's next major version
    import arviz


def chains(draws: int, autocorrelation: float, seed: int = 0) -> np.ndarray:
    table = np.random.default_rng(seed).standard_normal((4, draws))
    for t in range(1, draws):
        table[:, t] += autocorrelation * table[:, t - 1]
    return table


def odd_draws() -> np.ndarray:
    stuck = chains(501, 0.0)
    stuck[:, 100:140] = stuck[:, 100:101]
    apart = chains(501, 0.3) + np.arange(4)[:, None]
    wider = chains(501, 0.0) * np.array([1, 1, 1, 5])[:, None]
    return np.stack(
        [chains(501, phi) for phi in (-0.6, 0.0, 0.5, 0.98)] + [stuck, apart, wider], -1
    )


def test_figures_are_arvizs_one_by_one() -> None:
    draws = odd_draws()
    # Each by itself: lags are looked at until the slowest of those taken at once has ended.
    found = summaries.figures(*np.split(draws, draws.shape[2], axis=2))
    for k in range(draws.shape[2]):
        column = draws[:, :, k]
        expected = [
            column.mean(),
            column.std(ddof=1),
            *arviz.hdi(column.ravel(), hdi_prob=0.95),
            arviz.rhat(column),
            arviz.ess(column, method="bulk"),
            arviz.ess(column, method="tail"),
            arviz.mcse(column, method="mean"),
        ]
        np.testing.assert_allclose([part[k] for part in found], expected, rtol=1e-9)
    assert found.r_hat[5] > 1.3
    assert found.r_hat[6] > 1.1  # by the folded ranks: equal means, unequal spreads


def test_figures_are_the_same_whichever_are_taken_at_once() -> None:
    draws = odd_draws()
    one_by_one = summaries.figures(*np.split(draws, draws.shape[2], axis=2))
    for alone, together in zip(one_by_one, summaries.figures(draws), strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_the_worst_is_over_parameters() -> None:
    found = summaries.figures(odd_draws())
    worst = summaries.convergence(odd_draws())
    assert worst == (found.r_hat.max(), found.ess_bulk.min(), found.ess_tail.min())


def test_the_energy_figure_is_arvizs() -> None:
    energy = chains(300, 0.7)
    np.testing.assert_allclose(summaries.e_bfmi(energy), arviz.bfmi(energy), rtol=1e-12)


def test_a_chain_that_never_moved_has_no_energy_to_speak_of() -> None:
    energy = np.random.default_rng(0).standard_normal((3, 50))
    energy[1] = 7.0
    energy[2] = np.nan
    assert summaries.e_bfmi(energy)[1:] == (0.0, 0.0)


def test_an_exponentials_interval_begins_at_zero() -> None:
    draws = np.random.default_rng(0).exponential(size=(4, 20_000, 1))
    s = summaries.figures(draws).summary(0)
    assert s.hdi95 == pytest.approx((0.0, -np.log(0.05)), abs=0.08)
    assert s.ess_bulk == pytest.approx(80_000, rel=0.05)


def test_normal_quantiles_known_to_many_digits() -> None:
    told = normal.quantiles(np.array([1e-300, 0.025, 0.5, 0.9, 0.9999]))
    known = [-37.0471, -1.959963984540054, 0.0, 1.2815515655446004, 3.719016485455709]
    np.testing.assert_allclose(told, known, rtol=1e-6)
    np.testing.assert_allclose(told[1:], known[1:], rtol=1e-14)
