"""Many respondents with few answers: nodes that lie where a block of patterns has its traits."""

import jax
import numpy as np
import pytest

from calibration import block_density, curvature, density, grm, layout
from calibration.block_density import Blocks
from calibration.data import Responses
from calibration.density import MarginalData
from calibration.newton import Mode
from calibration.nuts import whitening


def survey(n: int, seed: int = 0) -> Responses:
    """Eight items of two to five categories, a tenth of the answers missing."""
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.normal(0, 1.5, (8, 4)), 1)
    cuts[[0, 3], 1:], cuts[[1, 5], 2:] = np.inf, np.inf
    eta = np.linspace(0.6, 2.6, 8) * rng.standard_normal((n, 1)) + rng.logistic(size=(n, 8))
    grades = (eta[:, :, None] > cuts).sum(2).astype(float)
    grades[rng.random((n, 8)) < 0.1] = np.nan
    return Responses.from_matrix("f", grades, items=list("abcdefgh"))


@pytest.fixture(scope="module")
def responses() -> Responses:
    return survey(6000)


@pytest.fixture(scope="module")
def data(responses: Responses) -> MarginalData:
    everyone = np.ones(responses.n_respondents, bool)
    return grm.marginal_data(responses, [everyone], prior_weight=1.0)


@pytest.fixture(scope="module")
def mode(responses: Responses, data: MarginalData) -> Mode:
    return curvature.find_marginal_mode(responses, grm.start_items(responses), data)


def assert_plain(blocks: Blocks, data: MarginalData, mode: Mode, *, value: float) -> None:
    """Around the mode, against the sum over nodes for everyone, close together and twice as far."""
    fine = data._replace(nodes=np.linspace(-9.0, 9.0, 361))
    base = curvature.evaluate(mode.y, fine, curved=False)[0]
    scale = whitening(mode.hessian)
    of = jax.jit(jax.value_and_grad(block_density.log_density))
    ours = float(of(mode.y, blocks)[0])
    for z in np.random.default_rng(3).standard_normal((6, mode.y.size)):
        y = mode.y + 1.5 * scale @ z
        found, slope = of(y, blocks)
        exact = curvature.evaluate(y, fine, curved=False)
        assert float(found) - ours == pytest.approx(exact[0] - base, abs=value)
        np.testing.assert_allclose(scale.T @ slope, scale.T @ exact[1], atol=value)


def test_blocks_have_the_density_of_nodes_for_everyone(
    responses: Responses, data: MarginalData, mode: Mode
) -> None:
    blocks = block_density.lay_out(responses, data, mode.y)
    assert int(blocks.n_used) > 4
    everyone = layout.nodes_for_spread(0.2)
    assert blocks.nodes.shape[1] < 0.6 * everyone.size
    assert_plain(blocks, data, mode, value=0.01)


def test_padding_adds_nothing(responses: Responses, data: MarginalData, mode: Mode) -> None:
    blocks = block_density.lay_out(responses, data, mode.y)
    held = np.asarray(blocks.weight)
    assert held.sum() == responses.n_respondents
    assert (held[int(blocks.n_used) :] == 0).all()
    assert 0 < (held[: int(blocks.n_used)] == 0).sum() < held.shape[1]


def test_few_patterns_are_one_block_with_nodes_for_everyone() -> None:
    responses = survey(400, seed=1)
    data = grm.marginal_data(responses, [np.ones(400, bool)], prior_weight=1.0)
    mode = curvature.find_marginal_mode(responses, grm.start_items(responses), data)
    blocks = block_density.lay_out(responses, data, mode.y)
    assert len(blocks.nodes) == 1
    assert blocks.nodes[0, 0] == -layout.THETA_LIMIT
    assert_plain(blocks, data, mode, value=0.01)


def test_too_many_answers_for_single_precision_are_summed_in_double() -> None:
    rng = np.random.default_rng(0)
    often = np.where(np.arange(200) < 120, 1, 60)
    eta = np.array([0.8, 1.2]) * rng.standard_normal((200, 1))
    rows = [
        (i, j, int(eta[i, j] + rng.logistic() > 0), 1)
        for i in range(200)
        for j in range(2)
        for _ in range(often[i])
    ]
    who, item, grade, count = zip(*rows, strict=True)
    responses = Responses.from_columns("f", who, item, grade, count=np.array(count))
    assert not layout.many_answers(responses)
    data = grm.marginal_data(responses, [np.ones(200, bool)], prior_weight=1.0)
    mode = curvature.find_marginal_mode(responses, grm.start_items(responses), data)
    blocks = block_density.lay_out(responses, data, mode.y)
    assert np.asarray(blocks.weight).dtype == np.float64
    assert_plain(blocks, data, mode, value=1e-3)


def test_the_plain_density_is_differentiated_to_the_same_slope(
    data: MarginalData, mode: Mode
) -> None:
    value, slope = jax.value_and_grad(density.marginal_log_density)(mode.y + 0.01, data)
    exact = curvature.evaluate(mode.y + 0.01, data, curved=False)
    assert float(value) == pytest.approx(exact[0], rel=1e-12)
    np.testing.assert_allclose(slope, exact[1], atol=1e-7 * np.abs(exact[1]).max())
