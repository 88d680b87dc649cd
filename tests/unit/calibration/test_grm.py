import pickle

import jax
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit

from calibration import density, grm, layout, scores
from calibration.curves import category_probabilities
from calibration.data import Responses
from calibration.errors import SettingError
from calibration.newton import _differentiated as evaluate
from calibration.newton import find_mode
from calibration.nuts import whitening
from calibration.results import Fit, Priors, Progress, SamplerSettings
from calibration.simulate import Truth


def survey(n: int, items: int = 4, seed: int = 0) -> Responses:
    """One answer each, three categories, discriminations 1 to 2."""
    rng = np.random.default_rng(seed)
    eta = np.linspace(1, 2, items) * rng.standard_normal(n)[:, None]
    uniform = rng.random((n, items))
    grades = sum((uniform < 1 / (1 + np.exp(-(eta - cut)))).astype(int) for cut in (-1.0, 1.0))
    return Responses.from_matrix("f", grades, items=[f"i{j}" for j in range(items)])


def test_every_parameter_of_the_smoke_fit_converged(smoke_fit: Fit) -> None:
    d = smoke_fit.diagnostics
    assert d.r_hat_max is not None
    assert d.r_hat_max < 1.005
    assert d.ess_bulk_min is not None
    assert d.ess_bulk_min > 4000
    assert d.ess_tail_min is not None
    assert d.ess_tail_min > 4000
    assert d.divergences == 0
    assert min(d.e_bfmi) > 0.7
    assert smoke_fit.n_responses == 3600
    shown = smoke_fit.discrimination[0]
    assert shown.r_hat is not None
    assert 1.0 - 1e-3 < shown.r_hat <= d.r_hat_max


def test_the_smoke_fit_recovers_the_truth(smoke_fit: Fit, truth: Truth) -> None:
    inside = [
        s.hdi95[0] < value < s.hdi95[1]
        for s, value in zip(smoke_fit.discrimination, truth.discrimination, strict=True)
    ] + [
        s.hdi95[0] < value < s.hdi95[1]
        for row, values in zip(smoke_fit.thresholds, truth.thresholds, strict=True)
        for s, value in zip(row, values, strict=True)
    ]
    assert np.mean(inside) > 0.8
    assert np.corrcoef(smoke_fit.theta.mean, truth.theta)[0, 1] > 0.98


def test_a_fit_pickles_and_its_draws_have_the_stated_shapes(smoke_fit: Fit) -> None:
    again = pickle.loads(pickle.dumps(smoke_fit))
    assert again.estimates == smoke_fit.estimates
    assert {name: values.shape for name, values in again.draws.items()} == {
        "discrimination": (4, 4000, 6),
        "thresholds": (4, 4000, 6, 4),
        "log_discrimination_mean": (4, 4000),
        "log_discrimination_sd": (4, 4000),
        "theta": (4, 4000, 10),
    }


def test_the_same_seed_gives_the_same_numbers(smoke: Responses, short: SamplerSettings) -> None:
    first, second = (grm.fit(smoke, seed=3, sampler=short) for _ in range(2))
    other = grm.fit(smoke, seed=4, sampler=short)
    assert first.estimates == second.estimates
    assert first.estimates != other.estimates


@pytest.mark.parametrize("own_nodes", [True, False])
def test_all_ways_of_sampling_give_one_posterior(
    smoke: Responses, smoke_fit: Fit, monkeypatch: pytest.MonkeyPatch, own_nodes: bool
) -> None:
    monkeypatch.setattr(grm, "FEW_RESPONDENTS", 1)
    monkeypatch.setattr(layout, "MANY_ANSWERS", 64 if own_nodes else 1_000_000)
    settings = SamplerSettings(chains=2, warmup=100, draws=400)
    integrated = grm.fit(smoke, seed=5, sampler=settings)
    assert ("theta" in integrated.draws) == own_nodes
    assert integrated.diagnostics.divergences == 0
    for name in ("discrimination", "thresholds", "log_discrimination_sd"):
        sampled, other = (
            fit.draws[name].reshape(-1, *fit.draws[name].shape[2:])
            for fit in (smoke_fit, integrated)
        )
        sd = sampled.std(0)
        assert (np.abs(sampled.mean(0) - other.mean(0)) / sd).max() < 0.2
        assert np.abs(np.log(other.std(0) / sd)).max() < 0.2
    np.testing.assert_allclose(integrated.theta.mean, smoke_fit.theta.mean, atol=0.1)
    np.testing.assert_allclose(integrated.theta.sd, smoke_fit.theta.sd, rtol=0.2)


