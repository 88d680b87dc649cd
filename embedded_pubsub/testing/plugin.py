"""pytest plugin: one Pub/Sub server a session, and a project of its own for every test."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from embedded_pubsub.server import Server
from embedded_pubsub.testing.threads import ThreadedServer


@dataclass(frozen=True, slots=True)
class PubSubServer:
    """Where a test finds its Pub/Sub.

    Attributes:
        target: `host:port` of the server, as in `PUBSUB_EMULATOR_HOST`.
        rest_target: `host:port` of its REST endpoint.
        project: The id of a project that no other test has.
    """

    target: str
    rest_target: str
    project: str

    def topic(self, topic_id: str) -> str:
        """Give the full name of a topic of this test's project."""
        return f"projects/{self.project}/topics/{topic_id}"

    def subscription(self, subscription_id: str) -> str:
        """Give the full name of a subscription of this test's project."""
        return f"projects/{self.project}/subscriptions/{subscription_id}"


@pytest.fixture(scope="session")
def embedded_pubsub_server() -> Iterator[ThreadedServer]:
    """Run one server, in memory, for all tests that ask for one."""
    with ThreadedServer(Server(rest_port=0)) as running:
        yield running


@pytest.fixture
def pubsub_server(
    embedded_pubsub_server: ThreadedServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PubSubServer]:
    """Give a test an empty project; the environment leads Google's clients there."""
    project = f"test-{uuid.uuid4().hex[:16]}"
    server = embedded_pubsub_server.server
    found = PubSubServer(server.target, str(server.rest_target), project)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", found.target)
    monkeypatch.setenv("PUBSUB_PROJECT_ID", project)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    yield found
    embedded_pubsub_server.clear(project)
