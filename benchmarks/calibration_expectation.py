"""How far is expectation propagation's integral from the exact one?

    python -m benchmarks.calibration_expectation survey|hard [--points 4096]

`survey`: the five scales of examples/bfi.csv at the mode and at three points around it, three
posterior standard deviations or so away in every direction at once. `hard`: 200 respondents, three
traits correlated by 0.9, three binary items of slope 3 each, and the same at correlations of 0.88.
The exact log-likelihood is by importance sampling from each respondent's own normal, its covariance
widened by a fifth, twice by scrambled Sobol points, which every respondent gets shifted by a random
amount of its own (Cranley & Patterson 1976), so that errors of sampling do not add up over
respondents. Prints a line of JSON per point: the error of normal functions alone, with the
cumulants, and what the two samplings differ by.
"""

import argparse
import json
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from calibration.runtime import configure

configure(host_devices=4)

import jax  # noqa: E402  # after its settings
import jax.numpy as jnp  # noqa: E402
from jax import Array  # noqa: E402
from jax.scipy.special import ndtri  # noqa: E402

from benchmarks.calibration_scale import bfi  # noqa: E402
from calibration import Responses, correlated, correlated_many, marginal_correlated  # noqa: E402
from calibration.correlated_many import Found  # noqa: E402
from calibration.marginal_correlated import MarginalTraits  # noqa: E402

WIDER = 1.2


@jax.jit
def integrals(
    y: Array, u: Array, shifts: Array, data: MarginalTraits
) -> tuple[Array, Array, Array]:
    """Log-likelihoods of all respondents: sampled, by normal functions, and the cumulants' part."""
    seen = marginal_correlated.seen_by(y, data)
    last = marginal_correlated.propagate(False, seen, data)
    inverse = jnp.linalg.inv(seen.omega)

    def sampled(one: Array) -> Array:
        z = ndtri(jnp.maximum((u + shifts[one]) % 1.0, 1e-300))
        root = jnp.linalg.cholesky(WIDER * last.normal.covariance[:, :, one])
        theta = last.normal.mean[:, one] + z @ root.T
        eta = seen.slopes * theta[:, :, None] - seen.shifts
        weight = jnp.sum(data.above[:, :, one] * eta, (1, 2))
        weight -= jnp.sum(data.both[:, :, one] * jax.nn.softplus(eta), (1, 2))
        weight -= 0.5 * jnp.einsum("st,tu,su->s", theta, inverse, theta) - 0.5 * jnp.sum(z**2, 1)
        volume = jnp.sum(jnp.log(jnp.diag(root))) - 0.5 * jnp.linalg.slogdet(seen.omega)[1]
        return jax.scipy.special.logsumexp(weight) - jnp.log(len(u)) + volume

    exact = jax.lax.map(sampled, jnp.arange(data.above.shape[2]), batch_size=8)
    normal = last.normal.log_integral + last.log_evidence.sum(0)
    return exact.sum(), normal.sum(), marginal_correlated.cumulants(last).sum()


def compared(y: NDArray[np.float64], found: Found, points: int) -> dict[str, float]:
    data = found.data._replace(passes=jnp.asarray(30))
    n_traits, n = data.sites.shift.shape
    first, second = (
        integrals(y, qmc.Sobol(n_traits, seed=rng).random(points), rng.random((n, n_traits)), data)
        for rng in map(np.random.default_rng, range(2))
    )
    exact = 0.5 * float(first[0] + second[0])
    return {
        "exact": round(exact, 3),
        "normal_alone": round(float(first[1]) - exact, 4),
        "with_cumulants": round(float(first[1] + first[2]) - exact, 4),
        "samplings_differ": round(float(first[0] - second[0]), 4),
    }


def hard() -> tuple[Responses, list[str], NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    omega = np.full((3, 3), 0.9) + 0.1 * np.eye(3)
    theta = rng.standard_normal((200, 3)) @ np.linalg.cholesky(omega).T
    cuts = rng.normal(0, 1.2, 9)
    grades = 3.0 * theta[:, np.repeat(np.arange(3), 3)] - cuts + rng.logistic(size=(200, 9)) > 0
    items = [f"i{j}" for j in range(9)]
    responses = Responses.from_matrix("hard", grades.astype(float), items=items)
    return responses, [f"t{j // 3}" for j in range(9)], cuts


def free_of(omega: NDArray[np.float64]) -> NDArray[np.float64]:
    transform = correlated_many.CorrCholeskyTransform()
    return np.asarray(transform.inv(jnp.linalg.cholesky(jnp.asarray(omega))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("of", choices=("survey", "hard"))
    parser.add_argument("--points", type=int, default=4096)
    options = parser.parse_args()
    cuts = np.zeros(0)
    if options.of == "survey":
        responses, traits = bfi(2800)
    else:
        responses, traits, cuts = hard()
    parts = correlated.parts_of(responses, *correlated.traits_of(responses, traits))
    found = correlated_many.find(responses, parts, prior_weight=1.0)
    if options.of == "hard":
        omegas = (np.full((3, 3), rho) + (1 - rho) * np.eye(3) for rho in (0.9, 0.88))
        items = np.concatenate([np.full(9, np.log(3.0)), cuts])
        points = [np.concatenate([free_of(omega), items]) for omega in omegas]
    else:
        rng, n = np.random.default_rng(0), found.mode.y.size
        scale = np.where(np.arange(n) < 10, 0.02, 0.05)
        points = [found.mode.y, *(found.mode.y + scale * rng.standard_normal(n) for _ in range(3))]
    report = partial(compared, found=found, points=options.points)
    for y in points:
        print(json.dumps(report(y)), flush=True)


if __name__ == "__main__":
    main()