def test_mirts_log_likelihood_on_real_responses(openness: Responses, openness_mml: Fit) -> None:
    """R's mirt 1.45 with 31 nodes ends at -20353.68487."""
    assert openness.counts.shape == (2800, 5, 6)
    assert openness_mml.log_likelihood == pytest.approx(-20353.68487, abs=2e-4)
    assert openness_mml.diagnostics.gradient_max < 1e-6
    a = np.array([s.mean for s in openness_mml.discrimination])
    b = np.array([[s.mean for s in row] for row in openness_mml.thresholds])
    on_31 = scores.integrate(openness, a, b, np.linspace(-6, 6, 31))
    assert on_31.log_likelihood.sum() == pytest.approx(-20353.68487, abs=2e-4)


def test_standard_errors_are_the_curvature_of_the_log_likelihood() -> None:
    responses = survey(400)
    fit = grm.fit(responses, seed=0, method="mml")
    a = np.array([s.mean for s in fit.discrimination])
    b = np.array([[s.mean for s in row] for row in fit.thresholds])
    flat = np.concatenate([a, b.ravel()])

    def value(shift: np.ndarray) -> float:
        at = flat + shift
        return float(scores.integrate(responses, at[:4], at[4:].reshape(4, 2)).log_likelihood.sum())

    step = 1e-3 * np.eye(flat.size)
    hessian = np.array(
        [[value(p + q) - value(p - q) - value(q - p) + value(-p - q) for p in step] for q in step]
    ) / (4e-6)
    expected = np.sqrt(np.diag(np.linalg.inv(-hessian)))
    told = [s.sd for s in fit.discrimination] + [s.sd for row in fit.thresholds for s in row]
    np.testing.assert_allclose(told, expected, rtol=1e-3)


def test_integrating_agrees_with_an_adaptive_rule() -> None:
    responses = Responses.from_matrix("f", [[1, 2], [2, 1], [3, 2]], items=["x", "y"])
    a, b = np.array([1.2, 2.0]), np.array([[-0.5, 0.9], [0.3, np.nan]])
    at = scores.integrate(responses, a, b)

    def density_of(theta: float) -> float:
        first = category_probabilities(1.2, b[0], [theta])[0, 0]
        second = category_probabilities(2.0, b[1, :1], [theta])[1, 0]
        return float(first * second * np.exp(-0.5 * theta**2) / np.sqrt(2 * np.pi))

    total = quad(density_of, -12, 12)[0]
    mean = quad(lambda theta: theta * density_of(theta), -12, 12)[0] / total
    assert at.log_likelihood[0] == pytest.approx(np.log(total), abs=1e-8)
    assert at.mean[0] == pytest.approx(mean, abs=1e-8)


def test_the_compiled_likelihood_is_the_plain_one() -> None:
    responses = survey(400)
    data = grm.marginal_data(responses, [np.ones(400, bool)], prior_weight=0.0)
    y = grm.start_items(responses) + 0.1
    a, c = (np.asarray(part)[0] for part in density.group_estimates(y, data)[2:])
    expected = scores.integrate(responses, a, c / a[:, None]).log_likelihood.sum()
    value = evaluate(density.marginal_log_density)(y, data)[0]
    assert float(value) == pytest.approx(expected, rel=1e-12)


def test_newton_ends_where_the_slope_is_zero() -> None:
    responses = survey(400)
    data = grm.marginal_data(responses, [np.ones(400, bool)], prior_weight=1.0)
    mode = find_mode(density.marginal_log_density, grm.start_items(responses), data)
    assert mode.gradient_max < 1e-6
    value = evaluate(density.marginal_log_density)
    for direction in np.random.default_rng(0).standard_normal((5, mode.y.size)):
        assert float(value(mode.y + 0.01 * direction, data)[0]) < mode.value
    scale = whitening(mode.hessian)
    np.testing.assert_allclose(scale.T @ -mode.hessian @ scale, np.eye(mode.y.size), atol=1e-8)


