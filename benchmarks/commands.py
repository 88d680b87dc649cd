"""What a user waits for: --help, the smoke run with a cold and a warm cache, real responses.

The ratio is warm against cold: what the persistent compile cache saves.

Run: python -m benchmarks.commands
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def nexus(home: Path, *arguments: str) -> tuple[float, str]:
    """Wall seconds and stdout of a command."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "nexus", *arguments],
        cwd=ROOT,
        env={**os.environ, "NEXUS_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.perf_counter() - start, done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        help_seconds = min(nexus(home, "--help")[0] for _ in range(5))
        cold_seconds, cold = nexus(home, "run", "--json")
        warm_seconds, _ = nexus(home, "run", "--iteration", "2", "--json")
        replay_seconds, _ = nexus(home, "run", "--json")
        bfi_seconds, bfi = nexus(
            Path(folder) / "bfi", "run", "--iteration", "1", "--json",
            "--responses", "examples/bfi.csv", "--scales", "examples/bfi.toml",
        )  # fmt: skip
    print(
        json.dumps(
            {
                "help_seconds": round(help_seconds, 3),
                "smoke_cold_seconds": round(cold_seconds, 1),
                "smoke_warm_seconds": round(warm_seconds, 1),
                "warm_against_cold": round(warm_seconds / cold_seconds, 2),
                "replay_seconds": round(replay_seconds, 2),
                "bfi_seconds": round(bfi_seconds, 1),
                "families": _families(json.loads(cold)) + _families(json.loads(bfi)),
            },
            indent=2,
        )
    )


def _families(document: dict[str, Any]) -> list[dict[str, Any]]:
    names = ("family", "status", "r_hat_max", "ess_bulk_min", "ess_tail_min", "sampling_seconds")
    return [{name: family[name] for name in names} for family in document["families"]]


if __name__ == "__main__":
    main()
