"""A plain NumPyro port of the graded response model against ours, on the same data, in one run.

    python -m benchmarks.calibration_smoke [--seeds 3] [--observations 60] [--plain-draws 1000]
        [--structure one-trait | correlated] [--same-xla]

Both sample 10 personas x 6 constructs x 5 categories: one trait, or a trait per construct with
correlations ~ LKJ(2). The port (`_calibration_plain.py`) runs in a process of its own, in turn with
ours; with ``--same-xla`` it too has the option of XLA that `calibration.configure` sets. Seconds
are warm: each side has run once before; CPU seconds are told as well, for a machine that others
use. ESS is the smaller of bulk and tail, R-hat and ESS the worst over every parameter, derived
ones included.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

AS_USERS_HAVE_IT = dict(os.environ)

from calibration.runtime import configure  # noqa: E402

configure(host_devices=4)

from benchmarks._calibration_plain import figures  # noqa: E402
from benchmarks.calibration_headline import STRUCTURES, responses_of  # noqa: E402
from calibration import grm  # noqa: E402
from calibration.correlated import fit_correlated  # noqa: E402
from calibration.data import Responses  # noqa: E402
from calibration.results import Diagnostics  # noqa: E402

RATIOS = ("ess_per_second", "ess_per_cpu_second")


class Plain:
    """The port in its process."""

    def __init__(self, draws: int, correlated: bool, same_xla: bool) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "benchmarks._calibration_plain",
                "--draws", str(draws), *(["--correlated"] if correlated else []),
            ],
            env=dict(os.environ) if same_xla else AS_USERS_HAVE_IT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, responses: Responses, seed: int) -> dict[str, float]:
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the port has no pipes")
        asked = {"seed": seed, "counts": responses.counts.tolist()}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        found: dict[str, float] = json.loads(self.process.stdout.readline())
        return found


def diagnosed(responses: Responses, seed: int, correlated: bool) -> Diagnostics:
    fit = fit_correlated if correlated else grm.fit
    return fit(responses, seed=seed).diagnostics


def ours(responses: Responses, seed: int, correlated: bool) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    d = diagnosed(responses, seed, correlated)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    ess = min(d.ess_bulk_min or 0.0, d.ess_tail_min or 0.0)
    shown = figures(d.r_hat_max or np.nan, ess, d.divergences, wall, cpu)
    return {**shown, "sampling_seconds": round(d.sampling_seconds, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--observations", type=int, default=60)
    parser.add_argument("--plain-draws", type=int, default=1000)
    parser.add_argument("--structure", choices=STRUCTURES, default="one-trait")
    parser.add_argument("--same-xla", action="store_true")
    options = parser.parse_args()
    correlated = options.structure == "correlated"
    first = responses_of(options.structure, 1000, options.observations)
    began = time.perf_counter()
    diagnosed(first, 0, correlated)
    cold = time.perf_counter() - began
    plain = Plain(options.plain_draws, correlated, options.same_xla)
    plain(first, 0)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        data = responses_of(options.structure, seed, options.observations)
        rows.append(
            {"seed": seed, "plain": plain(data, seed), "ours": ours(data, seed, correlated)}
        )
        print(json.dumps(rows[-1]), flush=True)
    ratios = {
        name: np.median([row["ours"][name] / row["plain"][name] for row in rows]) for name in RATIOS
    }
    faster = np.median([row["plain"]["wall_seconds"] / row["ours"]["wall_seconds"] for row in rows])
    print(
        json.dumps(
            {
                "structure": options.structure,
                "observations": options.observations,
                "cold_seconds": round(cold, 1),
                **{f"{name}_ratio": round(float(ratio), 1) for name, ratio in ratios.items()},
                "wall_ratio": round(float(faster), 1),
            }
        )
    )
    plain.process.kill()


if __name__ == "__main__":
    main()
