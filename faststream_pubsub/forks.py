"""gRPC does not go on in a forked process: its threads stay behind, and calls would never end."""

import os
from typing import Any, Final, Protocol
from weakref import WeakSet

from faststream_pubsub.errors import ConnectError

_TEXT: Final = (
    "this process was forked from one that had connected a broker, and gRPC can't go on in it: "
    "start processes with multiprocessing's `spawn`, or fork before the first broker connects."
)


class _Client(Protocol):
    def leave(self) -> None:
        """Make no more calls."""


_clients: WeakSet[_Client] = WeakSet()
_has_connected = False
_is_forked = False


def opened(client: _Client) -> None:
    """Remember a client whose connection must not be used in forks of this process."""
    global _has_connected  # noqa: PLW0603 - it is of the process
    _has_connected = True
    _clients.add(client)


def check() -> None:
    """See whether gRPC can be used here.

    Raises:
        ConnectError: This process is a fork of one that has used it.
    """
    if _is_forked:
        raise ConnectError(_TEXT)


async def refuse(*_: Any, **__: Any) -> Any:  # noqa: ANN401 - it stands for any call
    """Stand for a call of a client that was left behind."""
    raise ConnectError(_TEXT)


def _after_fork() -> None:
    global _is_forked  # noqa: PLW0603 - as above
    _is_forked = _has_connected
    for client in _clients:
        client.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
