"""Correlated traits of examples/bfi.csv against R's mirt.

    python -m benchmarks.calibration_peers_correlated --rscript Rscript [--points 5000 15000]
        [--posterior]

Maximum likelihood by both: mirt by Metropolis-Hastings Robbins-Monro (MHRM) and by EM on so many
quasi-Monte Carlo points (QMCEM), started at MHRM's estimates. Prints a line of JSON for each: the
largest differences of correlations and of discriminations, in our standard errors and as numbers,
and the log-likelihoods. With ``--posterior`` also our posterior means against our maximum.
"""

import argparse
import csv
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from calibration.runtime import configure

configure(host_devices=4)

from benchmarks.calibration_scale import bfi  # noqa: E402  # after JAX's settings
from calibration import Responses, fit_correlated  # noqa: E402
from calibration.correlated import CorrelatedFit  # noqa: E402
from calibration.results import Summary  # noqa: E402

SCRIPT = Path(__file__).with_suffix(".R")


def named(fit: CorrelatedFit) -> dict[tuple[str, ...], Summary]:
    found = {("correlation", pair.first, pair.second): pair.value for pair in fit.correlations}
    return found | {("discrimination", e.item, ""): e.discrimination for e in fit.estimates}


def by_mirt(
    rscript: str, responses: Responses, traits: list[str], how: list[str]
) -> dict[tuple[str, ...], float]:
    grades = np.full(responses.counts.shape[:2], np.nan)
    who, item, grade = np.nonzero(responses.counts)
    grades[who, item] = grade + 1
    names = list(dict.fromkeys(traits))
    lines = [
        f"{name} = {','.join(i for i, t in zip(responses.items, traits, strict=True) if t == name)}"
        for name in names
    ]
    with tempfile.TemporaryDirectory() as folder:
        table, model = Path(folder) / "grades.csv", Path(folder) / "model.txt"
        rows = [["NA" if np.isnan(g) else int(g) for g in row] for row in grades]
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([responses.items, *rows])
        model.write_text("\n".join([*lines, f"COV = {'*'.join(names)}"]) + "\n")
        ran = subprocess.run(
            [rscript, str(SCRIPT), str(table), str(model), *how],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    told = [line.split(",") for line in ran.stdout.splitlines() if line.count(",") == 3]
    return {tuple(key): float(value) for *key, value in told}


def compared(
    ours: dict[tuple[str, ...], Summary], theirs: dict[tuple[str, ...], float]
) -> dict[str, float]:
    found: dict[str, float] = {}
    for kind in ("correlation", "discrimination"):
        pairs = [(ours[key], theirs[key]) for key in ours if key[0] == kind]
        found[f"{kind}_errors"] = round(max(abs(o.mean - t) / o.sd for o, t in pairs), 3)
        found[f"{kind}_largest"] = round(max(abs(o.mean - t) for o, t in pairs), 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rscript", default="")
    parser.add_argument("--points", type=int, nargs="*", default=[5000, 15000])
    parser.add_argument("--posterior", action="store_true")
    options = parser.parse_args()
    responses, traits = bfi(2800)
    began = time.process_time()
    ours = named(fit_correlated(responses, seed=0, traits=traits, method="mml"))
    print(json.dumps({"ours_cpu_seconds": round(time.process_time() - began, 1)}), flush=True)
    if options.posterior:
        posterior = named(fit_correlated(responses, seed=0, traits=traits))
        means = {key: value.mean for key, value in posterior.items()}
        print(json.dumps({"posterior": compared(ours, means)}), flush=True)
    ways = [["MHRM"], *(["QMCEM", str(n)] for n in options.points)] if options.rscript else []
    for how in ways:
        theirs = by_mirt(options.rscript, responses, traits, how)
        line = compared(ours, theirs)
        line["log_likelihood"] = theirs["log_likelihood", "", ""]
        line["cpu_seconds"] = theirs["cpu_seconds", "", ""]
        print(json.dumps({" ".join(how): line}), flush=True)


if __name__ == "__main__":
    main()
