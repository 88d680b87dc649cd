"""Simulation-based calibration (Talts et al. 2018): are posterior ranks of the truth uniform?

    python benchmarks/calibration_sbc.py [--replications 200] [--seed 0] [--respondents 8]

Truths come from the stated prior. Data in which a category was not seen are drawn again: the
choice looks at the data alone, so ranks stay uniform. Up to 64 respondents theta is sampled, with
more it is integrated out: each way has its own run. Prints a line of JSON per parameter: the
chi-squared p-value over ten bins, and the ECDF's largest distance with its 99% band.
"""

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from calibration.runtime import configure

configure(host_devices=4)

from scipy import stats  # noqa: E402  # after JAX's settings

from calibration import density, grm  # noqa: E402
from calibration.data import Responses  # noqa: E402
from calibration.results import SamplerSettings  # noqa: E402

ITEMS = ("w", "x", "y", "z")
RANKS = 99


def truth_and_data(
    rng: np.random.Generator, n: int, answers: int
) -> tuple[dict[str, NDArray[np.float64]], Responses]:
    while True:
        mean = rng.normal(0, density.MU_SD)
        sd = np.exp(rng.normal(density.LOG_SIGMA_CENTRE, density.LOG_SIGMA_SD))
        a = np.exp(mean + sd * rng.standard_normal(len(ITEMS)))
        cuts = np.sort(rng.normal(0, density.CUT_SD, (len(ITEMS), 2)), axis=1)
        theta = rng.standard_normal(n)
        eta = np.repeat(theta[:, None, None] * a[None, :, None], answers, 2)
        noise = rng.logistic(size=eta.shape)
        grades = sum((eta + noise > cuts[None, :, k, None]).astype(int) for k in (0, 1))
        if all(np.unique(grades[:, j]).size == 3 for j in range(len(ITEMS))):
            break
    who, which, _ = (axis.ravel() for axis in np.indices(grades.shape))
    names = np.char.zfill(who.astype(str), 5)
    responses = Responses.from_columns("f", names, np.array(ITEMS)[which], grades.ravel())
    truth = {
        "discrimination": a,
        "thresholds": cuts / a[:, None],
        "log_discrimination_mean": np.array(mean),
        "log_discrimination_sd": np.array(sd),
        "theta": theta,
    }
    return truth, responses


def ranks(truth: dict[str, NDArray[np.float64]], responses: Responses, seed: int) -> dict[str, int]:
    fit = grm.fit(responses, seed=seed, sampler=SamplerSettings(draws=500))
    found: dict[str, int] = {}
    for name, draws in fit.draws.items():
        flat = draws.reshape(-1, *draws.shape[2:])
        thin = flat[np.linspace(0, len(flat) - 1, RANKS).astype(int)]
        below = np.atleast_1d((thin < truth[name]).sum(0))
        found |= {f"{name}{list(at)}": int(rank) for at, rank in np.ndenumerate(below)}
    return found


def verdict(name: str, values: list[int]) -> dict[str, object]:
    ordered = np.sort((np.array(values) + 0.5) / (RANKS + 1))
    observed = np.histogram(values, np.linspace(0, RANKS + 1, 11))[0]
    distance = stats.kstest(ordered, "uniform").statistic
    return {
        "parameter": name,
        "chi2_p": round(float(stats.chisquare(observed).pvalue), 4),
        "ecdf_distance": round(float(distance), 3),
        "ecdf_band": round(float(stats.kstwo.ppf(0.99, len(values))), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--respondents", type=int, default=8)
    parser.add_argument("--answers", type=int, default=15)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    table: dict[str, list[int]] = {}
    for replication in range(options.replications):
        drawn = truth_and_data(rng, options.respondents, options.answers)
        for name, rank in ranks(*drawn, replication).items():
            table.setdefault(name, []).append(rank)
    lines = [verdict(name, values) for name, values in table.items()]
    for line in lines:
        print(json.dumps(line))
    outside = [
        str(line["parameter"]) for line in lines if line["ecdf_distance"] > line["ecdf_band"]
    ]  # type: ignore[operator]  # both are floats
    print(json.dumps({"replications": options.replications, "outside_band": outside}))


if __name__ == "__main__":
    main()
