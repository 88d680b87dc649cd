from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from calibration import correlated, correlated_many, correlated_scores, density, summaries
from calibration import marginal_correlated as marginal
from calibration.artefact import GrmArtefact
from calibration.correlated import CorrelatedFit, fit_correlated
from calibration.data import Responses
from calibration.errors import NotConvergedError, SettingError
from calibration.nuts import whitening
from calibration.results import Priors, SamplerSettings

ITEMS = ("a1", "a2", "a3", "b1", "b2")
TRAITS = ("a", "a", "a", "b", "b")
OF_ITEM = np.array([0, 0, 0, 1, 1])
SHORT = SamplerSettings(chains=4, warmup=150, draws=300)
BRIEF = SamplerSettings(chains=2, warmup=60, draws=60)
GRID = np.linspace(-6, 6, 121)


def survey(
    n: int, *, slope: float | np.ndarray = 1.5, rho: float = 0.6, each: int = 1, seed: int = 0
) -> tuple[Responses, np.ndarray]:
    """Two traits, three items and two, three categories; every seventh answer is missing."""
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal((n, 2)) @ np.linalg.cholesky([[1, rho], [rho, 1]]).T
    eta = slope * theta[:, OF_ITEM, None] + rng.logistic(size=(n, 5, each))
    grades = np.digitize(eta, [-0.8, 0.9])
    who, item, _ = (axis.ravel() for axis in np.indices(grades.shape))
    kept = rng.random(who.size) > 1 / 7
    names = np.char.zfill(who[kept].astype(str), 5)
    found = Responses.from_columns(
        "f", names, np.array(ITEMS)[item[kept]], grades.ravel()[kept], items=ITEMS
    )
    return found, theta[np.unique(who[kept])]


def laid_out(
    responses: Responses, *, prior_weight: float, priors: Priors | None = None
) -> correlated_many.Found:
    parts = correlated.parts_of(responses, ("a", "b"), OF_ITEM)
    return correlated_many.find(responses, parts, prior_weight=prior_weight, priors=priors)


def by_grid(responses: Responses, y: np.ndarray) -> float:
    """Log-likelihood, both traits integrated out on a grid of all pairs of nodes."""
    rho, a, cuts = np.tanh(y[0]), np.exp(y[1:6]), y[6:11, None] + [0, 1] * np.exp(y[11:16, None])
    eta = a[:, None, None] * GRID - cuts[:, :, None]
    above = special.expit(np.stack([np.full_like(eta[:, 0], np.inf), *eta.swapaxes(0, 1)]))
    above = np.concatenate([above, np.zeros((1, *above.shape[1:]))])
    table = np.log(-np.diff(above, axis=0))
    of_item = np.einsum("njk,kjq->njq", responses.counts, table)
    first, second = of_item[:, :3].sum(1), of_item[:, 3:].sum(1)
    pairs = np.stack(np.meshgrid(GRID, GRID, indexing="ij"), -1)
    weight = stats.multivariate_normal(np.zeros(2), [[1, rho], [rho, 1]]).logpdf(pairs)
    joint = first[:, :, None] + second[:, None] + weight
    step = GRID[1] - GRID[0]
    return float(special.logsumexp(joint, axis=(1, 2)).sum() + 2 * len(joint) * np.log(step))


def prior(y: np.ndarray, priors: Priors) -> float:
    """The stated prior by SciPy, changes of coordinates included."""
    rho, log_a, gap = np.tanh(y[0]), y[1:6], np.exp(y[11:16])
    cuts = np.stack([y[6:11], y[6:11] + gap])
    total = np.log(1 - rho**2) + np.log(1 - rho**2)  # LKJ(2); rho by its inverse tanh
    total += stats.norm(0, priors.cut_sd).logpdf(cuts).sum() + y[11:16].sum()
    table = density.tabulate(priors, 5)
    return float(total + density.hierarchical_log_prior(jnp.asarray(log_a), table))


