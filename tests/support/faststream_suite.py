"""Runs FastStream's own suite for brokers against PubSubBroker, from a checkout of FastStream.

    python tests/support/faststream_suite.py CHECKOUT [--on embedded] [--on HOST:PORT]
        [-- PYTEST_ARGUMENTS]

The installed FastStream is tested, with the checkout's `tests/brokers/base`, in memory and on
servers: without `--on`, an embedded one, and PUBSUB_EMULATOR_HOST where that is set. The tests in
memory need a server too, as some of them connect the broker before they patch it. What can't apply
to Pub/Sub is told first, each with its reason.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PROJECT: Final = Path(__file__).parents[2]

NOT_APPLICABLE: Final = {
    "AddressTemplateTestcase": "a template such as logs.{level} stands for the wildcard of a "
    "broker that has them; a subscription reads one topic, Pub/Sub has no wildcards, and no name "
    "may hold a brace",
}
"""Base classes that can't apply, and why."""

_CONFIG: Final = """
from faststream_pubsub import PubSubBroker, PubSubRouter, TestPubSubBroker
from tests.brokers.base.basic import BaseTestcaseConfig


class Config(BaseTestcaseConfig):
    def get_broker(self, apply_types=False, **options):
        return PubSubBroker(apply_types=apply_types, **options)

    def get_router(self, **options):
        return PubSubRouter(**options)


class MemoryConfig(Config):
    def patch_broker(self, *brokers, **options):
        return TestPubSubBroker(*brokers, **options)
"""

_SHARED: Final = """
import pytest
from faststream import BaseMiddleware
from faststream_pubsub import PubSubBroker, PubSubPublishCommand, PubSubPublisher, PubSubRoute
from faststream_pubsub import PubSubResponse, PubSubRouter
from faststream_pubsub.fastapi import PubSubRouter as StreamRouter
from tests.brokers.base import codec, connection, consume, fastapi, include_router, middlewares
from tests.brokers.base import parser, publish, publish_command, requests, router, testclient
from tests.brokers.base.future import fastapi as future_fastapi

from glue_config import Config, MemoryConfig


class FourTimes(BaseMiddleware):
    async def consume_scope(self, call_next, msg):
        msg.body *= 4
        return await call_next(msg)


class Requests(requests.RequestsTestcase):
    def get_middleware(self, **options):
        return FourTimes
"""

_MEMORY: Final = """
from faststream_pubsub.testing import FakeProducer


class TestMemoryClient(MemoryConfig, testclient.BrokerTestclientTestcase):
    @pytest.fixture
    def fake_producer_cls(self):
        return FakeProducer

    def get_fake_producer_class(self):
        return FakeProducer


class TestMemoryCodec(MemoryConfig, codec.CodecTestcase): ...
class TestMemoryBatchCodec(MemoryConfig, codec.BatchCodecTestcase): ...
class TestMemoryOrder(MemoryConfig, middlewares.MiddlewaresOrderTestcase): ...
class TestMemoryMiddlewares(MemoryConfig, middlewares.MiddlewareTestcase): ...
class TestMemoryExceptions(MemoryConfig, middlewares.ExceptionMiddlewareTestcase): ...
class TestMemoryParser(MemoryConfig, parser.CustomParserTestcase): ...
class TestMemorySubscriberIncluded(Config, include_router.IncludeSubscriberTestcase): ...
class TestMemoryPublisherIncluded(Config, include_router.IncludePublisherTestcase): ...


@pytest.mark.asyncio
class TestMemoryRequests(MemoryConfig, Requests):
    get_router = Config.get_router


class TestMemoryRouter(MemoryConfig, router.RouterLocalTestcase):
    route_class = PubSubRoute
    publisher_class = PubSubPublisher


class TestMemoryCommand(publish_command.BatchPublishCommandTestcase):
    publish_command_cls = PubSubPublishCommand


class TestMemoryBatchKeys(MemoryConfig, publish_command.BatchKeysTestcase):
    publish_command_cls = PubSubPublishCommand

    # keys are bytes in Kafka and text in Pub/Sub
    @staticmethod
    def publish_message_cls(body, key):
        return PubSubResponse(body, ordering_key=(key or b"").decode())

    @staticmethod
    def get_message_key(raw_message):
        return raw_message.message.ordering_key.encode()


class TestMemoryFastAPI(MemoryConfig, fastapi.FastAPILocalTestcase):
    router_class = StreamRouter
    broker_router_class = PubSubRouter
"""

