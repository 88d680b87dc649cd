"""Do the intervals of a run's ten simulated personas hold the truth?

    python -m benchmarks.calibration_personas [--replications 60] [--first 0] [--draws 500]
        [--structure correlated | unidimensional] [--from-prior]
    python -m benchmarks.calibration_personas --given-traits 10 30 100 [--replications 4]

Each replication is what ``nexus run --structure correlated --seed s`` fits: the smoke profile's
family, personas and turns, graded by the simulator of that seed. Its truth is not drawn from the
prior: correlations are all positive, where LKJ(2) has them around 0. With ``--from-prior`` LKJ(2)
draws them, and nothing else changes. Prints a line of JSON per replication, then for
discriminations, thresholds and correlations the share of 95% HDIs that hold the truth, its Monte
Carlo error over replications, error, and the error that the reported sds promise: once
``in_population``, as a run's report sets them side by side, and once ``in_sample``, truth and draws
alike on the scale on which these ten personas' traits have mean 0 and sd 1, with the correlations
that these ten have.

With ``--given-traits`` nothing is fitted to grades: so many personas' traits themselves are given
(in units and from origins not known), and plain NumPyro draws the correlations. What it says
beside the sample's is the prior's.
"""

import argparse
import json
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from calibration.runtime import configure

configure(host_devices=4)

import jax  # noqa: E402  # after its settings
import jax.numpy as jnp  # noqa: E402
import numpyro  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
from jax import Array  # noqa: E402
from numpyro.infer import MCMC, NUTS  # noqa: E402

from calibration import Responses, fit, fit_correlated, summaries  # noqa: E402  # after JAX
from calibration.correlated_density import LKJ_CONCENTRATION  # noqa: E402
from calibration.results import SamplerSettings  # noqa: E402
from calibration.simulate import Truth, simulate_grades  # noqa: E402
from events.model import Structure  # noqa: E402
from infra.personas import truth_of  # noqa: E402
from infra.profiles import parameters_for  # noqa: E402

Table = NDArray[np.float64]
KINDS = ("discrimination", "thresholds", "correlation")


@dataclass(frozen=True)
class FromPrior(Truth):
    """Constructs' traits that correlate as the stated model's prior has it."""

    @cached_property
    def correlation(self) -> Table:
        prior = dist.LKJ(len(self.constructs), LKJ_CONCENTRATION)
        return np.asarray(prior.sample(jax.random.key(self.seed)))

    @cached_property
    def traits(self) -> Table:
        z = np.random.default_rng(self.seed).standard_normal(
            (self.n_personas, len(self.constructs))
        )
        return z @ np.linalg.cholesky(self.correlation).T


def run_of(seed: int, structure: Structure, from_prior: bool = False) -> tuple[Truth, Responses]:
    """What the run of that seed grades, and the truth that it grades by."""
    asked = parameters_for(0, "smoke", structure=structure, seed=seed)
    [family], corpus, evaluator = asked.families, asked.corpus, asked.evaluator
    truth = truth_of(evaluator, corpus.personas, family.items)  # type: ignore[arg-type]
    if from_prior:
        truth = FromPrior(truth.seed, truth.n_personas, truth.constructs, truth.n_categories)
    size = (corpus.personas, corpus.sessions, corpus.turns, len(family.items))
    who, session, turn, item = (axis.ravel() for axis in np.indices(size))
    names = np.array(family.items)[item]
    grades = simulate_grades(truth, who, session, turn, names)
    return truth, Responses.from_columns("f", who, names, grades, items=family.items)


def in_sample(a: Table, b: Table, theta: Table) -> dict[str, Table]:
    """Parameters on the scale of the respondents, theta of shape (..., n, n_items)."""
    mean, sd = theta.mean(-2), theta.std(-2)
    u = (theta - mean[..., None, :]) / sd[..., None, :]
    return {
        "discrimination": a * sd,
        "thresholds": (b - mean[..., None]) / sd[..., None],
        "correlation": u.swapaxes(-1, -2) @ u / theta.shape[-2],
    }


def in_population(truth: Truth) -> dict[str, Table]:
    root = np.sqrt(truth.common_share)
    known = truth.correlation if isinstance(truth, FromPrior) else np.outer(root, root)
    return {
        "discrimination": truth.discrimination,
        "thresholds": truth.thresholds,
        "correlation": known,
    }


def flat(parameters: dict[str, Table], lead: int) -> dict[str, Table]:
    """Each kind as columns, after ``lead`` leading axes; of correlations those of each two."""
    upper = np.triu_indices(parameters["discrimination"].shape[-1], 1)
    parameters = parameters | {"correlation": parameters["correlation"][..., *upper]}
    return {kind: table.reshape(*table.shape[:lead], -1) for kind, table in parameters.items()}


def judged(truth: dict[str, Table], draws: dict[str, Table]) -> dict[str, Table]:
    """Error, sd and whether the HDI holds of each parameter, shape (n, 3)."""
    true, drawn = flat(truth, 0), flat(draws, 2)
    found = {}
    for kind, table in drawn.items():
        told = summaries.figures(table)
        holds = (told.low <= true[kind]) & (true[kind] <= told.high)
        found[kind] = np.stack([told.mean - true[kind], told.sd, holds], 1)
    return found