@pytest.fixture(scope="module")
def small() -> tuple[Responses, correlated_many.Found]:
    responses, _ = survey(60, seed=1)
    return responses, laid_out(responses, prior_weight=1.0)


@pytest.fixture(scope="module")
def known() -> tuple[Responses, np.ndarray]:
    return survey(700, seed=2)


@pytest.fixture(scope="module")
def fitted(known: tuple[Responses, np.ndarray]) -> CorrelatedFit:
    return fit_correlated(known[0], seed=3, traits=TRAITS, sampler=SHORT)


def nearby(found: correlated_many.Found, scale: float, seed: int) -> np.ndarray:
    away = np.random.default_rng(seed).standard_normal(found.mode.y.size)
    return np.asarray(found.mode.y + scale * away)


@pytest.mark.parametrize("priors", [Priors(), Priors(1.0, 3.0)])
def test_the_density_is_the_stated_models(
    small: tuple[Responses, correlated_many.Found], priors: Priors
) -> None:
    """Prior by SciPy, the integral over both traits by a grid."""
    responses = small[0]
    found = laid_out(responses, prior_weight=1.0, priors=priors)
    first, second = (nearby(found, 0.3, seed) for seed in (1, 2))
    log_density = jax.jit(marginal.on_shared_nodes)
    told = float(log_density(first, found.data)) - float(log_density(second, found.data))
    by_hand = [by_grid(responses, y) + prior(y, priors) for y in (first, second)]
    assert told == pytest.approx(by_hand[0] - by_hand[1], abs=0.005)


def test_steep_items_of_nearly_equal_traits_are_integrated_exactly() -> None:
    """Cumulants take off nine tenths of what normal functions alone are wrong by.

    What is left moves by less than a twentieth between points of the posterior, so that no mean is
    pulled by more than about that part of its sd. The grid itself is exact to 1e-6.
    """
    responses, _ = survey(300, slope=3.0, rho=0.9, seed=4)
    found = laid_out(responses, prior_weight=0.0)
    log_density = jax.jit(marginal.on_shared_nodes)
    scale = np.linalg.inv(np.linalg.cholesky(-found.mode.hessian)).T
    errors = []
    for z in (np.zeros(16), *np.random.default_rng(0).standard_normal((3, 16))):
        y = found.mode.y + scale @ z
        seen = marginal.seen_by(jnp.asarray(y), found.data)
        added = float(marginal.cumulants(marginal.propagate(False, seen, found.data)).sum())
        error = float(log_density(y, found.data)) - by_grid(responses, y)
        assert abs(error) < 0.1 * abs(error - added)
        errors.append(error)
    assert np.ptp(errors) < 0.05


def columns(fit: CorrelatedFit) -> np.ndarray:
    """Draws of the correlation, slopes and thresholds, shape (chains, draws, 16)."""
    omega, a, b = (fit.draws[name] for name in ("correlation", "discrimination", "thresholds"))
    return np.concatenate([omega[:, :, :1, 1], a, b.reshape(*b.shape[:2], -1)], 2)


