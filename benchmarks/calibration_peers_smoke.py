"""PyMC with nutpie against ours: 10 personas x 6 constructs, the same data, in one run.

    python -m benchmarks.calibration_peers_smoke --pymc-python PYTHON [--observations 12 60 600]
        [--structure one-trait correlated] [--pymc-draws 1000] [--limit-seconds 1800]

PYTHON is an interpreter with pymc, nutpie and arviz: they share no lock with this project. Without
it PyMC is skipped. Seconds are warm on both sides; `cold` holds compiling too (ours in a process
of its own, with an empty cache and with one that an earlier process has filled).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STRUCTURES = ("one-trait", "correlated")
OURS = """
import json, sys, time
began = time.perf_counter()
from calibration.runtime import configure
configure(host_devices=4, cache_dir=sys.argv[1])
from benchmarks.calibration_smoke import ours, responses_of
import numpy as np
seed, observations, structure = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
data = responses_of(structure, seed, observations)
np.save(sys.argv[1] + "/counts.npy", data.counts)
loaded = time.perf_counter()
first = ours(data, seed, structure == "correlated")
cold = time.perf_counter() - loaded
print(json.dumps({"import_seconds": round(loaded - began, 2), "first_fit_seconds": round(cold, 2),
                  **ours(data, seed, structure == "correlated")}))
"""


def ran(limit_seconds: float, *command: str) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=limit_seconds
        )
    except subprocess.TimeoutExpired:
        return {"skipped": command[0], "why": f"not done after {limit_seconds:.0f} seconds"}
    if done.returncode:
        return {"skipped": command[0], "why": done.stderr.strip()[-300:]}
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**line, "process_seconds": round(time.perf_counter() - began, 2)}


def compared(options: argparse.Namespace, structure: str, observations: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        asked = [folder, str(options.seed), str(observations), structure]
        program = [sys.executable, "-c", OURS, *asked]
        line = {
            "structure": structure,
            "observations": observations,
            "ours_cold": ran(options.limit_seconds, *program),
            "ours_cached": ran(options.limit_seconds, *program),
            "pymc": {"skipped": "pymc", "why": "no --pymc-python"},
        }
        if options.pymc_python is not None:
            script = str(HERE / "calibration_peers_pymc.py")
            counts = str(Path(folder) / "counts.npy")
            line["pymc"] = ran(
                options.limit_seconds,
                *(options.pymc_python, script, counts, str(options.seed)),
                *("--structure", structure, "--draws", str(options.pymc_draws)),
            )
    ours, peer = line["ours_cached"], line["pymc"]
    if "ess_per_second" in ours and "ess_per_second" in peer:
        line["ess_per_second_ratio"] = round(ours["ess_per_second"] / peer["ess_per_second"], 2)
        by_cpu = ours["ess_per_cpu_second"] / peer["ess_per_cpu_second"]
        line["ess_per_cpu_second_ratio"] = round(by_cpu, 2)
        line["wall_ratio"] = round(peer["seconds"] / ours["wall_seconds"], 2)
        cold = line["ours_cold"]["process_seconds"]
        line["cold_process_ratio"] = round(peer["process_seconds"] / cold, 2)
        line["cached_process_ratio"] = round(peer["process_seconds"] / ours["process_seconds"], 2)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pymc-python", default=None)
    parser.add_argument("--observations", type=int, nargs="+", default=[12, 60, 600])
    parser.add_argument("--structure", nargs="+", choices=STRUCTURES, default=list(STRUCTURES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pymc-draws", type=int, default=1000)
    parser.add_argument("--limit-seconds", type=float, default=1800.0)
    options = parser.parse_args()
    for structure in options.structure:
        for observations in options.observations:
            print(json.dumps(compared(options, structure, observations)), flush=True)


if __name__ == "__main__":
    main()
