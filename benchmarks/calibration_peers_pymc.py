"""PyMC with nutpie on our model; run by `calibration_peers_smoke.py` and `calibration_scale.py`.

    PYTHON_WITH_PYMC benchmarks/calibration_peers_pymc.py COUNTS.npy SEED [--draws 1000]
        [--tune 1000] [--structure one-trait | correlated] [--once]

COUNTS.npy: answers by respondent, item and category. Counts are collapsed and the priors are ours;
the coordinates are the stated ones (log discriminations and correlated traits non-centred, ordered
cut points), as one writes the model down. Prints one line of JSON.
"""

import argparse
import json
import time

import arviz
import numpy as np
import nutpie
import pymc as pm
import pytensor.tensor as pt


def traits(n: int, n_items: int, correlated: bool) -> pt.TensorVariable:
    """A column per item, or one for all."""
    if not correlated:
        return pm.Normal("theta", 0.0, 1.0, shape=(n, 1))
    # LKJCorr takes minutes to compile and more to sample; the spreads here are nobody's.
    chol, omega, spreads = pm.LKJCholeskyCov(
        "covariance", eta=2.0, n=n_items, sd_dist=pm.Exponential.dist(1.0), compute_corr=True
    )
    pm.Deterministic("correlation", omega)
    free = pm.Normal("free", 0.0, 1.0, shape=(n, n_items))
    return pm.Deterministic("theta", free @ (chol / spreads[:, None]).T)


def model_of(counts: np.ndarray, correlated: bool) -> pm.Model:
    n, n_items, n_categories = counts.shape
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0)
        sigma = pm.LogNormal("sigma", np.log(0.4), 0.5)
        z = pm.Normal("z", 0.0, 1.0, shape=n_items)
        theta = traits(n, n_items, correlated)
        start = np.tile(np.linspace(-2.0, 2.0, n_categories - 1), (n_items, 1))
        cuts = pm.Normal(
            "cuts",
            0.0,
            5.0,
            shape=(n_items, n_categories - 1),
            transform=pm.distributions.transforms.ordered,
            initval=start,
        )
        a = pm.Deterministic("a", pt.exp(mu + sigma * z))
        pm.Deterministic("b", cuts / a[:, None])
        eta = (theta * a)[:, :, None] - cuts
        above, below = counts[:, :, 1:], counts[:, :, :-1]
        between = pt.log(-pt.expm1(-(cuts[:, 1:] - cuts[:, :-1])))
        pm.Potential(
            "likelihood",
            pt.sum(above * eta - (above + below) * pt.softplus(eta))
            + pt.sum(counts[:, :, 1:-1].sum(0) * between),
        )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts")
    parser.add_argument("seed", type=int)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--structure", choices=("one-trait", "correlated"), default="one-trait")
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--once", action="store_true", help="without a run before that warms up")
    options = parser.parse_args()
    began = time.perf_counter()
    correlated = options.structure == "correlated"
    model = model_of(np.load(options.counts).astype(float), correlated)
    compiled = nutpie.compile_pymc_model(model)
    compile_seconds = time.perf_counter() - began
    seconds, cpu_seconds = [], []
    for seed in (options.seed,) if options.once else (options.seed + 1000, options.seed):
        began, worked = time.perf_counter(), time.process_time()
        trace = nutpie.sample(
            compiled,
            draws=options.draws,
            tune=options.tune,
            chains=4,
            seed=seed,
            progress_bar=False,
        )
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - worked)
    kept = trace["posterior"].dataset if hasattr(trace["posterior"], "dataset") else trace.posterior
    worst = {"r_hat_max": 0.0, "ess_min": np.inf}
    names = ["a", "b", "theta", "mu", "sigma"] + (["correlation"] if correlated else [])
    for name in names:
        draws = np.asarray(kept[name]).reshape(4, options.draws, -1)
        draws = draws[:, :, draws.std((0, 1)) > 1e-12]  # the diagonal of correlations is 1
        for column in range(draws.shape[2]):
            values = draws[:, :, column]
            bulk = float(arviz.ess(values, method="bulk"))
            tail = float(arviz.ess(values, method="tail", prob=(0.05, 0.95)))
            worst["ess_min"] = min(worst["ess_min"], bulk, tail)
            worst["r_hat_max"] = max(worst["r_hat_max"], float(arviz.rhat(values)))
    diverging = int(np.asarray(trace["sample_stats"]["diverging"]).sum())
    line = {
        "pymc": pm.__version__,
        "nutpie": nutpie.__version__,
        "r_hat_max": round(worst["r_hat_max"], 5),
        "ess_min": round(worst["ess_min"]),
        "divergences": diverging,
        "seconds": round(seconds[-1], 2),
        "cpu_seconds": round(cpu_seconds[-1], 2),
        "compile_seconds": round(compile_seconds, 2),
        "ess_per_second": round(worst["ess_min"] / seconds[-1], 1),
        "ess_per_cpu_second": round(worst["ess_min"] / cpu_seconds[-1], 1),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
