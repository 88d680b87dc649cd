"""Every benchmark, one after the other; each is a process of its own."""

import subprocess
import sys
from pathlib import Path

STUDIES = {
    "broker_growth",
    "calibration_expectation",
    "calibration_gates",
    "calibration_headline",
    "calibration_peers",
    "calibration_peers_correlated",
    "calibration_peers_pymc",
    "calibration_peers_repeated",
    "calibration_peers_smoke",
    "calibration_personas",
    "calibration_recovery",
    "calibration_recovery_correlated",
    "calibration_sbc",
    "calibration_scale",
}
"""They take long, and are run by hand."""

for script in sorted(Path(__file__).parent.glob("*.py")):
    if not script.name.startswith("_") and script.stem not in STUDIES:
        print(f"\n== {script.stem}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{script.stem}"], check=True)
