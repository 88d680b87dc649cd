"""Every benchmark, one after the other; each is a process of its own."""

import subprocess
import sys
from pathlib import Path

STUDIES = {"calibration_headline", "calibration_recovery", "calibration_sbc"}  # run by hand

for script in sorted(Path(__file__).parent.glob("*.py")):
    if not script.name.startswith("_") and script.stem not in STUDIES:
        print(f"\n== {script.stem}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{script.stem}"], check=True)
