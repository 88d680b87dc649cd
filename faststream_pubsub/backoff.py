"""How long to wait before the next try."""

import random
from collections.abc import Iterator

_random = random.Random()  # noqa: S311 - jitter spreads load, it keeps no secret


def full_jitter(*, first_seconds: float = 0.1, cap_seconds: float = 10.0) -> Iterator[float]:
    """Delays in seconds, each uniform between 0 and a bound that doubles up to a cap.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    bound = first_seconds
    while True:
        yield _random.uniform(0, bound)
        bound = min(cap_seconds, bound * 2)


def spread(value: float, *, low: float, high: float) -> float:
    """A random share of `value`, between `low` and `high` of it."""
    return value * _random.uniform(low, high)
