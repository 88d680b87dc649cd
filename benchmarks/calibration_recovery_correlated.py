"""Are known correlations and items found again where traits are integrated out?

    python -m benchmarks.calibration_recovery_correlated [--replications 50] [--method mml | nuts]
        [--respondents 500 2800]

Three traits correlated by 0.7, 0.3 and -0.4, five items of four categories each with a from 0.8 to
2.2, one answer to each, a tenth of them missing. Prints a line of JSON per sample size as
`calibration_recovery` does: RMSE, the RMSE that the reported errors promise, and the share of 95%
intervals that hold the truth, for correlations, a and b. With ``nuts``, 4 x 250 draws, and the
largest R-hat, the smallest ESS and the divergences of all fits.
"""

import argparse
import json
import time

import numpy as np
from numpy.typing import NDArray

from calibration.runtime import configure

configure(host_devices=4)

from benchmarks.calibration_recovery import A, B, figures  # noqa: E402  # after JAX's settings
from calibration import CalibrationError, Responses, SamplerSettings, fit_correlated  # noqa: E402
from calibration.correlated import CorrelatedFit  # noqa: E402
from calibration.results import Method  # noqa: E402

OMEGA = np.array([[1.0, 0.7, 0.3], [0.7, 1.0, -0.4], [0.3, -0.4, 1.0]])
OF_ITEM = np.repeat(np.arange(3), 5)
ITEMS = tuple(f"t{t}i{j}" for t in range(3) for j in range(5))
SLOPES, CUTS = np.tile(A, 3), np.tile(B, (3, 1))
MISSING = 0.1


def survey(rng: np.random.Generator, n: int) -> Responses:
    theta = rng.standard_normal((n, 3)) @ np.linalg.cholesky(OMEGA).T
    noise = rng.logistic(size=(n, 15, 1))
    grades = (SLOPES[:, None] * (theta[:, OF_ITEM, None] - CUTS) + noise > 0).sum(2).astype(float)
    grades[rng.random(grades.shape) < MISSING] = np.nan
    if any(np.unique(column[~np.isnan(column)]).size < 4 for column in grades.T):
        raise CalibrationError("a category was not seen")
    return Responses.from_matrix("f", grades, items=ITEMS)


def judged(found: CorrelatedFit) -> NDArray[np.float64]:
    """Error, reported error and whether the interval holds: correlations, a, then b."""
    told = [pair.value for pair in found.correlations]
    told += [estimate.discrimination for estimate in found.estimates]
    told += [cut for estimate in found.estimates for cut in estimate.thresholds]
    true = [*OMEGA[np.triu_indices(3, 1)], *SLOPES, *CUTS.ravel()]
    rows = [
        (s.mean - value, s.sd, s.hdi95[0] <= value <= s.hdi95[1])
        for s, value in zip(told, true, strict=True)
    ]
    return np.array(rows, float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=50)
    parser.add_argument("--method", choices=("mml", "nuts"), default="mml")
    parser.add_argument("--respondents", type=int, nargs="+", default=[500, 2800])
    options = parser.parse_args()
    method: Method = options.method
    for n in options.respondents:
        tables, chains, left_out = [], [], 0
        began = time.process_time()
        for seed in range(options.replications):
            try:
                found = fit_correlated(
                    survey(np.random.default_rng((n, seed)), n),
                    seed=seed,
                    traits=[f"t{t}" for t in OF_ITEM],
                    method=method,
                    sampler=SamplerSettings(draws=250),
                )
            except CalibrationError:
                left_out += 1
                continue
            d = found.diagnostics
            tables.append(judged(found))
            chains.append((d.r_hat_max or 0, -(d.ess_tail_min or 0), d.divergences))
        table = np.stack(tables)
        line: dict[str, object] = {"respondents": n, "left_out": left_out}
        line["cpu_seconds_a_fit"] = round((time.process_time() - began) / len(tables), 2)
        if method == "nuts":
            worst = np.max(chains, axis=0)
            line |= {"r_hat_max": worst[0], "ess_tail_min": -worst[1], "divergences": worst[2]}
        parts = {"correlations": slice(3), "a": slice(3, 18), "b": slice(18, None)}
        line |= {name: figures(table[:, part]) for name, part in parts.items()}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