def replicate(
    seed: int, structure: Structure, sampler: SamplerSettings, from_prior: bool
) -> dict[str, dict[str, Table]]:
    truth, responses = run_of(seed, structure, from_prior)
    if structure == "correlated":
        draws = fit_correlated(responses, seed=seed, sampler=sampler).draws
        theta = draws["theta"]
    else:
        draws = fit(responses, seed=seed, sampler=sampler).draws
        theta = np.repeat(draws["theta"][..., None], len(responses.items), -1)
    a, b = draws["discrimination"], draws["thresholds"]
    scales = {
        "in_population": (in_population(truth), {"discrimination": a, "thresholds": b}),
        "in_sample": (
            in_sample(truth.discrimination, truth.thresholds, truth.traits),
            in_sample(a, b, theta),
        ),
    }
    ones = np.ones((*a.shape, a.shape[-1]))
    scales["in_population"][1]["correlation"] = draws.get("correlation", ones)
    return {scale: judged(*pair) for scale, pair in scales.items()}


def figures(tables: list[Table]) -> dict[str, float]:
    table = np.stack(tables)
    covered = table[:, :, 2].mean(1)
    return {
        "coverage": round(float(covered.mean()), 3),
        "coverage_mcse": round(float(covered.std(ddof=1) / np.sqrt(len(covered))), 3),
        "bias": round(float(table[:, :, 0].mean()), 3),
        "rmse": round(float(np.sqrt((table[:, :, 0] ** 2).mean())), 3),
        "promised": round(float(np.sqrt((table[:, :, 1] ** 2).mean())), 3),
        "fewest_of_a_run": round(float(covered.min()), 3),
        "runs_below_two_thirds": round(float((covered < 2 / 3 - 1e-9).mean()), 3),
    }


def correlations_given(u: Array) -> None:
    """The stated model's, of traits ``u`` in units and from origins that are not known."""
    n, n_traits = u.shape
    log_unit = numpyro.sample("log_unit", dist.Normal(0, 1).expand([n_traits]).to_event(1))
    origin = numpyro.sample("origin", dist.Normal(0, 5).expand([n_traits]).to_event(1))
    root = numpyro.sample("root", dist.LKJCholesky(n_traits, LKJ_CONCENTRATION))
    theta = dist.MultivariateNormal(jnp.zeros(n_traits), scale_tril=root)
    density = theta.log_prob(jnp.exp(log_unit) * (u + origin)).sum() + n * log_unit.sum()
    numpyro.factor("traits", density)


def given_traits(personas: int, seed: int) -> dict[str, float]:
    """Mean correlation of the posterior, the sample and the population."""
    asked = parameters_for(0, "smoke", structure="correlated", seed=seed)
    truth = truth_of(asked.evaluator, personas, asked.families[0].items)  # type: ignore[arg-type]
    u = (truth.traits - truth.traits.mean(0)) / truth.traits.std(0)
    chain = MCMC(
        NUTS(correlations_given),
        num_warmup=500,
        num_samples=1000,
        progress_bar=False,
        jit_model_args=True,
    )
    chain.run(jax.random.key(seed), jnp.asarray(u))
    root = np.asarray(chain.get_samples()["root"])
    upper = np.triu_indices(u.shape[1], 1)
    tables = {
        "posterior": (root @ root.swapaxes(1, 2)).mean(0),
        "sample": np.corrcoef(u.T),
        "population": in_population(truth)["correlation"],
    }
    return {name: round(float(table[upper].mean()), 3) for name, table in tables.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="seed of the first replication")
    parser.add_argument("--draws", type=int, default=500, help="per chain, of four")
    parser.add_argument(
        "--structure", choices=("correlated", "unidimensional"), default="correlated"
    )
    parser.add_argument("--from-prior", action="store_true")
    parser.add_argument("--given-traits", type=int, nargs="+", metavar="PERSONAS")
    options = parser.parse_args()
    if options.from_prior and options.structure != "correlated":
        parser.error("--from-prior draws correlations: it needs --structure correlated")
    seeds = range(options.first, options.first + options.replications)
    if options.given_traits:
        for personas, seed in product(options.given_traits, seeds):
            found = given_traits(personas, seed)
            print(json.dumps({"personas": personas, "seed": seed, **found}), flush=True)
        return
    sampler = SamplerSettings(draws=options.draws)
    every = []
    for seed in seeds:
        every.append(replicate(seed, options.structure, sampler, options.from_prior))
        held = {
            scale: {kind: round(float(table[:, 2].mean()), 3) for kind, table in found.items()}
            for scale, found in every[-1].items()
        }
        print(json.dumps({"seed": seed, **held}), flush=True)
    for scale in every[0]:
        for kind in KINDS:
            known = [found[scale][kind] for found in every]
            print(json.dumps({"scale": scale, "of": kind, **figures(known)}), flush=True)


if __name__ == "__main__":
    main()
