import warnings
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy.typing import NDArray
from scipy import special, stats

from calibration import coordinates, density, grm, nuts, scores
from calibration.data import Responses
from calibration.errors import SettingError
from calibration.loo import (
    Draws,
    Loo,
    Weighted,
    bridged,
    compare_models,
    log_likelihoods_by_draw,
    smoothed,
)
from calibration.newton import find_mode
from calibration.results import Fit, Priors, SamplerSettings


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


@pytest.mark.parametrize("weighted", [False, True])
def test_draws_with_and_without_an_observation_give_its_density(weighted: bool) -> None:
    """Six of y = 1.2 ~ N(m, 0.7), m ~ N(0, 1). Both kinds of draws are bridged without a bias.

    The mean of forty repetitions is known to a sixth of one's error, which is less than half of
    what the mean over draws that have not seen y has.
    """
    rng = np.random.default_rng(0)
    variance = 1 / (1 + 1 / 0.49)
    known = 6 * stats.norm(0, np.sqrt(1.49)).logpdf(1.2)

    def drawn(mean: float, sd: float, n: int) -> Weighted:
        """Draws of m, from a wider normal where they are weighted."""
        wide = 1.3 if weighted else 1.0
        m = mean + sd * wide * rng.standard_normal((n, 6))
        log_weight = stats.norm(mean, sd).logpdf(m) - stats.norm(mean, sd * wide).logpdf(m)
        return Weighted(stats.norm(m, 0.7).logpdf(1.2).sum(1), log_weight.sum(1))

    found = np.zeros((40, 2))
    for k in range(40):
        without = drawn(0.0, 1.0, 300)
        kept = drawn(1.2 * variance / 0.49, np.sqrt(variance), 200)
        alone = without.log_weight + without.log_likelihood
        plain = special.logsumexp(alone) - special.logsumexp(without.log_weight)
        found[k] = bridged(without, kept) - known, plain - known
    error, of_plain = found.std(0)
    assert abs(found[:, 0].mean()) < 3 * error / np.sqrt(40)
    assert error < 0.5 * of_plain


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


def test_without_a_trait_the_density_is_that_of_one_answer_after_the_other(
    unequal: dict[str, Loo],
) -> None:
    responses = survey((0.4, 0.7, 2.5, 3.0))
    counts, total = responses.counts, 0.0
    for i in range(responses.n_respondents):
        others = counts.sum(0) - counts[i]
        share = (others + 1) / (others + 1).sum(1, keepdims=True)
        total += np.log(share[counts[i] > 0]).sum()
    assert unequal["independence"].elpd == pytest.approx(total, abs=1e-8)
    assert unequal["independence"].pareto_k_max is None


def test_some_respondents_left_out_speak_for_all() -> None:
    """Their differences agree within the standard error of the choice, which is a small part."""
    responses = survey((0.5, 1.0, 2.0, 2.5), n=900)
    fit = grm.fit(responses, seed=1, sampler=SamplerSettings(warmup=200, draws=300))
    every = compare_models(fit, responses, seed=1, most_left_out=900)
    some = compare_models(fit, responses, seed=1, most_left_out=100)
    assert {row.left_out for row in every} == {900}
    assert {row.left_out for row in some} == {100}
    for whole, part in zip(every[1:], some[1:], strict=True):
        assert part.difference == pytest.approx(whole.difference, abs=0.5 * whole.difference_se)
        assert part.difference_se == pytest.approx(whole.difference_se, rel=0.5)
    for whole, part in zip(every, some, strict=True):
        assert part.elpd == pytest.approx(whole.elpd, abs=3)
    for row in (every[0], some[0]):
        assert row.elpd == pytest.approx(fit.log_likelihood - row.p_loo, abs=3)
        assert row.p_loo > 8


def test_a_handful_left_out_is_refused(smoke: Responses, smoke_fit: Fit) -> None:
    with pytest.raises(SettingError, match="most_left_out = 9: give 10 or more"):
        compare_models(smoke_fit, smoke, seed=0, most_left_out=9)


def equal_slopes(y: Array, data: density.MarginalData) -> Array:
    n_items, n_cuts = data.used.shape
    every = jnp.concatenate([jnp.full(n_items, y[0]), y[1:]])
    prior = density.cut_log_prior(
        density.split_items(every, n_items, n_cuts), data.used, data.priors
    )
    return density.marginal_log_density(every, data) + prior - 0.5 * y[0] ** 2


