"""10 personas x 6 constructs: every parameter's R-hat and ESS, and divergences, seed after seed.

    python benchmarks/calibration_headline.py [--seeds 20] [--observations 12 60 600]
        [--structure correlated one-trait]

One trait: the personas' trait is shared by the constructs. Correlated: each construct is a trait
of its own, the correlations drawn from LKJ(2). Seed s is the data's and the sampler's. Prints a
line of JSON per fit, then the worst of each cell.
"""

import argparse
import json
import time

import numpy as np
from numpy.typing import NDArray

from calibration.runtime import configure

configure(host_devices=4)

import jax  # noqa: E402  # after its settings
import numpyro.distributions as dist  # noqa: E402

from calibration.correlated import fit_correlated  # noqa: E402
from calibration.data import Responses  # noqa: E402
from calibration.grm import fit  # noqa: E402
from calibration.results import Diagnostics  # noqa: E402
from calibration.simulate import Truth  # noqa: E402

CONSTRUCTS = ("actions", "art", "fantasy", "feelings", "ideas", "values")
STRUCTURES = ("correlated", "one-trait")


def simulated(seed: int, observations: int, correlation: NDArray[np.float64]) -> Responses:
    """Ten personas' counts; all ones in ``correlation`` is one trait."""
    rng = np.random.default_rng(seed)
    truth = Truth(seed, 10, CONSTRUCTS, 5)
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    theta = rng.standard_normal((10, 6)) @ root.T
    eta = truth.discrimination[:, None] * (theta[..., None] - truth.thresholds)
    noise = rng.logistic(size=(*theta.shape, observations))
    grades = (eta[..., None, :] + noise[..., None] > 0).sum(-1)
    who, item, _ = (axis.ravel() for axis in np.indices(grades.shape))
    names = np.array(CONSTRUCTS)[item]
    return Responses.from_columns("f", who, names, grades.ravel() + 1, items=CONSTRUCTS)


def responses_of(structure: str, seed: int, observations: int) -> Responses:
    if structure == "one-trait":
        return simulated(seed, observations, np.ones((6, 6)))
    return simulated(seed, observations, np.asarray(dist.LKJ(6, 2.0).sample(jax.random.key(seed))))


def figures(diagnostics: Diagnostics) -> dict[str, float]:
    d = diagnostics
    return {
        "r_hat_max": round(d.r_hat_max or np.nan, 5),
        "ess_bulk_min": round(d.ess_bulk_min or 0),
        "ess_tail_min": round(d.ess_tail_min or 0),
        "divergences": d.divergences,
        "steps": round(d.steps_mean or 0, 1),
        "e_bfmi_min": round(min(d.e_bfmi), 2),
    }


def one(structure: str, observations: int, seed: int) -> dict[str, float]:
    responses = responses_of(structure, seed, observations)
    began = time.process_time()
    how = fit_correlated if structure == "correlated" else fit
    found = figures(how(responses, seed=seed).diagnostics)
    return {**found, "cpu_seconds": round(time.process_time() - began, 1)}


def worst(rows: list[dict[str, float]]) -> dict[str, float]:
    ways = {"r_hat_max": max, "ess_bulk_min": min, "ess_tail_min": min, "divergences": sum}
    return {name: way(row[name] for row in rows) for name, way in ways.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--observations", type=int, nargs="+", default=[12, 60, 600])
    parser.add_argument("--structure", nargs="+", choices=STRUCTURES, default=list(STRUCTURES))
    options = parser.parse_args()
    for structure in options.structure:
        for n in options.observations:
            rows = []
            for seed in range(options.seeds):
                rows.append(one(structure, n, seed))
                cell = {"structure": structure, "observations": n, "seed": seed}
                print(json.dumps({**cell, **rows[-1]}), flush=True)
            cell = {"structure": structure, "observations": n, "seeds": options.seeds}
            print(json.dumps({**cell, "worst": worst(rows)}), flush=True)


if __name__ == "__main__":
    main()
