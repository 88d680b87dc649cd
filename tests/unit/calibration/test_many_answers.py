"""Respondents with many answers each: nodes of their own instead of nodes for everyone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibration import adaptive, adaptive_density, curvature, density, grm, layout, nuts, scores
from calibration.adaptive_density import OwnNodes
from calibration.data import Responses
from calibration.density import MarginalData
from calibration.newton import Mode
from calibration.nuts import whitening
from calibration.results import SamplerSettings

CUTS = (np.array([-1.0, 0.0, 1.2]), np.array([0.4]), np.array([-1.5, 0.5]))


def many(n: int, answers: int, seed: int = 0) -> Responses:
    """Three items of different categories; one respondent far out, one with a single answer."""
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(n)
    theta[0] = -5.0
    rows = []
    for j, cuts in enumerate(CUTS):
        times = rng.poisson(answers, n)
        times[1] = j == 0
        eta = (0.9 + 0.4 * j) * (theta[:, None] - cuts)
        reached = np.concatenate(
            [np.ones((n, 1)), 1 / (1 + np.exp(-eta)), np.zeros((n, 1))], axis=1
        )
        counts = rng.multinomial(times, -np.diff(reached, axis=1))
        rows += [(i, f"i{j}", k, counts[i, k]) for i in range(n) for k in range(len(cuts) + 1)]
    who, item, grade, count = zip(*rows, strict=True)
    return Responses.from_columns("f", who, item, grade, count=np.array(count))


@pytest.fixture(scope="module")
def responses() -> Responses:
    return many(120, 40)


@pytest.fixture(scope="module")
def data(responses: Responses) -> MarginalData:
    everyone = np.ones(responses.n_respondents, bool)
    return grm.marginal_data(responses, [everyone], prior_weight=1.0)


@pytest.fixture(scope="module")
def mode(responses: Responses, data: MarginalData) -> Mode:
    assert layout.many_answers(responses)
    return curvature.find_marginal_mode(responses, grm.start_items(responses), data)


@pytest.fixture(scope="module")
def own(responses: Responses, data: MarginalData, mode: Mode) -> OwnNodes:
    return adaptive_density.lay_out(responses, data, mode.y, whitening(mode.hessian))


def test_own_nodes_integrate_as_nodes_for_everyone_do(data: MarginalData, mode: Mode) -> None:
    fine = data._replace(nodes=jnp.linspace(-9.0, 9.0, 1801))
    off = mode.y + 0.1 * np.random.default_rng(2).standard_normal(mode.y.size)
    for y in (mode.y, off):
        ours = curvature.evaluate(y, data, sum_up=adaptive.sum_up)
        plain = curvature.evaluate(y, fine)
        assert ours[0] == pytest.approx(plain[0], abs=1e-4)
        np.testing.assert_allclose(ours[1], plain[1], atol=1e-3)
        np.testing.assert_allclose(ours[2], plain[2], atol=1e-5 * np.abs(plain[2]).max())


def test_the_mode_of_theta_is_found_from_any_distance() -> None:
    n = 400
    rng = np.random.default_rng(0)
    at = np.array([8.0, 3.0])
    above = np.stack([rng.choice([0.0, 5000.0], n), rng.choice([0.0, 1.0, 9.0], n)])
    both = above + np.stack([rng.choice([0.0, 5000.0], n), rng.choice([0.0, 1.0], n)])
    group = adaptive.Group(above, both, np.ones(n), np.ones((1, 2), bool), np.zeros(0))
    at = np.array([8.0, 2.0, 30.0])
    theta, sd = adaptive.located(at, group)
    step = 1e-4 * sd
    around = adaptive.log_joint(at, group, np.stack([theta - step, theta, theta + step]))
    slope = (around[2] - around[0]) / (2 * step)
    np.testing.assert_allclose(slope * sd, 0.0, atol=1e-3)


def test_the_sampled_density_is_the_exact_one_in_single_precision(
    data: MarginalData, mode: Mode, own: OwnNodes
) -> None:
    scale = whitening(mode.hessian)
    of = jax.jit(jax.value_and_grad(adaptive_density.log_density))
    base = float(of(jnp.asarray(mode.y), own)[0])
    for z in np.random.default_rng(3).standard_normal((6, mode.y.size)):
        y = mode.y + 1.5 * scale @ z
        value, slope = of(jnp.asarray(y), own)
        exact = curvature.evaluate(y, data, sum_up=adaptive.sum_up)
        assert float(value) - base == pytest.approx(exact[0] - mode.value, abs=0.05)
        np.testing.assert_allclose(scale.T @ np.asarray(slope), scale.T @ exact[1], atol=0.1)


def answered(a: list[float], b: list[list[float]], seed: int) -> Responses:
    """A hundred respondents, twenty answers to each item."""
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(100)
    eta = np.array(a)[:, None] * (theta[:, None, None] - np.array(b))
    grades = (eta[:, None] + rng.logistic(size=(100, 20, len(a), 1)) > 0).sum(-1)
    who, _, item = (axis.ravel() for axis in np.indices(grades.shape))
    names = np.char.zfill(who.astype(str), 2)
    return Responses.from_columns("f", names, np.array(list("wxyz"))[item], grades.ravel())


def test_the_sampled_density_holds_where_items_are_steep() -> None:
    """Where a node lies a hundred logits from a cut, what single precision holds ends."""
    steep = answered([40.0, 5.0, 12.0, 5.0], [[-0.2, 0.0], [-0.7, 0.3], [0.0, 0.5], [-0.5, 0.8]], 4)
    everyone = np.ones(steep.n_respondents, bool)
    data = grm.marginal_data(steep, [everyone], prior_weight=1.0)
    mode = curvature.find_marginal_mode(steep, grm.start_items(steep), data)
    scale = whitening(mode.hessian)
    own = adaptive_density.lay_out(steep, data, mode.y, scale)
    of = jax.jit(jax.value_and_grad(adaptive_density.log_density))
    base = float(of(jnp.asarray(mode.y), own)[0])
    for z in np.random.default_rng(3).standard_normal((4, mode.y.size)):
        y = mode.y + 0.5 * scale @ z
        value, slope = of(jnp.asarray(y), own)
        exact = curvature.evaluate(y, data, sum_up=adaptive.sum_up)
        assert float(value) - base == pytest.approx(exact[0] - mode.value, abs=0.5)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("item", [0, 2])
def test_theta_does_not_follow_an_item_that_tells_nothing_of_it(item: int) -> None:
    """Its discrimination is free to go to a seventh: both its outer categories are rare."""
    rare = answered(
        [0.45, 0.9, 1.01, 0.83], [[-12.8, 14.2], [-3.4, -0.7], [-5.8, 6.3], [-4.7, 0.9]], 0
    )
    everyone = np.ones(rare.n_respondents, bool)
    data = grm.marginal_data(rare, [everyone], prior_weight=1.0)
    mode = curvature.find_marginal_mode(rare, grm.start_items(rare), data)
    own = adaptive_density.lay_out(rare, data, mode.y, whitening(mode.hessian))
    away = mode.y.copy()
    away[item] -= 2.0
    ours = [float(adaptive_density.log_density(jnp.asarray(y), own)) for y in (mode.y, away)]
    exact = curvature.evaluate(away, data, sum_up=adaptive.sum_up)[0] - mode.value
    assert exact < -8
    assert ours[1] - ours[0] == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("seed", [0, 4, 8])
def test_slopes_lead_to_the_mode_where_values_are_off_by_more_than_a_step_gains(seed: int) -> None:
    """Steep items cut a respondent's posterior off, which Gauss-Hermite nodes feel by 0.02."""
    cuts = [[-1.4, 0.16], [0.29, 0.36], [-0.69, -0.14], [-0.34, -0.15]]
    steep = answered([5.1, 11.3, 8.0, 4.4], cuts, seed)
    everyone = np.ones(steep.n_respondents, bool)
    data = grm.marginal_data(steep, [everyone], prior_weight=1.0)
    mode = curvature.find_marginal_mode(steep, grm.start_items(steep), data)
    assert mode.gradient_max < 1e-6
    assert 4 < mode.iterations < 40
    fine = data._replace(nodes=jnp.linspace(-9.0, 9.0, 3601))
    _, slope, hessian = curvature.evaluate(mode.y, fine)
    assert np.sqrt(slope @ np.linalg.solve(-hessian, slope)) < 0.01


