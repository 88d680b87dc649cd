"""One user of a file at a time, over tasks, processes and restarts, each in turn.

The kernel lets go of ``flock`` when its holder dies, so a killed process blocks nobody.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_FIRST_WAIT_SECONDS = 0.001
_LONGEST_WAIT_SECONDS = 0.02


@contextmanager
def turn(path: Path, *, timeout_seconds: float) -> Iterator[None]:
    """Hold ``path`` alone.

    Whoever waits next in line holds the queue, so that a busy process can't take turn after turn
    while another one sleeps between two looks.

    Raises:
        TimeoutError: no turn came within ``timeout_seconds``.
        OSError: the lock files can't be written.
    """
    deadline = time.monotonic() + timeout_seconds
    with ExitStack() as held:
        with _locked(path.with_name(f"{path.name}.queue"), deadline):
            held.enter_context(_locked(path.with_name(f"{path.name}.lock"), deadline))
        yield


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    with path.open("ab") as file:
        wait_seconds = _FIRST_WAIT_SECONDS
        while not _try_lock(file.fileno()):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} is locked by another process")
            time.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
