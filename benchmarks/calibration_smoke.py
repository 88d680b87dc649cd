"""A plain NumPyro port of the graded response model against ours, on the same data, in one run.

    python benchmarks/calibration_smoke.py [--seeds 3] [--observations 60] [--plain-draws 1000]

Both sample 10 personas x 6 constructs x 5 categories. Seconds are warm: each side has run once
before. ESS is the smaller of bulk and tail, R-hat and ESS the worst over every parameter.
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from calibration.runtime import configure

configure(host_devices=4)

import jax  # noqa: E402  # after its settings
import numpyro  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
from numpyro.infer import MCMC, NUTS  # noqa: E402

from calibration import grm, summaries  # noqa: E402
from calibration.data import Responses  # noqa: E402
from calibration.simulate import Truth, simulate_grades  # noqa: E402

CONSTRUCTS = ("actions", "art", "fantasy", "feelings", "ideas", "values")


def responses_of(seed: int, observations: int) -> Responses:
    truth = Truth(seed, 10, CONSTRUCTS, 5)
    who, turn, item = (
        axis.ravel()
        for axis in np.meshgrid(
            np.arange(10), np.arange(observations), np.array(CONSTRUCTS), indexing="ij"
        )
    )
    grades = simulate_grades(truth, who, 0, turn, item)
    return Responses.from_columns("openness", who, item, grades, items=CONSTRUCTS)


def plain_model(counts: jax.Array) -> None:
    n, n_items, n_categories = counts.shape
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    sigma = numpyro.sample("sigma", dist.LogNormal(np.log(0.4), 0.5))
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([n_items]).to_event(1))
    theta = numpyro.sample("theta", dist.Normal(0.0, 1.0).expand([n]).to_event(1))
    base = dist.Normal(0.0, 5.0).expand([n_items, n_categories - 1]).to_event(1)
    cuts = numpyro.sample(
        "cuts",
        dist.ImproperUniform(
            dist.constraints.ordered_vector, (n_items,), (n_categories - 1,)
        ).to_event(1),
    )
    numpyro.factor("cut_prior", base.log_prob(cuts).sum())
    a = numpyro.deterministic("a", jax.numpy.exp(mu + sigma * z))
    numpyro.deterministic("b", cuts / a[:, None])
    by_category = dist.OrderedLogistic(theta[:, None, None] * a[:, None], cuts[:, None, :])
    log_p = by_category.log_prob(jax.numpy.arange(n_categories))
    numpyro.factor("likelihood", jax.numpy.sum(counts * log_p))


def figures(r_hat: float, ess: float, divergences: int, seconds: float) -> dict[str, float]:
    return {
        "r_hat_max": round(r_hat, 5),
        "ess_min": round(ess),
        "divergences": divergences,
        "seconds": round(seconds, 2),
        "ess_per_second": round(ess / seconds, 1),
    }


def plain(sampler: MCMC, responses: Responses, seed: int) -> dict[str, float]:
    began = time.perf_counter()
    sampler.run(jax.random.key(seed), jax.numpy.asarray(responses.counts))
    draws = {k: np.asarray(v) for k, v in sampler.get_samples(group_by_chain=True).items()}
    seconds = time.perf_counter() - began
    kept = [draws[name] for name in ("a", "b", "theta", "mu", "sigma")]
    worst = summaries.worst(
        [summaries.convergence(part.reshape(*part.shape[:2], -1)) for part in kept]
    )
    diverged = int(np.asarray(sampler.get_extra_fields()["diverging"]).sum())
    ess = min(worst.ess_bulk_min, worst.ess_tail_min)
    return figures(worst.r_hat_max, ess, diverged, seconds)


def ours(responses: Responses, seed: int) -> dict[str, float]:
    began = time.perf_counter()
    fit = grm.fit(responses, seed=seed)
    wall = time.perf_counter() - began
    d = fit.diagnostics
    ess = min(d.ess_bulk_min or 0.0, d.ess_tail_min or 0.0)
    shown = figures(d.r_hat_max or np.nan, ess, d.divergences, d.sampling_seconds)
    return {**shown, "wall_seconds": round(wall, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--observations", type=int, default=60)
    parser.add_argument("--plain-draws", type=int, default=1000)
    options = parser.parse_args()
    sampler = MCMC(
        NUTS(plain_model, target_accept_prob=0.85),
        num_warmup=1000,
        num_samples=options.plain_draws,
        num_chains=4,
        chain_method="parallel",
        progress_bar=False,
        jit_model_args=True,
    )
    first = responses_of(1000, options.observations)
    began = time.perf_counter()
    grm.fit(first, seed=0)
    cold = time.perf_counter() - began
    plain(sampler, first, 0)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        data = responses_of(seed, options.observations)
        rows.append({"seed": seed, "plain": plain(sampler, data, seed), "ours": ours(data, seed)})
        print(json.dumps(rows[-1]), flush=True)
    ratio = [row["ours"]["ess_per_second"] / row["plain"]["ess_per_second"] for row in rows]
    faster = [row["plain"]["seconds"] / row["ours"]["wall_seconds"] for row in rows]
    print(
        json.dumps(
            {
                "cold_seconds": round(cold, 1),
                "ess_per_second_ratio": round(float(np.median(ratio)), 1),
                "wall_ratio": round(float(np.median(faster)), 1),
            }
        )
    )


if __name__ == "__main__":
    main()