WEAK = (
    [0.11, 0.09, 0.18, 0.16],
    [[-26.0, -13.5], [-47.5, 15.0], [0.8, 7.9], [-26.4, 12.6]],
)


def test_theta_that_many_answers_leave_unknown_has_no_nodes_of_its_own() -> None:
    fit = grm.fit(answered(*WEAK, 1), seed=1, sampler=SamplerSettings(draws=500))
    assert "theta" not in fit.draws
    assert (fit.diagnostics.r_hat_max or 2.0) < 1.02


def test_posteriors_that_steep_items_cut_off_have_no_nodes_of_their_own() -> None:
    """A sawtooth of slopes of 14 to 25 is no normal, for which nodes of one's own are."""
    steep = answered(
        [14.1, 17.3, 24.2, 16.1], [[-0.53, -0.33], [0.23, 0.37], [-0.09, -0.07], [-0.13, 0.01]], 1
    )
    everyone = np.ones(steep.n_respondents, bool)
    data = grm.marginal_data(steep, [everyone], prior_weight=1.0)
    mode = curvature.find_marginal_mode(steep, grm.start_items(steep), data)
    own = adaptive_density.lay_out(steep, data, mode.y, whitening(mode.hessian))
    assert float(own.error) > adaptive_density.ERROR
    assert float(np.median(own.spread[: steep.n_respondents])) <= grm._NARROW
    fit = grm.fit(steep, seed=1, sampler=SamplerSettings(draws=500))
    assert "theta" not in fit.draws
    assert (fit.diagnostics.r_hat_max or 2.0) < 1.02


