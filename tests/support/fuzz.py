"""How long fuzz tests run: short and the same every time, or, by hand, long and at random.

`FUZZ_EXAMPLES=20000 pytest -k fuzz …` runs each with that many examples.
"""

import os

from hypothesis import HealthCheck, settings


def fuzzed(examples: int) -> settings:
    """Give the settings of a fuzz test that has this many examples unless told otherwise."""
    wanted = os.environ.get("FUZZ_EXAMPLES")
    return settings(
        max_examples=int(wanted or examples),
        deadline=None,
        derandomize=wanted is None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
