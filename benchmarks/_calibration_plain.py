"""The graded response model as one writes it down in NumPyro; run by `calibration_smoke.py`.

    python -m benchmarks._calibration_plain [--draws 1000] [--correlated]

theta and z_j are sampled as stated, with a diagonal mass matrix, four chains in parallel; counts
are collapsed. A process of its own, so that XLA is as NumPyro's users have it. Reads lines of JSON
(``seed``, ``counts`` by respondent, item and category) and answers each with a line of figures.
"""

import argparse
import json
import sys
import time
from functools import partial

import numpy as np
import numpyro

numpyro.set_host_device_count(4)
numpyro.enable_x64()

import jax  # noqa: E402  # after its settings
import numpyro.distributions as dist  # noqa: E402
from numpyro.infer import MCMC, NUTS  # noqa: E402

from calibration import summaries  # noqa: E402


def model(counts: jax.Array, correlated: bool) -> None:
    n, n_items, n_categories = counts.shape
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    sigma = numpyro.sample("sigma", dist.LogNormal(np.log(0.4), 0.5))
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([n_items]).to_event(1))
    if correlated:
        root = numpyro.sample("root", dist.LKJCholesky(n_items, 2.0))
        free = numpyro.sample("free", dist.Normal(0.0, 1.0).expand([n, n_items]).to_event(2))
        theta = numpyro.deterministic("theta", free @ root.T)
        below = jax.numpy.tril_indices(n_items, -1)
        numpyro.deterministic("correlation", (root @ root.T)[below])
    else:
        theta = numpyro.sample("theta", dist.Normal(0.0, 1.0).expand([n, 1]).to_event(2))
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
    by_category = dist.OrderedLogistic((theta * a)[..., None], cuts[:, None, :])
    log_p = by_category.log_prob(jax.numpy.arange(n_categories))
    numpyro.factor("likelihood", jax.numpy.sum(counts * log_p))


def figures(
    r_hat: float, ess: float, divergences: int, wall: float, cpu: float
) -> dict[str, float]:
    return {
        "r_hat_max": round(r_hat, 5),
        "ess_min": round(ess),
        "divergences": divergences,
        "wall_seconds": round(wall, 3),
        "cpu_seconds": round(cpu, 3),
        "ess_per_second": round(ess / wall, 1),
        "ess_per_cpu_second": round(ess / cpu, 1),
    }


def plain(sampler: MCMC, counts: np.ndarray, seed: int, correlated: bool) -> dict[str, float]:
    """Seconds are the sampler's alone; ours hold the figures of convergence and the scores too."""
    began, cpu = time.perf_counter(), time.process_time()
    sampler.run(jax.random.key(seed), jax.numpy.asarray(counts))
    draws = {k: np.asarray(v) for k, v in sampler.get_samples(group_by_chain=True).items()}
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    names = ["a", "b", "theta", "mu", "sigma"] + (["correlation"] if correlated else [])
    kept = [draws[name].reshape(*draws[name].shape[:2], -1) for name in names]
    worst = summaries.convergence(np.concatenate(kept, 2))
    diverged = int(np.asarray(sampler.get_extra_fields()["diverging"]).sum())
    return figures(
        worst.r_hat_max, min(worst.ess_bulk_min, worst.ess_tail_min), diverged, wall, cpu
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--correlated", action="store_true")
    options = parser.parse_args()
    sampler = MCMC(
        NUTS(partial(model, correlated=options.correlated), target_accept_prob=0.85),
        num_warmup=1000,
        num_samples=options.draws,
        num_chains=4,
        chain_method="parallel",
        progress_bar=False,
        jit_model_args=True,
    )
    for line in sys.stdin:
        asked = json.loads(line)
        found = plain(sampler, np.array(asked["counts"]), asked["seed"], options.correlated)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
