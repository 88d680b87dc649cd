"""IDs of messages' causes."""

import os
import random

# seeded by the system, apart from `random`'s own generator, which programs seed as they like
_random = random.Random()  # noqa: S311 - nothing is kept secret by a correlation ID
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def make_correlation_id() -> str:
    """Make a random ID in the form of a UUID of version 4, for a quarter of `uuid4`'s time."""
    digits = f"{_random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
