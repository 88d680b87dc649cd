import warnings

import numpy as np
import pytest

from calibration import grm
from calibration.data import Responses
from calibration.errors import SettingError
from calibration.loo import Loo, compare_models, smoothed
from calibration.results import Fit, SamplerSettings


def survey(slopes: tuple[float, ...], n: int = 500) -> Responses:
    rng = np.random.default_rng(8)
    eta = np.array(slopes) * rng.standard_normal((n, 1)) + rng.logistic(size=(n, len(slopes)))
    names = [f"i{j}" for j in range(len(slopes))]
    return Responses.from_matrix("f", np.digitize(eta, [-1.0, 1.0]), items=names)


@pytest.fixture(scope="module")
def unequal() -> dict[str, Loo]:
    responses = survey((0.4, 0.7, 2.5, 3.0))
    settings = SamplerSettings(warmup=200, draws=300)
    fit = grm.fit(responses, seed=1, sampler=settings)
    return {row.model: row for row in compare_models(fit, responses, seed=1)}


def test_leaving_out_a_normals_observation_has_a_known_density() -> None:
    """y_i ~ N(m, 1), flat m: y_i given the others is N(mean of others, 1 + 1 / (n - 1))."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal(40)
    m = y.mean() + rng.standard_normal(4000) / np.sqrt(40)
    log_likelihood = -0.5 * (y - m[:, None]) ** 2 - 0.5 * np.log(2 * np.pi)
    others = (y.sum() - y) / 39
    variance = 1 + 1 / 39
    known = -0.5 * (y - others) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)
    found, shape = smoothed(log_likelihood)
    np.testing.assert_allclose(found, known, atol=0.02)
    assert shape.max() < 0.7


def test_smoothing_is_arvizs_loo() -> None:
    import arviz

    rng = np.random.default_rng(1)
    table = -0.5 * (rng.standard_normal(15) - 0.3 * rng.standard_normal((400, 1))) ** 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = arviz.from_dict(
            posterior={"m": np.zeros((4, 100))}, log_likelihood={"y": table.reshape(4, 100, 15)}
        )
        expected = arviz.loo(data, pointwise=True, reff=1.0)
    found, shape = smoothed(table)
    np.testing.assert_allclose(found, expected.loo_i.values, rtol=1e-9)
    np.testing.assert_allclose(shape, expected.pareto_k.values, rtol=1e-9)


def test_unequal_slopes_are_told_from_equal_ones_and_from_none(unequal: dict[str, Loo]) -> None:
    assert unequal["grm"].difference == 0.0
    equal, none = unequal["equal_discrimination"], unequal["independence"]
    assert equal.difference < -3 * equal.difference_se
    assert none.difference < equal.difference - 3 * none.difference_se
    assert all(row.unreliable == 0 for row in unequal.values())


def test_effective_parameters_are_about_the_free_ones(unequal: dict[str, Loo]) -> None:
    """12 for the model, 9 with one slope, 8 without any; far from each other's by their noise."""
    assert unequal["grm"].p_loo == pytest.approx(12, abs=4)
    assert unequal["equal_discrimination"].p_loo == pytest.approx(9, abs=3.5)
    assert unequal["independence"].p_loo == pytest.approx(8, abs=2)


def test_equal_slopes_are_as_good_where_they_are_true() -> None:
    responses = survey((1.5, 1.5, 1.5, 1.5))
    fit = grm.fit(responses, seed=1, sampler=SamplerSettings(warmup=200, draws=300))
    equal = compare_models(fit, responses, seed=1)[1]
    assert abs(equal.difference) < 2 * equal.difference_se + 3


def test_a_fit_without_draws_is_refused(openness: Responses, openness_mml: Fit) -> None:
    with pytest.raises(SettingError, match="method 'mml' has no draws"):
        compare_models(openness_mml, openness, seed=0)
