"""Are known parameters found again? Root mean square error and coverage by sample size.

    python -m benchmarks.calibration_recovery [--replications 100] [--method mml | nuts]
        [--respondents 100 300 1000 3000 10000] [--draws 250]

Five items of four categories, a from 0.8 to 2.2. Prints a line of JSON per sample size: RMSE of a
and b, the RMSE that the reported errors promise, and the share of 95% intervals that hold the
truth, with its Monte Carlo error over replications. A sample in which a category was not seen, or
where no maximum exists, is counted and left out.
"""

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from calibration.runtime import configure

configure(host_devices=4)

from calibration import CalibrationError, Responses, fit  # noqa: E402  # after JAX's settings
from calibration.results import Fit, Method, SamplerSettings  # noqa: E402

A = np.array([0.8, 1.1, 1.4, 1.8, 2.2])
B = np.array([-1.2, 0.0, 1.2]) + np.linspace(-0.5, 0.5, 5)[:, None]
ITEMS = tuple(f"i{j}" for j in range(5))


def survey(rng: np.random.Generator, n: int) -> Responses:
    theta = rng.standard_normal((n, 1, 1))
    noise = rng.logistic(size=(n, 5, 1))
    grades = (A[:, None] * (theta - B) + noise > 0).sum(2).astype(float)
    if any(np.unique(column).size < 4 for column in grades.T):
        raise CalibrationError("a category was not seen")
    return Responses.from_matrix("f", grades, items=ITEMS)


def judged(found: Fit) -> NDArray[np.float64]:
    """Error, reported error and whether the interval holds, shape (parameters, 3): a, then b."""
    told = [*found.discrimination, *(s for row in found.thresholds for s in row)]
    rows = [
        (s.mean - true, s.sd, s.hdi95[0] <= true <= s.hdi95[1])
        for s, true in zip(told, [*A, *B.ravel()], strict=True)
    ]
    return np.array(rows, float)


def replicate(
    n: int, replications: int, method: Method, sampler: SamplerSettings
) -> tuple[NDArray[np.float64], int]:
    """Rows of `judged`, shape (replications, parameters, 3), and how many were left out."""
    tables, left_out = [], 0
    while len(tables) < replications:
        rng = np.random.default_rng((n, len(tables) + left_out))
        try:
            found = fit(survey(rng, n), seed=len(tables), method=method, sampler=sampler)
            tables.append(judged(found))
        except CalibrationError:
            left_out += 1
    return np.stack(tables), left_out


def figures(table: NDArray[np.float64]) -> dict[str, float]:
    covered = table[:, :, 2].mean(1)
    return {
        "rmse": round(float(np.sqrt((table[:, :, 0] ** 2).mean())), 4),
        "promised": round(float(np.sqrt((table[:, :, 1] ** 2).mean())), 4),
        "coverage": round(float(covered.mean()), 4),
        "coverage_mcse": round(float(covered.std(ddof=1) / np.sqrt(len(covered))), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=100)
    parser.add_argument("--method", choices=("mml", "nuts"), default="mml")
    parser.add_argument("--respondents", type=int, nargs="+", default=[100, 300, 1000, 3000, 10000])
    parser.add_argument("--draws", type=int, default=250, help="per chain, of four")
    options = parser.parse_args()
    sampler = SamplerSettings(draws=options.draws)
    for n in options.respondents:
        table, left_out = replicate(n, options.replications, options.method, sampler)
        line = {"respondents": n, "left_out": left_out}
        print(
            json.dumps({**line, "a": figures(table[:, :5]), "b": figures(table[:, 5:])}), flush=True
        )


if __name__ == "__main__":
    main()
