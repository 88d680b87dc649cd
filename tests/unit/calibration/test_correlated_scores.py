import numpy as np
import pytest

from calibration import correlated_scores, scores
from calibration.data import Responses
from calibration.errors import NotConvergedError

OF_ITEM = np.array([0, 1, 0, 1])
A = np.array([0.7, 1.2, 1.8, 2.5])
B = np.tile([-1.2, -0.3, 0.5, 1.4], (4, 1))


def answers(n: int, each: int, a: np.ndarray = A) -> Responses:
    """Two traits that correlate by 0.6, five categories."""
    rng = np.random.default_rng(3)
    theta = rng.standard_normal((n, 2)) @ np.linalg.cholesky([[1, 0.6], [0.6, 1]]).T
    eta = a[:, None] * theta[:, OF_ITEM, None] + rng.logistic(size=(n, 4, each))
    grades = (eta[..., None] > a[:, None, None] * B[:, None, :]).sum(-1)
    who, item, _ = (axis.ravel() for axis in np.indices(grades.shape))
    names = np.array(["a", "b", "c", "d"])[item]
    return Responses.from_columns("f", who, names, grades.ravel())


def by_quadrature(responses: Responses, correlation: float, a: np.ndarray = A) -> np.ndarray:
    """The same integral on a grid of both traits."""
    nodes = np.linspace(-6, 6, 601)
    by_trait = [
        part.counts.reshape(part.n_respondents, -1)
        @ scores.log_category_probabilities(part, a[own], B[own], nodes).reshape(-1, nodes.size)
        for own, part in ((c == OF_ITEM, responses.of_items(c == OF_ITEM, "t")) for c in (0, 1))
    ]
    first, second = np.meshgrid(nodes, nodes, indexing="ij")
    square = (first**2 - 2 * correlation * first * second + second**2) / (1 - correlation**2)
    log_prior = -0.5 * square - np.log(2 * np.pi) - 0.5 * np.log(1 - correlation**2)
    joint = by_trait[0][:, :, None] + by_trait[1][:, None, :] + log_prior
    top = joint.max((1, 2))
    step = nodes[1] - nodes[0]
    return top + np.log(np.exp(joint - top[:, None, None]).sum((1, 2)) * step**2)


@pytest.mark.parametrize(("each", "within"), [(1, 0.01), (60, 0.003)])
@pytest.mark.parametrize("correlation", [0.0, 0.6, -0.9])
def test_answers_are_as_probable_as_on_a_fine_grid(
    each: int, within: float, correlation: float
) -> None:
    responses = answers(25, each)
    omega = np.array([[1.0, correlation], [correlation, 1.0]])
    prepared = correlated_scores.prepare(responses, OF_ITEM)
    found = correlated_scores.log_likelihoods(prepared, A, B, omega)
    np.testing.assert_allclose(found, by_quadrature(responses, correlation), atol=within)


STEEP = np.array([4.0, 7.0, 10.0, 13.0])


def log_posterior(
    responses: Responses, a: np.ndarray, omega: np.ndarray, theta: np.ndarray
) -> np.ndarray:
    """Of each respondent at a theta of their own, shape (n,), up to a constant."""
    log_p = scores.log_category_probabilities(responses, a, B, theta[:, OF_ITEM].T)
    own = np.einsum("njk,jkn->n", responses.counts, log_p)
    total: np.ndarray = own - 0.5 * np.einsum("ni,ij,nj->n", theta, np.linalg.inv(omega), theta)
    return total


@pytest.mark.parametrize("each", [1, 60])
def test_steep_items_have_a_mode_that_newton_alone_leaps_over(each: int) -> None:
    """By brute force: nowhere around is the posterior higher, and the slope is that of a top."""
    responses = answers(40, each, STEEP)
    omega = np.array([[1.0, 0.6], [0.6, 1.0]])
    prepared = correlated_scores.prepare(responses, OF_ITEM)
    cuts = STEEP[:, None] * B
    theta, curvature = correlated_scores._modes(prepared, STEEP, cuts, np.linalg.inv(omega))
    best = log_posterior(responses, STEEP, omega, theta)
    sd = 1.0 / np.sqrt(np.linalg.eigvalsh(curvature))
    for away in np.random.default_rng(1).standard_normal((200, 40, 2)):
        for unit in (1.0, sd.max(1)[:, None], 0.01):
            assert (
                log_posterior(responses, STEEP, omega, theta + unit * away) <= best + 1e-9
            ).all()


