import asyncio
import io
import json
import logging
from functools import partial

import pytest
import structlog

from embedded_pubsub import Server
from events.catalogue import BatchCompleted, ShardFailed, ShardMerged
from events.cloudevents import decode, encode
from events.model import Family
from faststream_pubsub import PubSubBroker
from infra import bus as nexus_bus
from infra import logs, telemetry
from infra.bus import BusPublisher, dead_name, subscribe, subscription_name
from infra.dead_letters import peek
from infra.errors import TransientError
from infra.once import Dead, Redeliver, Settled, Step, run_once
from infra.outcome import Ack
from infra.ports import Outgoing, Receipt
from tests.support.world import START

PREFIX = "t-"
TOPIC = "batch-completed"
SUBSCRIPTION = subscription_name(PREFIX, "merge", TOPIC)
EVENT = BatchCompleted(
    iteration=4,
    shard_index=2,
    job="j",
    requests_uri="r",
    output_uri="u",
    n_requests=3,
    families=(Family(family="one", items=("a",)),),
)
MERGED = ShardMerged(iteration=4, shard_index=2, rows=3, digest="sha256:" + "1" * 64)


class Bus:
    """A server of its own, with one handler."""

    def __init__(self, target):
        self.broker = PubSubBroker("a-project", emulator_host=target, logger=None)
        self.publisher = BusPublisher(self.broker, PREFIX)
        self.handled = asyncio.Queue()

    async def start(self, handle):
        async def handled(envelope):
            self.handled.put_nowait(envelope)
            return await handle(envelope)

        subscribe(
            self.broker,
            handler="merge",
            topic=TOPIC,
            prefix=PREFIX,
            decode=partial(decode, expected=BatchCompleted),
            handle=handled,
            workers=2,
            max_lease_seconds=600.0,
        )
        await self.broker.start()

    async def send(self, data=None, **changes):
        body, attributes = encode(EVENT, id="id-1", source="/test", time=START)
        outgoing = Outgoing("id-1", TOPIC, data or body, {**attributes, **changes}, START)
        await self.publisher.publish([outgoing])

    async def next(self):
        async with asyncio.timeout(60):
            return await self.handled.get()

    async def letters(self, count=1):
        found = []
        async with asyncio.timeout(60):
            while len(found) < count:
                found = await peek(self.broker, [SUBSCRIPTION], limit=10)
        return found


@pytest.fixture
async def bus():
    async with Server(port=0) as server:
        made = Bus(server.target)
        yield made
        await made.broker.stop()


async def settled(_):
    return Settled()


def test_names_follow_from_handler_and_topic():
    assert SUBSCRIPTION == "t-merge.batch-completed"
    assert dead_name(SUBSCRIPTION) == "t-merge.batch-completed.dead"


async def test_an_event_arrives_as_it_was_published(bus):
    await bus.start(settled)
    await bus.send()
    envelope = await bus.next()
    assert (envelope.event, envelope.id, envelope.source) == (EVENT, "id-1", "/test")


INVALID = {
    "no JSON": ({"data": b"{oops"}, "data", "{oops"),
    "out of range": ({"data": b'{"iteration": -1}'}, "iteration", "-1"),
    "unknown type": ({"ce-type": "nexus.cake.eaten.v1"}, "ce-type", "nexus.cake.eaten.v1"),
    "unknown version": (
        {"ce-type": "nexus.batch.completed.v2"},
        "ce-type",
        "nexus.batch.completed.v2",
    ),
    "another topic's": ({"ce-type": ShardMerged.type}, "ce-type", ShardMerged.type),
    "no id": ({"ce-id": ""}, "ce-id", None),
}


@pytest.mark.parametrize("case", INVALID)
async def test_an_invalid_message_is_a_dead_letter_with_its_reason(bus, case):
    changes, field, value = INVALID[case]
    await bus.start(settled)
    if changes.get("ce-id") == "":
        body, attributes = encode(EVENT, id="id-1", source="/test", time=START)
        del attributes["ce-id"]
        await bus.publisher.publish([Outgoing("x", TOPIC, body, attributes, START)])
    else:
        await bus.send(**changes)
    [letter] = await bus.letters()
    assert letter.subscription == SUBSCRIPTION
    assert letter.attributes["dead-letter-field"] == field
    assert letter.attributes.get("dead-letter-value") == value
    assert letter.reason.startswith(f"{field}=")
    assert letter.attributes["ce-source"] == "/test"
    assert bus.handled.empty()
    await bus.send()
    assert (await bus.next()).event == EVENT, "the worker has died"


