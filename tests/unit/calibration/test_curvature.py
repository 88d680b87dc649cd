import jax.numpy as jnp
import numpy as np
import pytest

from calibration import curvature, density, grm
from calibration.data import Responses
from calibration.density import MarginalData
from calibration.errors import NotConvergedError
from calibration.newton import _differentiated


def survey(n: int, seed: int = 0) -> Responses:
    """Items of two, three and four categories, a few answers missing."""
    rng = np.random.default_rng(seed)
    cuts = np.array([[0.3, np.inf, np.inf], [-1.0, 1.0, np.inf], [-1.0, 0.0, 1.5]])
    eta = np.array([0.8, 1.5, 2.5]) * rng.standard_normal((n, 1)) + rng.logistic(size=(n, 3))
    grades = (eta[:, :, None] > cuts).sum(2).astype(float)
    grades[rng.random((n, 3)) < 0.05] = np.nan
    return Responses.from_matrix("f", grades, items=["x", "y", "z"])


def in_groups(tie_a: float, tie_b: float) -> MarginalData:
    responses = survey(300)
    odd = np.arange(responses.n_respondents) % 2 == 1
    data = grm.marginal_data(responses, [odd, ~odd], prior_weight=1.0)
    nodes = jnp.linspace(-6.0, 6.0, 2001)  # so many that the patterns are taken in blocks
    return data._replace(nodes=nodes, tie_a=jnp.full(3, tie_a), tie_b=jnp.full(3, tie_b))


@pytest.mark.parametrize(("tie_a", "tie_b"), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
def test_curvature_by_sums_is_that_by_differentiating_twice(
    tie_a: float, tie_b: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curvature, "_ALONE", 16)  # two threads for a few patterns
    data = in_groups(tie_a, tie_b)
    y = np.random.default_rng(1).normal(0, 0.4, 2 * 12 + 2)
    assert data.weight.shape[1] > curvature._BLOCK // data.nodes.size
    found = curvature.evaluate(y, data)
    for ours, plain in zip(
        found, _differentiated(density.marginal_log_density)(y, data), strict=True
    ):
        np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-12 * np.abs(plain).max())


def test_the_search_ends_where_the_slope_is_zero_from_either_start() -> None:
    responses = survey(2000, seed=5)
    data = grm.marginal_data(responses, [np.ones(responses.n_respondents, bool)], prior_weight=0.0)
    near = grm.start_items(responses)
    found = [curvature.find_marginal_mode(responses, start, data) for start in (near, near * 0.2)]
    np.testing.assert_allclose(found[0].y, found[1].y, atol=1e-5)
    assert all(mode.gradient_max < 1e-6 for mode in found)


def test_many_patterns_are_searched_by_slopes_to_the_same_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    eta = np.linspace(0.8, 2.0, 8) * rng.standard_normal((3000, 1)) + rng.logistic(size=(3000, 8))
    grades = (eta > -1.0).astype(int) + (eta > 1.0)
    responses = Responses.from_matrix("f", grades, items="abcdefgh")
    everyone = np.ones(responses.n_respondents, bool)
    data = grm.marginal_data(responses, [everyone], prior_weight=0.0)
    start = grm.start_items(responses)
    plain = curvature.find_marginal_mode(responses, start, data)
    assert curvature._sampled(data) is None
    monkeypatch.setattr(curvature, "_SAMPLE", 400)
    sample = curvature._sampled(data)
    assert sample is not None
    assert sample.weight.shape == (1, 400)
    assert float(sample.weight.sum()) == pytest.approx(responses.n_respondents)
    curved: list[bool] = []
    evaluate = curvature.evaluate

    def watched(y: np.ndarray, at: MarginalData, *, curved_too: bool = True) -> object:
        curved.extend([curved_too] * (at.weight.shape[1] > 400))
        return evaluate(y, at, curved=curved_too)

    monkeypatch.setattr(
        curvature, "evaluate", lambda y, at, curved=True: watched(y, at, curved_too=curved)
    )
    led = curvature.find_marginal_mode(responses, start, data)
    np.testing.assert_allclose(led.y, plain.y, atol=1e-5)
    np.testing.assert_allclose(led.hessian, plain.hessian, rtol=1e-4, atol=1e-3)
    assert curved.count(False) > 2
    assert curved.count(True) <= 2
    assert led.iterations >= curved.count(False)


def test_a_maximum_that_coarse_nodes_hide_is_found_and_none_is_made_up() -> None:
    """40 respondents, steep items: finite on fine nodes with seed 4, without end with seed 1."""

    def steep(seed: int) -> Responses:
        rng = np.random.default_rng(seed)
        a = np.array([3.0, 3.5, 4.0, 5.0])
        eta = a * rng.standard_normal((40, 1)) + rng.logistic(size=(40, 4))
        return Responses.from_matrix("f", (eta > -2.0).astype(int) + (eta > 2.0), items="wxyz")

    fit = grm.fit(steep(4), seed=0, method="mml")
    assert fit.discrimination[2].mean == pytest.approx(21.47, abs=0.05)
    assert fit.log_likelihood == pytest.approx(-118.0871, abs=1e-3)
    with pytest.raises(NotConvergedError, match="runs off without end"):
        grm.fit(steep(1), seed=0, method="mml")


def test_steep_items_get_the_nodes_they_need() -> None:
    rng = np.random.default_rng(2)
    a = np.array([2.0, 4.0, 7.0, 9.0])
    eta = a * (rng.standard_normal((1500, 1)) - 0.1) + rng.logistic(size=(1500, 4))
    grades = (eta > -2.0).astype(int) + (eta > 3.0)
    responses = Responses.from_matrix("f", grades, items=["w", "x", "y", "z"])
    everyone = np.ones(responses.n_respondents, bool)
    start = grm.start_items(responses)
    fine = grm.marginal_data(responses, [everyone], prior_weight=0.0, nodes=np.linspace(-6, 6, 961))
    plain = grm.marginal_data(responses, [everyone], prior_weight=0.0)
    exact = curvature.find_marginal_mode(responses, start, fine)
    found = curvature.find_marginal_mode(responses, start, plain)
    assert found.value == pytest.approx(exact.value, abs=1e-4)
    errors = 1 / np.sqrt(np.diag(-exact.hessian))
    assert (np.abs(found.y - exact.y) < 1e-3 * errors).all()
