import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from calibration import correlated, density
from calibration import correlated_density as cd
from calibration.artefact import GrmArtefact
from calibration.correlated import CorrelatedFit, fit_correlated
from calibration.data import Responses
from calibration.errors import SettingError, ShapeError, TooFewItemsError
from calibration.results import Priors, SamplerSettings

TRAITS = ("art", "art", "ideas", "values")
ITEMS = ("art1", "art2", "ideas", "values")


def answers(n: int, each: int, seed: int = 0) -> tuple[Responses, np.ndarray]:
    """Three traits, art and ideas correlated by 0.8; three categories."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1]])
    theta = rng.standard_normal((n, 3)) @ root.T
    eta = 1.5 * theta[:, [0, 0, 1, 2], None] + rng.logistic(size=(n, 4, each))
    grades = np.digitize(eta, [-1.0, 1.0])
    who, item, _ = (axis.ravel() for axis in np.indices(grades.shape))
    names = np.char.add("p", who.astype(str))
    found = Responses.from_columns("f", names, np.array(ITEMS)[item], grades.ravel(), items=ITEMS)
    return found, theta


@jax.jit
def stated(y: jax.Array, data: cd.CorrelatedData) -> tuple[jax.Array, ...]:
    """Theta, Omega, log a and cut points that the coordinates stand for."""
    at = cd.parameters(y, data)
    scale = jnp.exp(at.log_scale)
    items = cd.stated_items(at, data)
    omega = at.spread.T @ at.spread * scale[:, None] * scale
    return scale * (at.u + at.shift), omega, items.log_a, density.cut_points(items, data.used)


@pytest.fixture(scope="module")
def known() -> tuple[Responses, np.ndarray]:
    return answers(9, 60)


@pytest.fixture(scope="module")
def fitted(known: tuple[Responses, np.ndarray]) -> CorrelatedFit:
    settings = SamplerSettings(chains=4, warmup=200, draws=500, target_accept=0.75)
    return fit_correlated(known[0], seed=3, traits=TRAITS, sampler=settings)


@pytest.mark.parametrize("stated_priors", [Priors(), Priors(1.0, 3.0)])
def test_the_density_is_the_stated_models(
    known: tuple[Responses, np.ndarray], stated_priors: Priors
) -> None:
    """Prior and likelihood by scipy, the change of coordinates by a numerical determinant."""
    responses = known[0]
    data = correlated.correlated_data(responses, np.array([0, 0, 1, 2]), stated_priors)
    data = data._replace(flatness=jnp.asarray(0.5), ridge=jnp.asarray(0.5))
    n, c = data.rough.shape

    log_density = jax.jit(cd.log_density)
    priors = density.tabulate(stated_priors, 4)

    def flat(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        theta, omega, log_a, cuts = stated(y, data)
        below = omega[jnp.tril_indices(c, -1)]
        every = jnp.concatenate([theta.ravel(), below, log_a, cuts.ravel()])
        return every, every

    def log_density_of(parameters: np.ndarray) -> float:
        theta, below, log_a, cuts = np.split(parameters, np.cumsum([n * c, c * (c - 1) // 2, 4]))
        theta, cuts = theta.reshape(n, c), cuts.reshape(4, 2)
        omega = np.eye(c)
        omega[np.tril_indices(c, -1)] = below
        omega = np.maximum(omega, omega.T) + np.minimum(omega, omega.T) - np.eye(c)
        total = stats.multivariate_normal(np.zeros(c), omega).logpdf(theta).sum()
        total += np.linalg.slogdet(omega)[1]  # LKJ(2)
        total += stats.norm(0, stated_priors.cut_sd).logpdf(cuts).sum()
        total += float(density.hierarchical_log_prior(jnp.asarray(log_a), priors))
        eta = np.exp(log_a)[:, None] * theta[:, [0, 0, 1, 2], None] - cuts
        above = 1 / (1 + np.exp(-eta))
        p = -np.diff(np.concatenate([np.ones((n, 4, 1)), above, np.zeros((n, 4, 1))], 2))
        return float(total + (responses.counts * np.log(p)).sum())

    slopes = jax.jit(jax.jacfwd(flat, has_aux=True))

    def by_hand(y: np.ndarray) -> float:
        slope, parameters = (np.asarray(part) for part in slopes(y))
        return log_density_of(parameters) + float(np.linalg.slogdet(slope)[1])

    start = np.concatenate(
        [
            np.zeros((n - 1) * c),
            np.ones(c),
            np.zeros(3),
            np.zeros(4),
            np.full(4, -1.5),
            np.full(4, 1.0),
        ]
    )
    first, second = start + 0.3 * np.random.default_rng(1).standard_normal((2, start.size))
    told = float(log_density(first, data)) - float(log_density(second, data))
    assert told == pytest.approx(by_hand(first) - by_hand(second), abs=1e-8)


def test_draws_are_the_densitys_own_parameters(known: tuple[Responses, np.ndarray]) -> None:
    data = correlated.correlated_data(known[0], np.array([0, 0, 1, 2]), Priors())
    data = data._replace(flatness=jnp.asarray(0.5), ridge=jnp.asarray(0.5))
    y = 0.3 * np.random.default_rng(2).standard_normal((2, 2, 9 * 3 + 3 + 12))
    draws = correlated.stated_draws(known[0], y, data, 0, Priors())
    theta, omega, log_a, cuts = (np.asarray(part) for part in stated(jnp.asarray(y[1, 0]), data))
    np.testing.assert_allclose(draws["theta"][1, 0], theta)
    np.testing.assert_allclose(draws["correlation"][1, 0], omega, atol=1e-12)
    np.testing.assert_allclose(draws["discrimination"][1, 0], np.exp(log_a))
    np.testing.assert_allclose(draws["thresholds"][1, 0], cuts / np.exp(log_a)[:, None])


def test_correlated_traits_are_sampled_well_and_found_again(
    known: tuple[Responses, np.ndarray], fitted: CorrelatedFit
) -> None:
    d = fitted.diagnostics
    assert d.divergences == 0
    assert d.r_hat_max is not None
    assert d.r_hat_max < 1.02
    assert d.ess_bulk_min is not None
    assert d.ess_bulk_min > 400
    assert min(d.e_bfmi) > 0.6
    assert fitted.traits == ("art", "ideas", "values")
    theta = known[1]
    for c in range(3):
        assert np.corrcoef(fitted.theta.mean[:, c], theta[:, c])[0, 1] > 0.9
    for estimate in fitted.estimates:
        low, high = estimate.discrimination.hdi95
        assert low < 1.5 < high


def test_correlations_are_correlations(fitted: CorrelatedFit) -> None:
    drawn = fitted.draws["correlation"]
    assert drawn.shape == (4, 500, 3, 3)
    np.testing.assert_allclose(np.einsum("...ii->...i", drawn), 1.0)
    assert np.linalg.eigvalsh(drawn).min() > 0
    named = {(pair.first, pair.second): pair.value for pair in fitted.correlations}
    assert list(named) == [("art", "ideas"), ("art", "values"), ("ideas", "values")]
    assert named["art", "ideas"].mean == pytest.approx(fitted.correlation_mean[0, 1])
    low, high = named["art", "ideas"].hdi95
    assert low < np.mean(drawn[..., 1, 0]) < high


def test_each_trait_is_a_fit_with_an_artefact(fitted: CorrelatedFit) -> None:
    assert [fit.items for fit in fitted.by_trait] == [("art1", "art2"), ("ideas",), ("values",)]
    for c, fit in enumerate(fitted.by_trait):
        kept = GrmArtefact.from_fit(fit)
        assert GrmArtefact.from_json(kept.to_json()) == kept
        assert kept.n_responses == fit.n_responses
        assert fit.draws["theta"].shape == (4, 500, 9)
        np.testing.assert_array_equal(fit.theta.mean, fitted.theta.mean[:, c])
    assert sum(fit.n_responses for fit in fitted.by_trait) == fitted.n_responses == 9 * 4 * 60


def test_the_same_seed_gives_the_same_correlations(
    known: tuple[Responses, np.ndarray], fitted: CorrelatedFit
) -> None:
    settings = SamplerSettings(chains=4, warmup=200, draws=500, target_accept=0.75)
    again = fit_correlated(known[0], seed=3, traits=TRAITS, sampler=settings)
    assert again.correlations == fitted.correlations


def test_what_cannot_be_correlated_is_refused_by_name(
    known: tuple[Responses, np.ndarray],
) -> None:
    responses = known[0]
    with pytest.raises(SettingError, match="seed = -1"):
        fit_correlated(responses, seed=-1)
    with pytest.raises(ShapeError, match="2 traits for 4 items"):
        fit_correlated(responses, seed=0, traits=("a", "b"))
    with pytest.raises(SettingError, match="share the trait a"):
        fit_correlated(responses, seed=0, traits=("a",) * 4)
    with pytest.raises(ShapeError, match="2 respondents: correlations need 3"):
        fit_correlated(answers(2, 30)[0], seed=0)
    with pytest.raises(TooFewItemsError, match="trait ideas: one answer per respondent"):
        fit_correlated(answers(300, 1)[0], seed=0, traits=TRAITS)


def test_odd_answers_give_finite_figures_and_their_notes(
    known: tuple[Responses, np.ndarray],
) -> None:
    """p0 always at the top, p1 silent on values, the art items equal."""
    counts = known[0].counts.copy()
    counts[0, :, :2], counts[0, :, 2] = 0, 60
    counts[1, 3] = 0
    counts[:, 1] = counts[:, 0]
    who, item, grade = (axis.ravel() for axis in np.indices(counts.shape))
    names = np.array(known[0].respondents)[who]
    odd = Responses.from_columns(
        "f", names, np.array(ITEMS)[item], grade, count=counts.ravel(), items=ITEMS
    )
    settings = SamplerSettings(chains=4, warmup=200, draws=500, target_accept=0.75)
    fit = fit_correlated(odd, seed=0, traits=TRAITS, sampler=settings)
    assert all(np.isfinite(values[~np.isnan(values)]).all() for values in fit.draws.values())
    assert not np.isnan(fit.draws["theta"]).any()
    assert np.isfinite([fit.diagnostics.r_hat_max, fit.diagnostics.ess_tail_min]).all()
    assert fit.theta.sd[1, 2] > 2 * np.median(fit.theta.sd[:, 2])
    assert any("gave the highest category each time" in note for note in fit.notes)
    assert any("items art1 and art2 have equal answers" in note for note in fit.notes)