_SERVER: Final = """
class TestServerConnection(connection.BrokerConnectionTestcase):
    broker = PubSubBroker

    @pytest.fixture
    def settings(self):
        return None


@pytest.mark.asyncio
class TestServerConsume(Config, consume.BrokerRealConsumeTestcase): ...


class TestServerPublish(Config, publish.BrokerPublishTestcase): ...
class TestServerMiddlewares(Config, middlewares.MiddlewareTestcase): ...
class TestServerExceptions(Config, middlewares.ExceptionMiddlewareTestcase): ...
class TestServerParser(Config, parser.CustomParserTestcase): ...


@pytest.mark.asyncio
class TestServerRequests(Config, Requests):
    get_router = Config.get_router


class TestServerRouter(Config, router.RouterTestcase):
    route_class = PubSubRoute
    publisher_class = PubSubPublisher


class TestServerFastAPI(Config, future_fastapi.FastapiTestCase):
    router_class = StreamRouter
    broker_router_class = PubSubRouter
"""

_INI: Final = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
addopts = -p no:cacheprovider -p no:random_order -p no:bqemulator
filterwarnings = ignore::pytest.PytestWarning
"""


def main() -> int:
    """Run what the command line asks for; 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="folder of a FastStream checkout")
    parser.add_argument("--on", action="append", help="embedded or HOST:PORT")
    own, for_pytest = _split(sys.argv[1:])
    given = parser.parse_args(own)
    base = given.checkout / "tests" / "brokers" / "base"
    if not base.is_dir():
        parser.error(f"{given.checkout} is no checkout of FastStream: {base} is not there.")
    sys.stdout.write(_coverage(base))
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    places = given.on or ["embedded", *([emulator] if emulator else [])]
    return max(_run_on(place, given.checkout, for_pytest) for place in places)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end + 1 :]


def _coverage(base: Path) -> str:
    """Say which base classes don't apply; fail on one that is neither run nor explained."""
    glue = _SHARED + _MEMORY + _SERVER
    lines = [f"not applicable: {name}: {why}." for name, why in NOT_APPLICABLE.items()]
    forgotten = [name for name in _leaves(base) if name not in glue and name not in NOT_APPLICABLE]
    if forgotten:
        raise SystemExit(f"neither run nor explained: {', '.join(sorted(forgotten))}")
    return "\n".join([*lines, ""])


def _leaves(base: Path) -> set[str]:
    """Test classes that no other test class of the suite extends."""
    tested: set[str] = set()
    extended: set[str] = set()
    for path in base.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        imports = [alias for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names]
        named = {alias.asname: alias.name for alias in imports}
        for node in nodes:
            if isinstance(node, ast.ClassDef) and node.name.lower().endswith("testcase"):
                tested.add(node.name)
                bases = [b.id for b in node.bases if isinstance(b, ast.Name)]
                extended.update(named.get(name, name) for name in bases)
    return tested - extended


def _run_on(place: str, checkout: Path, arguments: Sequence[str]) -> int:
    sys.stdout.write(f"== FastStream's suite: {place}\n")
    sys.stdout.flush()
    if place != "embedded":
        return _run(checkout, place, arguments)
    with _embedded() as target:
        return _run(checkout, target, arguments)


def _run(checkout: Path, target: str, arguments: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        (room / "tests").symlink_to((checkout / "tests").resolve())
        (room / "glue_config.py").write_text(_CONFIG)
        (room / "test_glue.py").write_text(_SHARED + _MEMORY + _SERVER)
        (room / "conftest.py").write_text("from tests.conftest import *\n")
        (room / "pytest.ini").write_text(_INI)
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(room), str(_PROJECT)]),
            "PUBSUB_EMULATOR_HOST": target,
        }
        command = [sys.executable, "-m", "pytest", "-q", "test_glue.py", *arguments]
        return subprocess.run(command, cwd=room, env=environ, check=False).returncode


@contextmanager
def _embedded() -> Iterator[str]:
    command = [sys.executable, "-m", "embedded_pubsub", "--port", "0", "--in-memory"]
    server = subprocess.Popen(command, cwd=_PROJECT, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        yield str(json.loads(server.stdout.readline())["grpc"])
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    raise SystemExit(main())
