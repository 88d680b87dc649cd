"""Simulation-based calibration (Talts et al. 2018): are posterior ranks of the truth uniform?

    python -m benchmarks.calibration_sbc [--replications 200] [--seed 0] [--respondents 8]
        [--answers 15] [--correlated] [--kept FILE]

Truths come from the stated prior. Data in which a category was not seen are drawn again: the
choice looks at the data alone, so ranks stay uniform. Up to 64 respondents theta is sampled, with
more it is integrated out: each way has its own run. With ``--correlated`` items w and x share a
trait, y and z have their own, and the correlations are LKJ(2)'s. Prints a line of JSON per
parameter: the chi-squared p-value over ten bins, and the ECDF's largest distance with its 99% band;
then, for all parameters at once (Bonferroni), which leave the band and the smallest p-value. Data
that are refused are counted and left out: that too is decided by the data alone. ``--kept`` appends
each replication's ranks to a file as soon as they are known; the same command goes on from there.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.runtime import configure

configure(host_devices=4)

from scipy import stats  # noqa: E402  # after JAX's settings

from calibration import density, grm  # noqa: E402
from calibration.correlated import CorrelatedFit, fit_correlated  # noqa: E402
from calibration.data import Responses  # noqa: E402
from calibration.errors import CalibrationError  # noqa: E402
from calibration.results import Diagnostics, Fit, Priors, SamplerSettings  # noqa: E402

PRIORS = Priors()
ITEMS = ("w", "x", "y", "z")
OF_ITEM = ("p", "p", "q", "r")
TRAITS = ("p", "q", "r")
RANKS = 99
WELL_MIXED = 1.05
SEEDS_APART = 1_000_000
Truth = Mapping[str, NDArray[np.float64]]


def draw_correlation(rng: np.random.Generator) -> NDArray[np.float64]:
    """LKJ(2) of three traits, by rejection from what is uniform: its density is |Omega|."""
    while True:
        r = rng.uniform(-1, 1, 3)
        omega = np.array([[1, r[0], r[1]], [r[0], 1, r[2]], [r[1], r[2], 1]])
        if np.linalg.eigvalsh(omega)[0] > 0 and rng.random() < np.linalg.det(omega):
            return omega


def truth_and_data(
    rng: np.random.Generator, n: int, answers: int, correlated: bool
) -> tuple[Truth, Responses]:
    while True:
        mean = rng.normal(0, density.MU_SD)
        sd = np.exp(rng.normal(np.log(PRIORS.log_discrimination_sd), density.LOG_SIGMA_SD))
        a = np.exp(mean + sd * rng.standard_normal(len(ITEMS)))
        cuts = np.sort(rng.normal(0, PRIORS.cut_sd, (len(ITEMS), 2)), axis=1)
        omega = draw_correlation(rng) if correlated else np.ones((1, 1))
        theta = rng.standard_normal((n, len(omega))) @ np.linalg.cholesky(omega).T
        by_item = theta[:, [TRAITS.index(trait) for trait in OF_ITEM] if correlated else [0] * 4]
        eta = np.repeat((by_item * a)[:, :, None], answers, 2)
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
        "theta": theta if correlated else theta[:, 0],
        "correlation": omega,
    }
    return truth, responses


def fitted(responses: Responses, seed: int, correlated: bool) -> Fit | CorrelatedFit:
    if correlated:
        settings = SamplerSettings(draws=500, target_accept=0.75)
        return fit_correlated(responses, seed=seed, traits=OF_ITEM, sampler=settings)
    return grm.fit(responses, seed=seed, sampler=SamplerSettings(draws=500))


def ranks(truth: Truth, draws: Mapping[str, NDArray[np.float64]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, drawn in draws.items():
        flat = drawn.reshape(-1, *drawn.shape[2:])
        thin = flat[np.linspace(0, len(flat) - 1, RANKS).astype(int)]
        below = np.atleast_1d((thin < truth[name]).sum(0))
        found |= {
            f"{name}{list(at)}": int(rank)
            for at, rank in np.ndenumerate(below)
            if name != "correlation" or at[0] < at[1]
        }
    return found


def trouble(diagnostics: Diagnostics) -> dict[str, float] | None:
    """What a reader of this one fit would have been warned of."""
    told = {"r_hat_max": diagnostics.r_hat_max or 1.0, "divergences": diagnostics.divergences}
    fine = told["r_hat_max"] <= WELL_MIXED and not told["divergences"]
    return None if fine else told


def verdict(values: list[int]) -> dict[str, float]:
    ordered = np.sort((np.array(values) + 0.5) / (RANKS + 1))
    observed = np.histogram(values, np.linspace(0, RANKS + 1, 11))[0]
    return {
        "replications": len(values),
        "chi2_p": round(float(stats.chisquare(observed).pvalue), 4),
        "ecdf_distance": round(float(stats.kstest(ordered, "uniform").statistic), 3),
        "ecdf_band": band(0.99, len(values)),
    }


def band(level: float, replications: int) -> float:
    """How far the ECDF of uniform ranks stays from the diagonal (Kolmogorov)."""
    return round(float(stats.kstwo.ppf(level, replications)), 3)


def together(table: dict[str, dict[str, float]], used: int, refused: int) -> dict[str, object]:
    def outside(level: float) -> list[str]:
        return [
            name
            for name, row in table.items()
            if row["ecdf_distance"] > band(level, int(row["replications"]))
        ]

    of_all = 1 - 0.01 / len(table)
    smallest = min(row["chi2_p"] for row in table.values())
    return {
        "replications": used,
        "refused": refused,
        "parameters": len(table),
        "outside_own_band": outside(0.99),
        "band_of_all": band(of_all, used),
        "outside_band_of_all": outside(of_all),
        "smallest_chi2_p_of_all": round(min(1.0, smallest * len(table)), 4),
    }


def replicated(truth: Truth, data: Responses, seed: int, correlated: bool) -> dict[str, object]:
    """What one replication tells: ranks and trouble, or why it was refused."""
    try:
        fit = fitted(data, seed, correlated)
    except CalibrationError as error:
        return {"refused": str(error)}
    return {"trouble": trouble(fit.diagnostics), "ranks": ranks(truth, fit.draws)}


def known(kept: Path | None, settings: dict[str, object]) -> dict[int, dict[str, object]]:
    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    told = [json.loads(line) for line in lines]
    if any(one["settings"] != settings for one in told):
        raise SystemExit(f"{kept} keeps ranks of other settings than {settings}: name another file")
    return {one["replication"]: one for one in told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--respondents", type=int, default=8)
    parser.add_argument("--answers", type=int, default=15)
    parser.add_argument("--correlated", action="store_true")
    parser.add_argument("--kept", type=Path)
    options = parser.parse_args()
    settings = {
        name: value for name, value in vars(options).items() if name not in ("replications", "kept")
    }
    rng = np.random.default_rng(options.seed)
    told = known(options.kept, settings)
    for replication in range(options.replications):
        truth, data = truth_and_data(rng, options.respondents, options.answers, options.correlated)
        if replication in told:
            continue
        seed = options.seed * SEEDS_APART + replication
        one = replicated(truth, data, seed, options.correlated)
        told[replication] = one
        if warned := one.get("refused") or one.get("trouble"):
            print(json.dumps({"replication": replication, "warned": warned}), flush=True)
        if options.kept:
            with options.kept.open("a") as file:
                file.write(
                    json.dumps({"settings": settings, "replication": replication} | one) + "\n"
                )
    used = [one["ranks"] for one in told.values() if "ranks" in one]
    # Traits are drawn where nodes are each one's own, which the data alone decide.
    names = dict.fromkeys(name for one in used for name in one)
    table = {name: verdict([one[name] for one in used if name in one]) for name in names}
    for name, row in table.items():
        print(json.dumps({"parameter": name, **row}))
    print(json.dumps(together(table, len(used), len(told) - len(used))))


if __name__ == "__main__":
    main()