async def test_a_dead_event_keeps_its_reason_and_its_body(bus):
    async def dead(_):
        return Dead("é" * 2_000)

    await bus.start(dead)
    await bus.send()
    [letter] = await bus.letters()
    assert letter.reason == "é" * 512
    body, _ = encode(EVENT, id="id-1", source="/test", time=START)
    assert letter.data == body
    assert "dead-letter-field" not in letter.attributes
    assert [found.message_id for found in await bus.letters()] == [letter.message_id]


@pytest.mark.parametrize("how", ["redeliver", "raise"])
async def test_an_event_comes_again(bus, monkeypatch, how):
    """A handler that raises must not leave its message leased for as long as that may last."""
    monkeypatch.setattr(nexus_bus, "REDELIVER_SECONDS", 0.0)
    ends = iter([how, "settled"])

    async def handle(_):
        match next(ends):
            case "redeliver":
                return Redeliver(0.0)
            case "raise":
                raise TransientError("the ledger is away")
            case _:
                return Settled()

    await bus.start(handle)
    await bus.send()
    first, second = await bus.next(), await bus.next()
    assert first.event == second.event == EVENT


async def test_an_event_that_is_refused_holds_none_of_its_neighbours_up(bus):
    await bus.start(settled)
    too_large = Outgoing("large", TOPIC, b"x" * 10_000_001, {}, START)
    data, attributes = encode(EVENT, id="good", source="/test", time=START)
    good = Outgoing("good", TOPIC, data, attributes, START)
    assert await bus.publisher.publish([too_large, good]) == ("good",)
    assert (await bus.next()).id == "good"


@pytest.mark.parametrize(
    ("after_seconds", "attempt", "delay_seconds"),
    [(2.0, 1, 2), (2.0, 3, 2), (2.0, 4, 3), (0.1, 1, 1), (2.0, 20, 600), (2.0, 100, 600)],
)
def test_a_message_that_comes_back_often_waits_longer(after_seconds, attempt, delay_seconds):
    assert nexus_bus._delay(after_seconds, attempt) == delay_seconds


# --- logs ----------------------------------------------------------------------------------


@pytest.fixture
def logged():
    """What is logged as JSON lines, as a process of ours does it."""
    stream, root = io.StringIO(), logging.getLogger()
    before, level, config = root.handlers[:], root.level, structlog.get_config()
    logs.configure("info", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.configure(**config)
    root.handlers[:] = before
    root.setLevel(level)


async def merging(_event, _claim, _ports):
    structlog.get_logger("handlers.merge").info("from_the_handler")
    return Ack(Receipt("sha256:" + "1" * 64), [MERGED])


async def failing(_event, _claim, _ports):
    raise ValueError("oops")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (merging, {"from_the_handler", "step_completed"}),
        (failing, {"handler_raised", "try_failed", "step_failed"}),
    ],
)
@pytest.mark.parametrize("carried", [True, False])
async def test_every_line_of_a_handler_names_what_it_is_about(
    bus, world, logged, run, words, carried
):
    telemetry.configure()
    step = Step("merge", (BatchCompleted,), (ShardMerged, ShardFailed), run)
    done = asyncio.Event()

    async def handle(envelope):
        settlement = await run_once(step, envelope, world.ports)
        done.set()
        return settlement

    await bus.start(handle)
    with telemetry.span("producer"):
        parent = telemetry.traceparent()
    await bus.send(**({"traceparent": parent} if carried else {}))
    async with asyncio.timeout(60):
        await done.wait()
    lines = [line for line in logged() if line["event"] in words]
    assert {line["event"] for line in lines} == words
    for line in lines:
        known = {name: line[name] for name in ("handler", "iteration", "shard", "claim")}
        assert known == {
            "handler": "merge",
            "iteration": 4,
            "shard": 2,
            "claim": "smoke/4/shard/2/merge",
        }
        assert line["event_id"] == "id-1"
        assert len(line["trace_id"]) == 32
        assert (line["trace_id"] == telemetry.trace_id(parent)) == carried
        assert {"level", "timestamp"} <= set(line)


async def test_an_invalid_message_is_logged_with_its_reason(bus, logged):
    await bus.start(settled)
    await bus.send(data=b"{oops")
    await bus.letters()
    [line] = [line for line in logged() if line["event"] == "invalid_message"]
    assert line["subscription"] == SUBSCRIPTION
    assert "Invalid JSON" in line["reason"]


def test_lines_below_the_level_are_not_written(logged):
    stream = io.StringIO()
    logs.configure("warning", stream=stream)
    structlog.get_logger("x").info("quiet")
    structlog.get_logger("x").warning("loud", n=1)
    logging.getLogger("library").warning("from %s", "outside")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["loud", "from outside"]
    assert lines[0]["n"] == 1
    assert logged() == []
