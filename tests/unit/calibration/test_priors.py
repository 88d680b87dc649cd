"""Priors are numbers of the data: the same programs, another posterior."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from calibration import density, grm
from calibration.artefact import GrmArtefact
from calibration.data import Responses
from calibration.errors import SettingError
from calibration.invariance import compare, name_items
from calibration.results import WEAK_PRIORS, Fit, Priors, SamplerSettings

SLOPES = np.array([0.6, 1.0, 1.3, 2.2])


@pytest.fixture(scope="module")
def survey() -> Responses:
    rng = np.random.default_rng(5)
    eta = SLOPES * rng.standard_normal(400)[:, None] + rng.logistic(size=(400, 4))
    return Responses.from_matrix("f", np.digitize(eta, [-1.0, 0.5]), items=("a", "b", "c", "d"))


def fitted(survey: Responses, priors: Priors | None) -> Fit:
    return grm.fit(survey, seed=1, sampler=SamplerSettings(draws=400), priors=priors)


@pytest.mark.parametrize("priors", [Priors(), WEAK_PRIORS])
def test_the_slopes_prior_is_the_stated_one_with_mu_and_sigma_integrated_out(
    priors: Priors,
) -> None:
    def log_prior(log_a: np.ndarray) -> float:
        def given(log_sd: float) -> float:
            covariance = np.exp(2 * log_sd) * np.eye(3) + density.MU_SD**2
            known = stats.multivariate_normal(np.zeros(3), covariance).pdf(log_a)
            centre = np.log(priors.log_discrimination_sd)
            return float(known * stats.norm(centre, density.LOG_SIGMA_SD).pdf(log_sd))

        return float(np.log(integrate.quad(given, -6, 5, epsabs=1e-12)[0]))

    table = density.tabulate(priors, 3)
    close, apart = np.array([0.1, 0.2, 0.0]), np.array([-1.0, 0.5, 1.4])
    ours = [float(density.hierarchical_log_prior(jnp.asarray(at), table)) for at in (close, apart)]
    assert ours[0] - ours[1] == pytest.approx(log_prior(close) - log_prior(apart), abs=2e-3)


def test_weak_priors_leave_the_items_to_the_data(survey: Responses) -> None:
    known = grm.fit(survey, seed=1, method="mml").discrimination

    def distance(fit: Fit) -> float:
        pairs = zip(fit.discrimination, known, strict=True)
        return max(abs(ours.mean - mml.mean) / mml.sd for ours, mml in pairs)

    stated, weak = fitted(survey, None), fitted(survey, WEAK_PRIORS)
    assert distance(weak) < 0.3 < distance(stated)
    assert weak.priors == WEAK_PRIORS
    sds = [np.median(fit.draws["log_discrimination_sd"]) for fit in (stated, weak)]
    assert sds[1] > 1.3 * sds[0]


def test_a_file_tells_of_other_priors_than_the_stated_ones(survey: Responses) -> None:
    fit = fitted(survey, WEAK_PRIORS)
    kept = GrmArtefact.from_fit(fit)
    assert kept.priors is not None
    assert (kept.priors.log_discrimination_sd, kept.priors.cut_sd) == (1.0, 5.0)
    assert GrmArtefact.from_json(kept.to_json()) == kept
    assert '"priors"' not in GrmArtefact.from_fit(fitted(survey, None)).to_json()


def test_groups_are_compared_with_the_priors_that_are_given(survey: Responses) -> None:
    """A penalty that draws discriminations together costs log-likelihood."""
    halves = survey.regrouped(np.arange(400) % 2)
    tight = Priors(log_discrimination_sd=0.05)
    for stated, other in zip(compare(halves), compare(halves, priors=tight), strict=True):
        assert other.log_likelihood < stated.log_likelihood - 0.5
    ratios = [
        [item.likelihood_ratio for item in name_items(halves, priors=priors)]
        for priors in (None, tight)
    ]
    assert ratios[0] != ratios[1]


@pytest.mark.parametrize("name", ["log_discrimination_sd", "cut_sd"])
def test_a_prior_out_of_range_is_named(name: str) -> None:
    with pytest.raises(SettingError, match=rf"{name} = 0.0: give a value from"):
        Priors(**{name: 0.0})
