"""A Google Cloud Pub/Sub server in one process, in memory or durable on SQLite."""

from embedded_pubsub.errors import DataDirError, DataDirInUseError
from embedded_pubsub.server import Server

__all__ = ["DataDirError", "DataDirInUseError", "Server"]
