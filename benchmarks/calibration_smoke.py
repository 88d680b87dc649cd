"""A plain NumPyro port of the graded response model against ours, on the same data, in one run.

    python benchmarks/calibration_smoke.py [--seeds 3] [--observations 60] [--plain-draws 1000]
        [--structure one-trait | correlated]

Both sample 10 personas x 6 constructs x 5 categories: one trait, or a trait per construct with
correlations ~ LKJ(2). Seconds are warm: each side has run once before; CPU seconds are told as
well, for a machine that others use. ESS is the smaller of bulk and tail, R-hat and ESS the worst
over every parameter, derived ones included.
"""

import argparse
import json
import time
from functools import partial
from typing import Any

import numpy as np

from calibration.runtime import configure

configure(host_devices=4)

import jax  # noqa: E402  # after its settings
import numpyro  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
from numpyro.infer import MCMC, NUTS  # noqa: E402

from benchmarks.calibration_headline import STRUCTURES, responses_of  # noqa: E402
from calibration import grm, summaries  # noqa: E402
from calibration.correlated import fit_correlated  # noqa: E402
from calibration.data import Responses  # noqa: E402
from calibration.results import Diagnostics  # noqa: E402


def plain_model(counts: jax.Array, correlated: bool) -> None:
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
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "ess_per_second": round(ess / wall, 1),
        "ess_per_cpu_second": round(ess / cpu, 1),
    }


def plain(sampler: MCMC, responses: Responses, seed: int, correlated: bool) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    sampler.run(jax.random.key(seed), jax.numpy.asarray(responses.counts))
    draws = {k: np.asarray(v) for k, v in sampler.get_samples(group_by_chain=True).items()}
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    names = ["a", "b", "theta", "mu", "sigma"] + (["correlation"] if correlated else [])
    kept = [draws[name].reshape(*draws[name].shape[:2], -1) for name in names]
    worst = summaries.convergence(np.concatenate(kept, 2))
    diverged = int(np.asarray(sampler.get_extra_fields()["diverging"]).sum())
    return figures(
        worst.r_hat_max, min(worst.ess_bulk_min, worst.ess_tail_min), diverged, wall, cpu
    )


def diagnosed(responses: Responses, seed: int, correlated: bool) -> Diagnostics:
    fit = fit_correlated if correlated else grm.fit
    return fit(responses, seed=seed).diagnostics


def ours(responses: Responses, seed: int, correlated: bool) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    d = diagnosed(responses, seed, correlated)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    ess = min(d.ess_bulk_min or 0.0, d.ess_tail_min or 0.0)
    shown = figures(d.r_hat_max or np.nan, ess, d.divergences, wall, cpu)
    return {**shown, "sampling_seconds": round(d.sampling_seconds, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--observations", type=int, default=60)
    parser.add_argument("--plain-draws", type=int, default=1000)
    parser.add_argument("--structure", choices=STRUCTURES, default="one-trait")
    options = parser.parse_args()
    correlated = options.structure == "correlated"
    sampler = MCMC(
        NUTS(partial(plain_model, correlated=correlated), target_accept_prob=0.85),
        num_warmup=1000,
        num_samples=options.plain_draws,
        num_chains=4,
        chain_method="parallel",
        progress_bar=False,
        jit_model_args=True,
    )
    first = responses_of(options.structure, 1000, options.observations)
    began = time.perf_counter()
    diagnosed(first, 0, correlated)
    cold = time.perf_counter() - began
    plain(sampler, first, 0, correlated)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        data = responses_of(options.structure, seed, options.observations)
        port, mine = plain(sampler, data, seed, correlated), ours(data, seed, correlated)
        rows.append({"seed": seed, "plain": port, "ours": mine})
        print(json.dumps(rows[-1]), flush=True)
    ratios = {
        name: float(np.median([row["ours"][name] / row["plain"][name] for row in rows]))
        for name in ("ess_per_second", "ess_per_cpu_second")
    }
    faster = float(
        np.median([row["plain"]["wall_seconds"] / row["ours"]["wall_seconds"] for row in rows])
    )
    print(
        json.dumps(
            {
                "cold_seconds": round(cold, 1),
                "ess_per_second_ratio": round(ratios["ess_per_second"], 1),
                "ess_per_cpu_second_ratio": round(ratios["ess_per_cpu_second"], 1),
                "wall_ratio": round(faster, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