def test_steep_items_are_integrated_as_well_as_a_normal_can() -> None:
    """Their posteriors are cut off where a normal is not: a tenth in logs, no more."""
    responses = answers(25, 10, STEEP)
    prepared = correlated_scores.prepare(responses, OF_ITEM)
    omega = np.array([[1.0, 0.6], [0.6, 1.0]])
    found = correlated_scores.log_likelihoods(prepared, STEEP, B, omega)
    np.testing.assert_allclose(found, by_quadrature(responses, 0.6, STEEP), atol=0.15)


@pytest.mark.parametrize("again", [True, False])
def test_draws_of_theta_have_the_posteriors_mean_and_covariance(*, again: bool) -> None:
    """Against the sampled posterior's own weights on a grid of both traits."""
    responses = answers(6, 2)
    omega = np.array([[1.0, 0.6], [0.6, 1.0]])
    prepared = correlated_scores.prepare(responses, OF_ITEM)
    rng = np.random.default_rng(0)
    points = correlated_scores.posterior_points(prepared, A, B, omega)
    drawn = np.stack(
        [
            correlated_scores.pick(points, rng)
            if again
            else correlated_scores.draw_theta(prepared, A, B, omega, rng)
            for _ in range(2000)
        ]
    )
    shared_out = np.einsum("nm,nmt->nt", points.share, points.theta)
    nodes = np.linspace(-5, 5, 201)
    first, second = (axis.ravel() for axis in np.meshgrid(nodes, nodes, indexing="ij"))
    theta = np.stack([first, second])
    log_p = scores.log_category_probabilities(responses, A, B, theta[OF_ITEM])
    joint = responses.counts.reshape(6, -1) @ log_p.reshape(-1, first.size)
    joint = joint - 0.5 * np.einsum("it,ij,jt->t", theta, np.linalg.inv(omega), theta)
    weight = np.exp(joint - joint.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = weight @ theta.T
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(shared_out, mean, atol=0.03)
    for person in range(6):
        off = theta - mean[person][:, None]
        expected = (weight[person] * off) @ off.T
        np.testing.assert_allclose(np.cov(drawn[:, person].T), expected, atol=0.06)


def test_means_of_many_drawn_traits_scatter_no_more_than_respondents_do() -> None:
    """Points that all respondents share must not move them all together."""
    responses = answers(600, 1)
    omega = np.array([[1.0, 0.6], [0.6, 1.0]])
    prepared = correlated_scores.prepare(responses, OF_ITEM)
    rng = np.random.default_rng(1)
    drawn = np.stack([correlated_scores.draw_theta(prepared, A, B, omega, rng) for _ in range(200)])
    alone = drawn.std(0).mean(0) / np.sqrt(600)
    np.testing.assert_allclose(drawn.mean(1).std(0), alone, rtol=0.25)


def test_items_that_are_no_numbers_are_refused() -> None:
    prepared = correlated_scores.prepare(answers(5, 3), OF_ITEM)
    with pytest.raises(NotConvergedError, match="no mode of theta"):
        correlated_scores.log_likelihoods(prepared, A * np.nan, B, np.eye(2))


def test_items_with_fewer_categories_are_met() -> None:
    """A cut that an item lacks says nothing, whatever stands in its place."""
    responses = answers(20, 2)
    counts = responses.counts.copy()
    counts[:, 0, 1] += counts[:, 0, 2:].sum(1)
    counts[:, 0, 2:] = 0
    fewer = Responses(
        "f", responses.items, ((0, 1), *responses.categories[1:]), counts,
        responses.respondents, responses.groups,
    )  # fmt: skip
    b = B.copy()
    b[0, 1:] = np.nan
    prepared = correlated_scores.prepare(fewer, OF_ITEM)
    found = correlated_scores.log_likelihoods(prepared, A, b, np.eye(2))
    alone = [
        scores.integrate(fewer.of_items(c == OF_ITEM, "t"), A[c == OF_ITEM], b[c == OF_ITEM])
        for c in (0, 1)
    ]
    np.testing.assert_allclose(found, sum(one.log_likelihood for one in alone), atol=0.02)