def density_of(
    respondent: Responses, draws: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> float:
    a, b = (part[:: len(part) // 400] for part in draws)
    table = [
        scores.integrate(respondent, *items).log_likelihood[0] for items in zip(a, b, strict=True)
    ]
    return float(np.logaddexp.reduce(table) - np.log(len(table)))


def sampled_equal_slopes(
    responses: Responses,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n = len(responses.items)
    everyone = np.ones(responses.n_respondents, bool)
    data = grm.marginal_data(responses, [everyone], prior_weight=0.0)
    mode = find_mode(equal_slopes, grm.start_items(responses)[n - 1 :], data)
    whitened = nuts.Whitened(jnp.asarray(mode.y), jnp.asarray(nuts.whitening(mode.hessian)), data)
    settings = SamplerSettings(draws=250)
    y = nuts.sample(equal_slopes, whitened, seed=1, settings=settings, tell=lambda *_: None).y
    full = np.concatenate([np.repeat(y[..., :1], n, -1), y[..., 1:]], -1).reshape(1000, -1)
    parts = coordinates.unpack_items(full, n, data.used.shape[1])
    return np.exp(parts[0]), coordinates.thresholds_of(*parts, np.asarray(data.used))


@pytest.fixture(scope="module")
def few() -> tuple[Responses, Fit]:
    """Ten people answer four items twenty times each."""
    rng = np.random.default_rng(3)
    person, item = np.meshgrid(np.repeat(np.arange(10), 20), np.arange(4), indexing="ij")
    who, what = person.ravel(), item.ravel()
    eta = np.array([0.7, 1.0, 1.5, 2.0])[what] * rng.standard_normal(10)[who]
    grades = np.digitize(eta + rng.logistic(size=who.size), [-1.0, 1.0])
    responses = Responses.from_columns("f", who, what, grades)
    return responses, grm.fit(responses, seed=1)


def test_few_respondents_are_compared_as_if_the_simpler_model_had_been_sampled(
    smoke: Responses, smoke_fit: Fit
) -> None:
    """A tenth of all answers each is more than importance sampling can do without: it says so."""
    rows = compare_models(smoke_fit, smoke, seed=1, most_fitted_again=0)
    draws = sampled_equal_slopes(smoke)
    table = [scores.integrate(smoke, *items).log_likelihood for items in zip(*draws, strict=True)]
    sampled = smoothed(np.stack(table))[0].sum()
    assert rows[1].elpd == pytest.approx(sampled, abs=2)
    assert rows[1].difference < -20
    assert rows[0].unreliable > 0
    assert rows[0].fitted_again == 0


def test_respondents_who_say_too_much_are_left_out_of_a_fit(few: tuple[Responses, Fit]) -> None:
    """Against fits that have never seen them: the reference shares nothing but the model."""
    responses, fit = few
    rows = compare_models(fit, responses, seed=1, most_fitted_again=10)
    expected = np.zeros(2)
    for i in range(10):
        one = np.arange(10) == i
        others, respondent = responses.chosen(~one), responses.chosen(one)
        draws = grm.draw_items(others, seed=2, sampler=SamplerSettings(draws=250), priors=Priors())
        expected += (
            density_of(respondent, draws),
            density_of(respondent, sampled_equal_slopes(others)),
        )
    assert rows[0].elpd == pytest.approx(expected[0], abs=0.8)
    assert rows[1].elpd == pytest.approx(expected[1], abs=0.8)
    assert rows[0].fitted_again > 0
    assert rows[1].fitted_again > 0
    assert rows[2].fitted_again == 0
    assert [row.unreliable for row in rows] == [0, 0, 0]


def test_no_more_are_fitted_again_than_asked(few: tuple[Responses, Fit]) -> None:
    responses, fit = few
    none, one = (
        compare_models(fit, responses, seed=1, most_fitted_again=most)[0] for most in (0, 1)
    )
    assert none.unreliable > 1
    assert (one.fitted_again, one.unreliable) == (1, none.unreliable - 1)
    with pytest.raises(SettingError, match="most_fitted_again = -1: give 0 or more"):
        compare_models(fit, responses, seed=1, most_fitted_again=-1)


@pytest.mark.parametrize("each", [16, 60])
def test_own_nodes_give_the_integral_with_few_answers_to_one_item(each: int) -> None:
    """Flat items too, where theta of somebody at an end lies beyond the fixed nodes."""
    rng = np.random.default_rng(5)
    counts = rng.multinomial(each, np.full(5, 0.2), size=(10, 1))
    counts[0], counts[1] = [[0, 0, 0, 0, each]], [[0, 0, each, 0, 0]]
    who, _, grade = (axis.ravel() for axis in np.indices(counts.shape))
    responses = Responses.from_columns("f", who, np.zeros(50, int), grade, count=counts.ravel())
    a = np.linspace(0.3, 3.5, 20)[:, None]
    b = np.linspace(-2, 2, 4) + 0.3 * rng.standard_normal((20, 1, 1))
    fine = np.linspace(-12, 12, 4001)
    expected = [
        scores.integrate(responses, *items, fine).log_likelihood for items in zip(a, b, strict=True)
    ]
    found = log_likelihoods_by_draw(responses, Draws(a, b, np.zeros(20)))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_own_nodes_give_the_integral_that_fixed_ones_do(smoke: Responses) -> None:
    """Somebody at an end of every item and somebody without an answer among them."""
    rng = np.random.default_rng(5)
    a = np.exp(0.5 * rng.standard_normal((20, len(smoke.items))))
    b = np.linspace(-2, 2, 4) + 0.3 * rng.standard_normal((20, len(smoke.items), 1))
    counts = smoke.counts.copy()
    counts[0], counts[1] = 0, 0
    counts[1, :, -1] = 60
    odd = replace(smoke, counts=counts)
    fine = np.linspace(-9, 9, 3001)
    expected = [
        scores.integrate(odd, *items, fine).log_likelihood for items in zip(a, b, strict=True)
    ]
    found = scores.log_likelihood_by_draw(odd, a, b)
    np.testing.assert_allclose(found, expected, atol=3e-3)


def test_a_fit_without_draws_is_refused(openness: Responses, openness_mml: Fit) -> None:
    with pytest.raises(SettingError, match="method 'mml' has no draws"):
        compare_models(openness_mml, openness, seed=0)
