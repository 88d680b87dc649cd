"""One suite for three servers: ours in memory, ours on disk, and Google's emulator.

Every test gets a project of its own. Where Google's emulator is known to differ from the
documentation, the test says so with `differs(...)`; it must then fail there.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.types import PublisherOptions
from google.pubsub_v1 import PublisherClient as UnbatchedPublisher

from embedded_pubsub import Server
from embedded_pubsub.testing import ThreadedServer
from tests.support.google_emulator import google_emulator


@contextmanager
def embedded(data_dir: Path | None) -> Iterator[tuple[str, str]]:
    """Run our server; gives its addresses, gRPC and REST."""
    with ThreadedServer(Server(data_dir=data_dir, rest_port=0)) as running:
        yield running.server.target, str(running.server.rest_target)


@contextmanager
def googles() -> Iterator[tuple[str, str]]:
    """Run Google's emulator, which serves gRPC and REST on one port."""
    with google_emulator() as target:
        yield target, target


@pytest.fixture(params=["memory", "durable", "google"])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Iterator[Callable[[str], tuple[str, str]]]:
    """Start each kind of server when it is first asked for; gives its addresses."""
    with ExitStack() as stack:

        @cache
        def start(kind: str) -> tuple[str, str]:
            directory = tmp_path_factory.mktemp(f"pubsub-{kind}")
            match kind:
                case "memory":
                    return stack.enter_context(embedded(None))
                case "durable":
                    return stack.enter_context(embedded(directory))
                case _:
                    return stack.enter_context(googles())

        yield start


@pytest.fixture
def target(kind, running) -> str:
    return running(kind)[0]


@pytest.fixture
def rest_target(kind, running) -> str:
    return running(kind)[1]


@pytest.fixture
def differs(kind, request) -> Callable[..., None]:
    """Say how Google's emulator differs from the documentation that the test holds to.

    Where it never answers, `hangs` keeps the test from waiting for it.
    """

    def say(how: str, *, hangs: bool = False) -> None:
        if kind == "google" and hangs:
            pytest.xfail(how)
        if kind == "google":
            request.applymarker(pytest.mark.xfail(reason=how, strict=True))

    return say


@dataclass
class PubSub:
    """The official clients on one server, in a project that no other test uses."""

    publisher: PublisherClient
    subscriber: SubscriberClient
    project: str = field(default_factory=lambda: f"p{uuid.uuid4().hex[:12]}")

    @property
    def topic(self) -> str:
        return f"projects/{self.project}/topics/topic"

    @property
    def subscription(self) -> str:
        return f"projects/{self.project}/subscriptions/subscription"

    def name(self, collection: str, id_: str) -> str:
        return f"projects/{self.project}/{collection}/{id_}"

    def create(self, **settings) -> None:
        """Create the topic and its subscription."""
        self.publisher.create_topic(name=self.topic)
        self.subscribe(self.subscription, **settings)

    def subscribe(self, subscription: str, **settings) -> None:
        settings = {"topic": self.topic, **settings}
        self.subscriber.create_subscription(request={"name": subscription, **settings})

    def publish(self, *bodies: str, topic: str = "", key: str = "", **attributes) -> list[str]:
        messages = [
            {"data": body.encode(), "ordering_key": key, "attributes": attributes}
            for body in bodies
        ]
        request = {"topic": topic or self.topic, "messages": messages}
        return list(UnbatchedPublisher.publish(self.publisher, request=request).message_ids)

    def pull(self, count: int = 100, subscription: str = "", *, now: bool = False) -> list:
        """Pull until there are `count` messages; with `now`, only what is there at once."""
        received: list = []
        request = {
            "subscription": subscription or self.subscription,
            "return_immediately": now,
        }
        while len(received) < count:
            request["max_messages"] = count - len(received)
            with (
                pytest.warns(DeprecationWarning, match="return_immediately") if now else _nothing()
            ):
                answer = self.subscriber.pull(request=request, timeout=20)
            received += answer.received_messages
            if now:
                break
        return received

    def ack(self, *received, subscription: str = "") -> None:
        ids = [each.ack_id for each in received]
        self.subscriber.acknowledge(
            request={"subscription": subscription or self.subscription, "ack_ids": ids}
        )

    def extend(self, seconds: int, *received, subscription: str = "") -> None:
        request = {
            "subscription": subscription or self.subscription,
            "ack_ids": [each.ack_id for each in received],
            "ack_deadline_seconds": seconds,
        }
        self.subscriber.modify_ack_deadline(request=request)

    def nack(self, *received, subscription: str = "") -> None:
        self.extend(0, *received, subscription=subscription)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@pytest.fixture
def pubsub(target, monkeypatch) -> Iterator[PubSub]:
    monkeypatch.setitem(os.environ, "PUBSUB_EMULATOR_HOST", target)
    options = PublisherOptions(enable_message_ordering=True)
    publisher, subscriber = PublisherClient(publisher_options=options), SubscriberClient()
    yield PubSub(publisher, subscriber)
    subscriber.close()
    publisher.stop()
    publisher.transport.close()