@pytest.mark.parametrize(("worth", "depths"), [(0.1, [3]), (5.0, [3, 10])])
def test_draws_of_short_trees_that_are_worth_too_little_are_made_again_by_long_ones(
    responses: Responses, monkeypatch: pytest.MonkeyPatch, worth: float, depths: list[int]
) -> None:
    runs: list[nuts.Chains] = []
    asked: list[int | None] = []
    sample = nuts.sample

    def watched(*args: Any, **how: Any) -> nuts.Chains:
        asked.append(how["settings"].max_tree_depth)
        runs.append(sample(*args, **how))
        return runs[-1]

    monkeypatch.setattr(nuts, "sample", watched)
    monkeypatch.setattr(nuts, "_FEWEST_EFFECTIVE", worth)
    fit = grm.fit(responses, seed=1, sampler=SamplerSettings(draws=100))
    assert "theta" in fit.draws
    assert asked == depths
    assert fit.diagnostics.sampling_seconds == sum(run.sampling_seconds for run in runs)


def test_theta_is_drawn_from_its_posterior(responses: Responses, mode: Mode, own: OwnNodes) -> None:
    """At items that stay where they are, against quadrature; the one far out included."""
    y = np.tile(mode.y + 0.5 * whitening(mode.hessian)[:, 0], (4, 4000, 1))
    drawn = adaptive_density.draw_theta(y, own, 1, responses.n_respondents)
    a, c = (np.asarray(part)[0] for part in density.group_estimates(y[0, 0], own.rest)[2:])
    nodes = np.linspace(-9, 9, 3601)
    at = scores.integrate(responses, a, c / a[:, None], nodes)
    error = (drawn.mean((0, 1)) - at.mean) / at.sd
    assert np.abs(error).max() < 5 / np.sqrt(16_000 / 2)
    np.testing.assert_allclose(drawn.std((0, 1)), at.sd, rtol=0.06)
    repeated = (np.diff(drawn, axis=1) == 0).mean((0, 1))
    assert repeated.mean() < 0.05


def test_the_typical_respondent_decides() -> None:
    few = many(120, 20)
    assert not layout.many_answers(few)
    assert layout.many_answers(many(120, 23))