def test_a_survey_with_gaps_and_items_of_different_categories(short: SamplerSettings) -> None:
    rng = np.random.default_rng(4)
    theta, noise = rng.standard_normal(2000), rng.logistic(size=(3, 2000))
    cuts = ([-1.0, 1.0], [0.0], [-2.0, -1.0, 0.0, 1.0])
    columns = [
        np.digitize(a * theta + e, c) for a, e, c in zip((1.5, 2.0, 1.0), noise, cuts, strict=True)
    ]
    table = np.stack(columns, 1).astype(float)
    table[rng.random((2000, 3)) < 0.2] = np.nan
    responses = Responses.from_matrix("f", table, items=["x", "y", "z"])
    posterior = grm.fit(responses, seed=2, sampler=short)
    maximum = grm.fit(responses, seed=2, method="mml")
    assert posterior.diagnostics.divergences == 0
    assert [len(row) for row in posterior.thresholds] == [2, 1, 4]
    assert np.isnan(posterior.draws["thresholds"][0, 0]).sum() == 5
    for mine, theirs, true in zip(
        posterior.discrimination, maximum.discrimination, (1.5, 2.0, 1.0), strict=True
    ):
        assert abs(theirs.mean - true) < 4 * theirs.sd
        assert mine.mean == pytest.approx(theirs.mean, abs=0.6 * theirs.sd)
        assert mine.sd == pytest.approx(theirs.sd, rel=0.4)


def test_progress_is_told_to_the_end(smoke: Responses, short: SamplerSettings) -> None:
    told: list[Progress] = []
    grm.fit(smoke, seed=3, sampler=short, progress=told.append)
    assert [step.phase for step in told if step.done == 0] == ["mode", "compile", "compile"]
    done = [step.done for step in told if step.phase == "draws"]
    assert len(done) > 1
    assert done == sorted(set(done))
    assert told[-1] == Progress("openness", "draws", 300, 300, 0)


def test_two_respondents_have_a_density_with_a_slope() -> None:
    responses = Responses.from_columns(
        "f", ["ann"] * 4 + ["bob"] * 4, ["x", "x", "y", "y"] * 2, [1, 2, 2, 3, 2, 3, 1, 2]
    )
    data = grm._joint_data(responses, Priors())
    y = np.concatenate([np.zeros(2), grm.start_items(responses)])
    value, slope = jax.jit(jax.value_and_grad(density.joint_log_density))(y, data)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_answers_weigh_as_the_logistic_says() -> None:
    eta = np.concatenate([np.linspace(-40, 40, 4001), [-700.0, -1e-9, 1e-9, 700.0]])
    of_one = jax.vmap(jax.value_and_grad(density.answers), (0, None, None))
    missed, slope = of_one(eta, 0.0, 1.0)
    np.testing.assert_allclose(missed, -np.logaddexp(0.0, eta), rtol=1e-15)
    np.testing.assert_allclose(slope, -expit(eta), rtol=2e-15)
    reached, slope = of_one(eta, 1.0, 1.0)
    np.testing.assert_allclose(reached, -np.logaddexp(0.0, -eta), rtol=2e-15, atol=1e-13)
    np.testing.assert_allclose(slope, expit(-eta), rtol=2e-15, atol=1e-15)


def test_settings_out_of_range_are_refused(smoke: Responses) -> None:
    with pytest.raises(SettingError, match="seed = -1"):
        grm.fit(smoke, seed=-1)
    with pytest.raises(SettingError, match=r"target_accept = 1\.2: give a value from 0.5"):
        SamplerSettings(target_accept=1.2)
    with pytest.raises(SettingError, match="give 'nuts' or 'mml'"):
        grm.fit(smoke, seed=1, method="em")  # type: ignore[arg-type]  # the refusal is the test


def test_sizes_and_nodes_come_in_few_kinds() -> None:
    sizes = {layout.padded_size(n) for n in range(1, 5000)}
    assert len(sizes) < 40
    assert all(n <= layout.padded_size(n) <= max(16, 1.26 * n) for n in range(1, 5000))
    assert layout.nodes_for_spread(0.5).size == 31
    assert np.diff(layout.nodes_for_spread(0.02)).max() < 0.026
