"""Respondents who answer each item many times, against R's mirt: marginal maximum likelihood.

    python -m benchmarks.calibration_peers_repeated [--rscript Rscript] [--respondents 300]
        [--answers 12] [--seeds 0 1 2]

mirt has no such data. It is given each answer as a column of its own, those of an item held to the
same slope and intercepts. Eight simulated items of four categories, plain (a from 0.8 to 2.2) and
steep (two of them a = 4 and 6). A line of JSON for each: log-likelihoods, and the largest
difference of all a and b in mirt's standard errors.
"""

import argparse
import csv
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.runtime import configure

configure(host_devices=4)

from benchmarks.calibration_peers import Peer, against, asked_of  # noqa: E402  # after JAX's settings
from calibration import CalibrationError, Responses, fit  # noqa: E402

ITEMS = tuple(f"i{j}" for j in range(8))
SLOPES = {
    "plain": np.linspace(0.8, 2.2, 8),
    "steep": np.array([0.8, 1.0, 1.2, 1.5, 1.8, 2.2, 4.0, 6.0]),
}


def grades_of(a: NDArray[np.float64], n: int, answers: int, seed: int) -> NDArray[np.int64]:
    """Shape (n, n_items, answers), 0 to 3."""
    rng = np.random.default_rng((seed, n, answers))
    theta = rng.standard_normal((n, 1, 1, 1))
    b = np.array([-1.2, 0.0, 1.2]) + rng.uniform(-0.6, 0.6, (a.size, 1))
    noise = rng.logistic(size=(n, a.size, answers, 1))
    eta = a[:, None, None] * (theta - b[:, None, :])
    return (eta + noise > 0).sum(3)


def by_mirt(rscript: str, grades: NDArray[np.int64]) -> Peer | None:
    n, _, answers = grades.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grades.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(f"{item}@{k}" for item in ITEMS for k in range(answers))
            writer.writerows(grades.reshape(n, -1).tolist())
        return asked_of(rscript, path, "mirt-repeated")


def compared(rscript: str, grades: NDArray[np.int64]) -> dict[str, object]:
    who, item, _ = (part.ravel() for part in np.indices(grades.shape))
    responses = Responses.from_columns(
        "f", who.astype(str), np.array(ITEMS)[item], grades.ravel(), items=ITEMS
    )
    peer = by_mirt(rscript, grades)
    if peer is None:
        return {}
    try:
        fit(responses, seed=0, method="mml")
        began = time.perf_counter()
        found = fit(responses, seed=0, method="mml")
    except CalibrationError as error:
        return {"refused": str(error), "mirt": peer.said()}
    return against(found, peer, time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rscript", default="Rscript")
    parser.add_argument("--respondents", type=int, default=300)
    parser.add_argument("--answers", type=int, nargs="*", default=[12])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    options = parser.parse_args()
    if not shutil.which(options.rscript):
        print(json.dumps({"skipped": "mirt", "why": f"no {options.rscript} on the path"}))
        return
    for answers in options.answers:
        for name, a in SLOPES.items():
            for seed in options.seeds:
                grades = grades_of(a, options.respondents, answers, seed)
                line = {"items": name, "answers": answers, "seed": seed}
                told = compared(options.rscript, grades)
                print(json.dumps(line | told), flush=True)


if __name__ == "__main__":
    main()
