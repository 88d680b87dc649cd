"""For tests: a server in a thread, and a pytest plugin with the fixture `pubsub_server`."""

from embedded_pubsub.testing.threads import ThreadedServer

__all__ = ["ThreadedServer"]
