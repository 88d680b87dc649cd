"""The same seed gives the same bytes in another process, whatever was compiled before."""

import subprocess
import sys

import pytest

PROGRAM = """
import hashlib, sys
import numpy as np
import calibration

calibration.configure(cache_dir=sys.argv[1], host_devices=4)
method, n = sys.argv[2], int(sys.argv[3])
truth = calibration.Truth(7, n, ("art", "ideas", "values"), 4)
who, turn, item = (axis.ravel() for axis in np.indices((n, 600 // n, 3)))
names = np.array(truth.constructs)[item]
grades = calibration.simulate_grades(truth, who, 0, turn, names)
responses = calibration.Responses.from_columns("f", who, names, grades)
settings = calibration.SamplerSettings(warmup=100, draws=100)
fit = calibration.fit(responses, seed=5, sampler=settings, method=method)
print(calibration.GrmArtefact.from_fit(fit).to_json())
for name, draws in fit.draws.items():
    print(name, hashlib.sha256(draws.tobytes()).hexdigest())
print(hashlib.sha256(fit.theta.mean.tobytes()).hexdigest())
if fit.draws:
    print(calibration.compare_models(fit, responses, seed=5))
"""


def said(cache: str, method: str, n: int) -> str:
    arguments = [cache, method, str(n)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(("method", "n"), [("nuts", 10), ("nuts", 100), ("mml", 100)])
def test_two_processes_say_the_same(request: pytest.FixtureRequest, method: str, n: int) -> None:
    """The second finds its programs compiled."""
    cache = str(request.config.cache.mkdir("programs"))
    first, second = said(cache, method, n), said(cache, method, n)
    assert '"model": "grm"' in first
    assert first == second
