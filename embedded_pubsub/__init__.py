"""A Google Cloud Pub/Sub server in one process, in memory or durable on SQLite."""

from typing import TYPE_CHECKING

from embedded_pubsub.errors import DataDirError, DataDirInUseError

if TYPE_CHECKING:
    from embedded_pubsub.server import Server

__all__ = ["DataDirError", "DataDirInUseError", "Server"]


def __getattr__(name: str) -> type["Server"]:
    # Loaded when it is asked for, so that a process of its own can first see to a quick start.
    if name == "Server":
        from embedded_pubsub.server import Server  # noqa: PLC0415 - as said above

        return Server
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