def figures_of_sd(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior sds and their Monte Carlo errors, from those of the variances."""
    known = summaries.figures((draws - draws.mean((0, 1))) ** 2)
    sd = np.sqrt(known.mean)
    return sd, known.mcse / (2 * sd)


def test_nodes_of_their_own_give_the_same_integral() -> None:
    responses, _ = survey(40, each=20, seed=5)
    found = laid_out(responses, prior_weight=1.0)
    assert not found.own
    nodes, log_weight = correlated_many.adaptive.hermite(9)
    own = found.data._replace(nodes=jnp.asarray(nodes), log_weight=jnp.asarray(log_weight))
    for seed in range(2):
        y = nearby(found, 0.1, seed)
        shared = float(jax.jit(marginal.on_shared_nodes)(y, found.data))
        assert float(jax.jit(marginal.on_own_nodes)(y, own)) == pytest.approx(shared, abs=1e-4)


@pytest.mark.parametrize(("slope", "n_nodes"), [(1.0, 7), (5.0, 31), (8.0, 121)])
def test_nodes_of_their_own_are_as_many_as_the_slope_needs(
    slope: float, n_nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steep items cut posteriors off; where values then say other than slopes chains creep."""
    monkeypatch.setattr(correlated_many, "FEW_TRAITS", 0)
    found = laid_out(survey(100, slope=slope, each=30)[0], prior_weight=1.0)
    assert found.own
    assert found.data.nodes.size == n_nodes
    scale = whitening(found.mode.hessian)
    of = jax.jit(jax.value_and_grad(marginal.on_own_nodes))
    rng = np.random.default_rng(1)
    for _ in range(4):
        z, along = rng.standard_normal((2, found.mode.y.size))
        along *= 0.05 / np.linalg.norm(along)
        values = [
            float(of(found.mode.y + scale @ at, found.data)[0]) for at in (z + along, z - along)
        ]
        slope_there = np.asarray(of(found.mode.y + scale @ z, found.data)[1])
        assert (values[0] - values[1]) / 0.1 == pytest.approx(
            slope_there @ scale @ along / 0.05, abs=0.05
        )


def shape_of(n: int, traits: int, answers: int) -> Responses:
    counts = np.zeros((n, traits, 2), int)
    counts[:] = [answers - answers // 2, answers // 2]
    who, item, grade = (axis.ravel() for axis in np.indices(counts.shape))
    return Responses.from_columns(
        "f", who, item.astype(str), grade, count=counts.ravel(), items=tuple("012345"[:traits])
    )


@pytest.mark.parametrize(
    ("n", "traits", "answers", "integrated"),
    [
        (10, 6, 2, False),
        (10, 6, 600, False),
        (12, 6, 12, False),
        (13, 6, 12, True),
        (24, 6, 96, True),
        (24, 6, 98, False),
        (160, 6, 1000, False),
        (170, 6, 1000, True),
    ],
)
def test_traits_are_sampled_where_they_bend_each_other_little(
    n: int, traits: int, answers: int, integrated: bool
) -> None:
    responses = shape_of(n, traits, answers)
    assert correlated.integrates(responses, responses.items) is integrated


@pytest.mark.parametrize(("n", "each", "n_nodes"), [(24, 1, 241), (70, 1, 144), (60, 40, 31)])
def test_chains_of_few_respondents_have_closer_nodes(n: int, each: int, n_nodes: int) -> None:
    found = laid_out(survey(n, each=each, seed=1)[0], prior_weight=1.0)
    assert (found.few, found.own, found.data.nodes.size) == (True, each == 40, n_nodes)


@pytest.mark.parametrize(("n", "each"), [(24, 1), (70, 5)])
def test_few_respondents_with_few_answers_are_sampled_well(n: int, each: int) -> None:
    responses, _ = survey(n, each=each, seed=1)
    settings = SamplerSettings(chains=4, warmup=200, draws=400)
    d = fit_correlated(responses, seed=0, traits=TRAITS, sampler=settings).diagnostics
    assert d.divergences == 0
    assert d.r_hat_max is not None
    assert d.r_hat_max < 1.02
    assert d.ess_bulk_min is not None
    assert d.ess_tail_min is not None
    assert min(d.ess_bulk_min, d.ess_tail_min) > 400
    assert d.steps_mean is not None
    assert d.steps_mean < 20


def test_items_too_steep_for_any_nodes_of_their_own_are_refused_by_name() -> None:
    steep = np.array([1.0, 1.0, 1.0, 60.0, 60.0])[:, None]
    with pytest.raises(NotConvergedError, match=r"item \S+ has a discrimination of \d+.*too steep"):
        laid_out(survey(100, slope=steep, each=30)[0], prior_weight=1.0)


def test_where_nodes_lie_too_far_apart_nothing_seems_likely(
    small: tuple[Responses, correlated_many.Found],
) -> None:
    _, found = small
    evaluate = jax.jit(marginal.on_shared_nodes)
    far = np.stack([found.mode.y] * 40)
    far[:, 0] = np.linspace(-4.0, 4.0, 40)
    far[:, 1:6] = np.log(np.random.default_rng(2).uniform(1.0, 60.0, (40, 5)))
    nodes, log_weight = correlated_many._evenly(np.linspace(-6.0, 6.0, 44))
    data = found.data._replace(
        passes=jnp.asarray(2), nodes=jnp.asarray(nodes), log_weight=jnp.asarray(log_weight)
    )
    values = np.array([evaluate(jnp.asarray(y), data) for y in far])
    assert values.max() < found.mode.value
    assert (values == -np.inf).sum() > 30


@pytest.mark.parametrize("name", ["on_shared_nodes", "on_own_nodes"])
def test_the_slope_is_that_of_the_density(name: str) -> None:
    responses, _ = survey(40, each=20, seed=5)
    found = laid_out(responses, prior_weight=1.0)
    data = found.data
    if name == "on_own_nodes":
        nodes, log_weight = correlated_many.adaptive.hermite(9)
        data = data._replace(nodes=jnp.asarray(nodes), log_weight=jnp.asarray(log_weight))
    log_density: Callable[..., jax.Array] = jax.jit(getattr(marginal, name))
    y = nearby(found, 0.1, 7)
    slope = np.asarray(jax.jit(jax.grad(getattr(marginal, name)))(y, data))
    steps = 1e-4 * np.eye(y.size)
    by_difference = [
        (float(log_density(y + step, data)) - float(log_density(y - step, data))) / 2e-4
        for step in steps
    ]
    np.testing.assert_allclose(slope, by_difference, atol=0.02)


def test_the_chains_passes_and_digits_are_enough(
    small: tuple[Responses, correlated_many.Found],
) -> None:
    responses, found = small
    log_density, whitened = correlated_many.to_sample(found, responses)
    light = whitened.data
    assert light.above.dtype == jnp.float32
    told = jax.jit(log_density)
    for seed in range(3):
        z = np.random.default_rng(seed).standard_normal(whitened.centre.size)
        y = whitened.centre + whitened.scale @ z
        assert float(told(y, light)) == pytest.approx(float(told(y, found.data)), abs=0.005)


def test_many_respondents_are_sampled_well_and_found_again(
    known: tuple[Responses, np.ndarray], fitted: CorrelatedFit
) -> None:
    d = fitted.diagnostics
    assert d.divergences == 0
    assert d.r_hat_max is not None
    assert d.r_hat_max < 1.02
    assert d.ess_tail_min is not None
    assert d.ess_tail_min > 300
    assert "theta" not in fitted.draws
    draws = columns(fitted).reshape(1200, -1)
    off = draws.mean(0) - [0.6, *[1.5] * 5, *np.tile([-0.8 / 1.5, 0.9 / 1.5], 5)]
    distance = off @ np.linalg.solve(np.cov(draws.T), off)
    assert 0.01 < stats.chi2(16).cdf(distance) < 0.99
    error = (fitted.theta.mean - known[1]) / fitted.theta.sd
    # Four errors of an rms of as many; what items are off by is shared, and comes on top.
    assert abs(np.sqrt((error**2).mean()) - 1.0) < 4 / np.sqrt(2 * error.size)
    variances = np.einsum("ntt->nt", fitted.theta_covariance)
    np.testing.assert_allclose(np.sqrt(variances), fitted.theta.sd)
    composite = correlated_scores.composite_scores(fitted)
    between = composite.mean.var()
    within = 3 * between * np.sqrt(2 / 700)  # three errors of a variance of 700
    assert between + (composite.sd**2).mean() == pytest.approx(1.0, abs=within)


def test_each_trait_is_a_fit_with_an_artefact(fitted: CorrelatedFit) -> None:
    assert [fit.items for fit in fitted.by_trait] == [ITEMS[:3], ITEMS[3:]]
    for fit in fitted.by_trait:
        kept = GrmArtefact.from_fit(fit)
        assert GrmArtefact.from_json(kept.to_json()) == kept
        assert "theta" not in fit.draws


def test_the_same_seed_gives_the_same_correlations(
    known: tuple[Responses, np.ndarray], fitted: CorrelatedFit
) -> None:
    again = fit_correlated(known[0], seed=3, traits=TRAITS, sampler=SHORT)
    assert again.correlations == fitted.correlations


def test_traits_sampled_and_integrated_out_have_one_posterior(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    responses, _ = survey(24, each=8, seed=6)
    settings = SamplerSettings(warmup=100, draws=600, target_accept=0.8)
    monkeypatch.setattr(correlated, "integrates", lambda *_: False)
    sampled = fit_correlated(responses, seed=1, traits=TRAITS, sampler=settings)
    monkeypatch.setattr(correlated, "integrates", lambda *_: True)
    monkeypatch.setattr(correlated, "_SCORING_DRAWS", 2400)
    integrated = fit_correlated(responses, seed=1, traits=TRAITS, sampler=settings)
    assert "theta" in sampled.draws
    assert "theta" not in integrated.draws
    one, other = (summaries.figures(columns(fit)) for fit in (sampled, integrated))
    error = 4 * np.hypot(one.mcse, other.mcse)
    assert (np.abs(one.mean - other.mean) < error).all()
    sds, errors = zip(*(figures_of_sd(columns(fit)) for fit in (sampled, integrated)), strict=True)
    assert (np.abs(sds[0] - sds[1]) < 4 * np.hypot(*errors)).all()
    theta = sampled.draws["theta"].reshape(4, 600, -1)
    # Averages of posteriors' own means and variances are known better than those of draws.
    most = 4 * np.sqrt(2) * summaries.figures(theta).mcse.reshape(24, 2)
    assert (np.abs(sampled.theta.mean - integrated.theta.mean) < most).all()
    sd, of_sd = (part.reshape(24, 2) for part in figures_of_sd(theta))
    assert (np.abs(sd - integrated.theta.sd) < 4 * np.sqrt(2) * of_sd).all()


def test_maximum_likelihood_is_the_maximum(known: tuple[Responses, np.ndarray]) -> None:
    responses = known[0]
    fit = fit_correlated(responses, seed=0, traits=TRAITS, method="mml")
    assert fit.draws == {}
    value = fit.correlations[0].value
    a = np.array([estimate.discrimination.mean for estimate in fit.estimates])
    cuts = a[:, None] * [[s.mean for s in estimate.thresholds] for estimate in fit.estimates]
    items = np.concatenate([np.log(a), cuts[:, 0], np.log(np.diff(cuts, axis=1)[:, 0])])

    def at(rho: float, change: float = 0.0) -> float:
        y = np.concatenate([[np.arctanh(rho)], items])
        y[1] += change
        return by_grid(responses, y)

    best = at(value.mean)
    assert fit.log_likelihood == pytest.approx(best, abs=1e-3)

    def top(below: float, above: float) -> float:
        """Of the parabola through the values at -0.3, 0 and 0.3 standard errors."""
        return 0.3 * (above - below) / (2 * (2 * best - below - above))

    # Slopes leave the cumulants out: the correlation's is off by 0.02 of its standard error.
    by_rho = (at(value.mean + sign * 0.3 * value.sd) for sign in (-1, 1))
    assert abs(top(*by_rho)) < 0.05
    error = fit.estimates[0].discrimination.sd / a[0]
    assert abs(top(*(at(value.mean, sign * 0.3 * error) for sign in (-1, 1)))) < 0.05


@pytest.mark.parametrize("integrated", [True, False])
def test_priors_say_how_much_discriminations_are_drawn_together(
    integrated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlated, "integrates", lambda *_: integrated)
    slopes = np.array([0.6, 1.0, 1.6, 0.8, 2.4])[:, None]
    responses, _ = survey(24, each=8, slope=slopes, seed=6)
    tight = Priors(log_discrimination_sd=0.05)
    fits = [
        fit_correlated(responses, seed=1, traits=TRAITS, sampler=BRIEF, priors=priors)
        for priors in (None, tight)
    ]
    spread = [np.std([np.log(e.discrimination.mean) for e in fit.estimates]) for fit in fits]
    assert spread[1] < 0.85 * spread[0]
    population = [np.median(fit.draws["log_discrimination_sd"]) for fit in fits]
    assert population[1] < 0.6 * population[0]
    assert [fit.priors for fit in fits] == [Priors(), tight]
    assert {one.priors for one in fits[1].by_trait} == {tight}
    kept = [GrmArtefact.from_fit(fit) for fit in fits]
    assert kept[0].priors is None
    assert kept[1].priors is not None
    assert kept[1].priors.log_discrimination_sd == 0.05
    assert GrmArtefact.from_json(kept[1].to_json()) == kept[1]


def test_maximum_likelihood_has_no_priors(known: tuple[Responses, np.ndarray]) -> None:
    fits = [
        fit_correlated(known[0], seed=0, traits=TRAITS, method="mml", priors=priors)
        for priors in (None, Priors(0.05))
    ]
    assert fits[1].priors == Priors()
    assert fits[1].estimates == fits[0].estimates


def test_a_correlations_interval_is_fishers() -> None:
    """Where the correlation's standard error is (1 - r^2) / sqrt(n), its z's is 1 / sqrt(n)."""
    found = correlated._by_fisher(0.95, (1 - 0.95**2) / 5.0)
    assert (found.mean, found.sd) == (0.95, pytest.approx(0.0195))
    ends = np.arctanh(found.hdi95)
    np.testing.assert_allclose(ends - np.arctanh(0.95), [-1.959964 / 5, 1.959964 / 5])
    assert correlated._by_fisher(0.95, 0.2).hdi95[1] < 1


def test_correlations_at_their_border_are_refused_by_name() -> None:
    responses, _ = survey(200, rho=0.999999, slope=2.5, seed=3)
    with pytest.raises(NotConvergedError, match=r"traits a, b follows from the rest: .* 'nuts'"):
        fit_correlated(responses, seed=0, traits=TRAITS, method="mml")


def test_an_unknown_method_is_refused(known: tuple[Responses, np.ndarray]) -> None:
    with pytest.raises(SettingError, match="method = 'map'"):
        fit_correlated(known[0], seed=0, traits=TRAITS, method="map")  # type: ignore[arg-type]


def test_odd_answers_give_finite_figures_or_are_refused_with_their_notes() -> None:
    """00000 always at the top, 00001 silent on b, two items equal."""
    responses, _ = survey(600, seed=8)
    counts = responses.counts.copy()
    counts[0] = [0, 0, 1]
    counts[1, 3:] = 0
    counts[:, 1] = counts[:, 0]
    who, item, grade = (axis.ravel() for axis in np.indices(counts.shape))
    names = np.array(responses.respondents)[who]
    odd = Responses.from_columns(
        "f", names, np.array(ITEMS)[item], grade, count=counts.ravel(), items=ITEMS
    )
    fit = fit_correlated(odd, seed=0, traits=TRAITS, sampler=BRIEF)
    assert all(np.isfinite(values).all() for values in fit.draws.values())
    assert np.isfinite(fit.theta.mean).all()
    assert fit.theta.sd[1, 1] > 1.3 * np.median(fit.theta.sd[:, 1])
    assert any("items a1 and a2 have equal answers" in note for note in fit.notes)
    with pytest.raises(NotConvergedError, match="items a1 and a2 have equal answers"):
        fit_correlated(odd, seed=0, traits=TRAITS, method="mml")
