"""Who connects: credentials whose tokens expire, and what is refused."""

import grpc
import pytest
from faststream.exceptions import SetupError
from faststream.security import BaseSecurity, SASLPlaintext
from google.auth.credentials import Credentials
from google.auth.exceptions import TransportError

from faststream_pubsub import PubSubBroker
from faststream_pubsub.connection import authorized, connect
from tests.support.token_gate import TokenGate

HOURS = 24


class Hourly(Credentials):
    """Tokens that are valid for the hour that the test says it is; some refreshes fail."""

    def __init__(self):
        super().__init__()
        self.hour = 0
        self.refreshed = []
        self.failed = set()

    @property
    def valid(self):
        return self.token == f"token-{self.hour}"

    def refresh(self, request):
        del request
        if self.hour % 6 == 5 and self.hour not in self.failed:
            self.failed.add(self.hour)
            raise TransportError("the metadata server does not answer")
        self.token = f"token-{self.hour}"
        self.refreshed.append(self.hour)


async def test_a_day_of_token_refreshes_loses_no_message(embedded_target, name, inbox):
    async with TokenGate(embedded_target) as gate:
        credentials = Hourly()
        gate.token = "token-0"
        broker = PubSubBroker(
            "p",
            target=gate.target,
            credentials=authorized(credentials, root_certificates=gate.root_certificates),
            logger=None,
        )

        @broker.subscriber(name)
        async def read(hour: int) -> None:
            await inbox.put(hour)

        async with broker:
            await broker.start()
            for hour in range(HOURS):
                credentials.hour = hour
                gate.token = f"token-{hour}"
                gate.end_streams()
                await broker.publish(hour, topic=name)
                await inbox.wait_for(hour + 1)
                assert broker.health().is_healthy
    assert inbox.seen == list(range(HOURS))
    assert credentials.refreshed == list(range(HOURS))
    assert credentials.failed == {5, 11, 17, 23}
    assert gate.refused == 0


async def test_credentials_are_taken_as_given(monkeypatch):
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    taken = []
    monkeypatch.setattr(grpc.aio, "secure_channel", lambda *given: taken.append(given))
    whole = grpc.ssl_channel_credentials()
    await connect(project="p", emulator_host=None, target="here:1", credentials=whole)
    assert taken[0][:2] == ("here:1", whole)

    hourly = Hourly()
    hourly.project_id = "theirs"
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    connection = await connect(project=None, emulator_host=None, target=None, credentials=hourly)
    assert connection.project == "theirs"
    assert isinstance(taken[1][1], grpc.ChannelCredentials)


def test_login_that_pubsub_does_not_know_is_an_error():
    PubSubBroker(security=BaseSecurity(use_ssl=True))
    with pytest.raises(SetupError, match=r"SASLPlaintext.*credentials="):
        PubSubBroker(security=SASLPlaintext("me", "secret"))
