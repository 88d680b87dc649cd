"""What the broker promises, on every server that is there."""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from faststream import AckPolicy
from faststream.exceptions import StopConsume
from faststream.message import decode_message
from pydantic import BaseModel

from faststream_pubsub import (
    InvalidMessageError,
    PubSubBroker,
    PubSubMessage,
    PubSubRoute,
    PubSubRouter,
    TopologyError,
)
from faststream_pubsub.annotations import PubSubMessage as Message
from faststream_pubsub.wire import PublishRequest

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Shard(BaseModel):
    index: int


def _own_tasks() -> list[asyncio.Task]:
    """Tasks of the broker; a server in this process has its own."""
    return [
        t for t in asyncio.all_tasks() if "faststream_pubsub/" in t.get_coro().cr_code.co_filename
    ]


# everywhere


async def test_message_arrives_with_all_that_was_given(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.subscriber(name, subscription=f"{name}.reader")
    async def read(shard: Shard, message: Message) -> None:
        await inbox.put((shard, message))

    async with any_bench.running(broker):
        message_id = await broker.publish(
            Shard(index=3),
            topic=name,
            attributes={"traceparent": TRACE},
            headers={"priority": 2},
            ordering_key="k",
            correlation_id="c-1",
        )
        [(shard, message)] = await inbox.wait_for(1)

    assert shard == Shard(index=3)
    assert message.message_id == message_id
    assert message.attributes["traceparent"] == TRACE
    assert message.attributes["priority"] == "2"
    assert message.ordering_key == "k"
    assert message.correlation_id == "c-1"
    assert message.subscription.endswith(f"/subscriptions/{name}.reader")
    assert abs(datetime.now(UTC) - message.publish_time) < timedelta(minutes=1)


async def test_decoder_sees_the_body_as_it_came(any_bench, name, inbox):
    broker = any_bench.broker()
    body = b"\x00\xff not json"

    async def decode(message: PubSubMessage) -> str:
        return f"{message.attributes['content-type']}:{message.body!r}"

    @broker.subscriber(name, decoder=decode)
    async def read(text: str) -> None:
        await inbox.put(text)

    async with any_bench.running(broker):
        await broker.publish(body, topic=name, attributes={"content-type": "x/y"})
        assert await inbox.wait_for(1) == [f"x/y:{body!r}"]


async def test_parser_wraps_the_delivery(any_bench, name, inbox):
    broker = any_bench.broker()

    async def parse(delivery, original):
        message = await original(delivery)
        message.body = message.body.upper()
        return message

    @broker.subscriber(name, parser=parse)
    async def read(text: str) -> None:
        await inbox.put(text)

    async with any_bench.running(broker):
        await broker.publish("loud", topic=name)
        assert await inbox.wait_for(1) == ["LOUD"]


async def test_nacked_message_comes_again_after_its_delay(bench, name, inbox):
    broker = bench.broker()
    now = asyncio.get_running_loop().time

    @broker.subscriber(name)
    async def read(message: Message) -> None:
        await inbox.put(now())
        if len(inbox.seen) == 1:
            await message.nack(delay_seconds=2)

    async with bench.running(broker):
        await broker.publish("x", topic=name)
        first, second = await inbox.wait_for(2)
    assert 1.5 < second - first < 8


async def test_rejected_message_becomes_a_dead_letter_with_its_reason(any_bench, name, inbox):
    broker = any_bench.broker()
    letters = f"{name}.dead"

    @broker.subscriber(name, subscription=f"{name}.reader", dead_letter_topic=letters)
    async def refuse(message: Message) -> None:
        await message.reject(reason="unknown version", attributes={"version": "9"})

    @broker.subscriber(letters, subscription=letters)
    async def read(message: Message) -> None:
        await inbox.put(message)

    async with any_bench.running(broker):
        await broker.publish({"a": 1}, topic=name, attributes={"traceparent": TRACE})
        [letter] = await inbox.wait_for(1)

    assert decode_message(letter) == {"a": 1}
    assert letter.attributes["dead-letter-reason"] == "unknown version"
    assert letter.attributes["version"] == "9"
    assert letter.attributes["traceparent"] == TRACE
    source = letter.attributes["CloudPubSubDeadLetterSourceSubscription"]
    assert source == f"{name}.reader"


async def test_none_is_published_unless_skipped(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.publisher(f"{name}-kept")
    @broker.publisher(f"{name}-skipped", skip_none=True)
    @broker.subscriber(name)
    async def nothing(_: str) -> None:
        return None

    @broker.subscriber(f"{name}-skipped")
    async def skipped(message: Message) -> None:
        await inbox.put(("skipped", message.body))

    @broker.subscriber(f"{name}-kept")
    async def kept(message: Message) -> None:
        await inbox.put(("kept", message.body))

    async with any_bench.running(broker):
        await broker.publish("go", topic=name)
        assert await inbox.wait_for(1) == [("kept", b"")]
        await broker.publish("end", topic=f"{name}-skipped")
        assert await inbox.wait_for(2) == [("kept", b""), ("skipped", b"end")]


async def test_router_prefix_goes_before_topic_and_subscription(any_bench, name, inbox):
    async def read(text: str, message: Message) -> None:
        await inbox.put((text, message.subscription.rsplit("/")[-1]))

    router = PubSubRouter("pre-", handlers=[PubSubRoute(read, name, subscription=f"{name}.r")])
    broker = any_bench.broker(routers=[router])

    async with any_bench.running(broker):
        await broker.publish("hi", topic=f"pre-{name}")
        assert await inbox.wait_for(1) == [("hi", f"pre-{name}.r")]


async def test_handlers_answer_goes_to_the_reply_topic(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.subscriber(name)
    async def double(number: int) -> int:
        return number * 2

    @broker.subscriber(f"{name}-replies")
    async def read(number: int, message: Message) -> None:
        await inbox.put((number, message.correlation_id))

    async with any_bench.running(broker):
        await broker.publish(21, topic=name, reply_to=f"{name}-replies", correlation_id="c")
        assert await inbox.wait_for(1) == [(42, "c")]


async def test_request_brings_the_reply(any_bench, name):
    broker = any_bench.broker()

    @broker.subscriber(name)
    async def double(number: int) -> int:
        return number * 2

    async with any_bench.running(broker):
        replies = await asyncio.gather(*(broker.request(n, name, timeout=8) for n in range(5)))
        assert [await reply.decode() for reply in replies] == [0, 2, 4, 6, 8]


async def test_request_without_a_reply_ends_in_time(bench, name):
    broker = bench.broker()
    async with bench.running(broker):
        with pytest.raises(TimeoutError, match=rf"no reply came from .*/{name} within 0.3 s"):
            await broker.request("anybody?", name, timeout=0.3)


async def test_messages_are_taken_one_by_one(any_bench, name):
    broker = any_bench.broker()
    subscriber = broker.subscriber(name)

    async with any_bench.running(broker):
        if any_bench.in_memory:
            await subscriber.start()
        assert await subscriber.get_one(timeout=0.2) is None
        await broker.publish_batch("a", "b", topic=name)
        first = await subscriber.get_one(timeout=8)
        assert first is not None
        await first.ack()
        bodies = {first.body}
        async for message in subscriber:
            await message.ack()
            bodies.add(message.body)
            break
        await subscriber.stop()
    assert bodies == {b"a", b"b"}


async def test_message_beyond_a_limit_is_refused_before_it_is_sent(any_bench, name):
    broker = any_bench.broker()
    async with any_bench.running(broker):
        with pytest.raises(InvalidMessageError, match="1024"):
            await broker.publish("x", topic=name, attributes={"k": "v" * 1_025})


# on real servers


@pytest.mark.parametrize(
    ("policy", "deliveries", "letters"),
    [
        (AckPolicy.ACK, 1, 0),
        (AckPolicy.ACK_FIRST, 1, 0),
        (AckPolicy.NACK_ON_ERROR, 2, 0),
        (AckPolicy.REJECT_ON_ERROR, 1, 1),
    ],
)
async def test_ack_policy_decides_after_an_error(
    bench, name, make_inbox, policy, deliveries, letters
):
    handled, dead, sentinel = make_inbox(), make_inbox(), make_inbox()
    broker = bench.broker()

    @broker.subscriber(name, ack_policy=policy, dead_letter_topic=f"{name}.dead")
    async def fail_once(text: str) -> None:
        if text == "end":
            await sentinel.put(text)
            return
        await handled.put(text)
        if len(handled.seen) == 1:
            raise RuntimeError(text)

    @broker.subscriber(f"{name}.dead", subscription=f"{name}.dead")
    async def read(text: str) -> None:
        await dead.put(text)

    async with bench.running(broker):
        await broker.publish("boom", topic=name)
        await handled.wait_for(deliveries)
        await dead.wait_for(letters)
        await broker.publish("end", topic=name)
        await sentinel.wait_for(1)

    assert len(handled.seen) == deliveries
    assert len(dead.seen) == letters


async def test_nacked_message_comes_again_and_its_tries_are_counted(any_bench, name, inbox):
    broker = any_bench.broker()

    @broker.subscriber(name, ack_policy=AckPolicy.MANUAL, dead_letter_topic=f"{name}.dead")
    async def read(message: Message) -> None:
        await inbox.put(message.delivery_attempt)
        await (message.nack() if len(inbox.seen) < 3 else message.ack())

    async with any_bench.running(broker):
        await broker.publish("again", topic=name)
        assert await inbox.wait_for(3) == [1, 2, 3]


async def test_exactly_once_ack_is_confirmed(bench, name, inbox):
    broker = bench.broker()

    @broker.subscriber(name, ack_policy=AckPolicy.MANUAL, enable_exactly_once_delivery=True)
    async def read(message: Message) -> None:
        await message.ack()
        await inbox.put(message.committed)

    async with bench.running(broker):
        await broker.publish("once", topic=name)
        assert await inbox.wait_for(1) == ["ACKED"]


async def test_concurrent_publishes_share_requests(bench, name):
    broker = bench.broker()
    requests: list[int] = []
    async with bench.running(broker):
        client = broker._connection.client
        publish = client.rpcs.publish

        async def counted(request, **options):
            requests.append(len(PublishRequest.FromString(request).messages))
            return await publish(request, **options)

        client.rpcs = replace(client.rpcs, publish=counted)
        ids = await asyncio.gather(*(broker.publish(str(i), topic=name) for i in range(500)))

    assert len(set(ids)) == 500
    # the first is refused, as the topic is not there yet, and is sent again
    assert requests == [500, 500]


async def test_keys_run_side_by_side_and_each_in_order(bench, name, inbox):
    broker = bench.broker()
    other = {"a": asyncio.Event(), "b": asyncio.Event()}

    @broker.subscriber(name, enable_message_ordering=True, max_workers=4)
    async def read(index: int, message: Message) -> None:
        key = message.ordering_key
        other[key].set()
        # the first of each key waits for the other key: one worker would never end this
        await other["b" if key == "a" else "a"].wait()
        await inbox.put((key, index))

    async with bench.running(broker):
        for index in range(20):
            for key in "ab":
                await broker.publish(index, topic=name, ordering_key=key)
        seen = await inbox.wait_for(40)

    for key in "ab":
        assert [index for k, index in seen if k == key] == list(range(20))


async def test_all_subscriptions_are_there_before_any_is_read(bench, name):
    broker = bench.broker()
    calls: list[str] = []
    all_noted = asyncio.Event()
    for index in range(3):

        @broker.subscriber(f"{name}-{index}")
        async def read(_: str) -> None: ...

    await broker.connect()
    client = broker._connection.client
    create, pull = client.rpcs.create_subscription, client.rpcs.streaming_pull

    def noted(call, what):
        def wrapped(*args, **options):
            calls.append(what)
            if len(calls) == 6:
                all_noted.set()
            return call(*args, **options)

        return wrapped

    client.rpcs = replace(
        client.rpcs,
        create_subscription=noted(create, "create"),
        streaming_pull=noted(pull, "pull"),
    )
    async with bench.running(broker):
        await asyncio.wait_for(all_noted.wait(), timeout=8)
    assert calls == ["create"] * 3 + ["pull"] * 3


async def test_stop_waits_for_running_handlers(bench, name, make_inbox):
    began, ended, again = make_inbox(), make_inbox(), make_inbox()
    broker = bench.broker()
    may_end = asyncio.Event()

    @broker.subscriber(name)
    async def slow(text: str) -> None:
        await began.put(text)
        await may_end.wait()
        # longer than a stop that does not wait
        await asyncio.sleep(0.3)
        await ended.put(text)

    async with bench.running(broker):
        await broker.publish("work", topic=name)
        await began.wait_for(1)
        stopping = asyncio.create_task(broker.stop())
        await asyncio.sleep(0)
        may_end.set()
        await stopping
    assert ended.seen == ["work"]

    successor = bench.broker()

    @successor.subscriber(name)
    async def read(text: str) -> None:
        await again.put(text)

    async with bench.running(successor):
        await successor.publish("later", topic=name)
        assert await again.wait_for(1) == ["later"]


async def test_stop_gives_back_what_no_handler_has_begun(bench, name, make_inbox):
    began, taken_over = make_inbox(), make_inbox()
    broker = bench.broker(graceful_timeout=0.1)

    @broker.subscriber(name)
    async def stuck(index: int) -> None:
        await began.put(index)
        await asyncio.Event().wait()

    async with bench.running(broker):
        await broker.publish_batch(*range(1_000), topic=name)
        await began.wait_for(1)

    successor = bench.broker()

    @successor.subscriber(name)
    async def read(index: int) -> None:
        await taken_over.put(index)

    async with bench.running(successor):
        assert sorted(await taken_over.wait_for(1_000)) == list(range(1_000))


async def test_nothing_runs_after_stop(bench, name, inbox):
    broker = bench.broker()

    @broker.subscriber(name, max_workers=5)
    async def read(text: str) -> None:
        await inbox.put(text)

    async with bench.running(broker):
        await broker.publish("one", topic=name)
        await inbox.wait_for(1)
        assert _own_tasks()
    assert not _own_tasks()


async def test_handler_may_stop_its_subscriber(bench, name, inbox):
    broker = bench.broker(ack_policy=AckPolicy.ACK)

    @broker.subscriber(name, max_workers=2)
    async def read(text: str) -> None:
        await inbox.put(text)
        raise StopConsume

    async with bench.running(broker):
        await broker.publish("last", topic=name)
        await inbox.wait_for(1)
        if own := _own_tasks():
            await asyncio.wait(own, timeout=8)
        assert not _own_tasks()
        await broker.publish("unread", topic=name)
    assert inbox.seen == ["last"]


async def test_worker_outlives_a_leaked_cancellation(bench, name, inbox):
    broker = bench.broker()

    @broker.subscriber(name)
    async def read(text: str) -> None:
        await inbox.put(text)
        if len(inbox.seen) == 1:
            raise asyncio.CancelledError

    async with bench.running(broker):
        await broker.publish("again", topic=name)
        assert await inbox.wait_for(2) == ["again", "again"]


async def test_absent_subscription_without_autocreate_is_a_clear_error(bench, name):
    broker = bench.broker()
    broker.subscriber(name, subscription=f"{name}.reader", autocreate=False)
    with pytest.raises(TopologyError, match=rf"{name}.reader does not exist.*autocreate"):
        await broker.start()
    await broker.stop()


async def test_subscription_of_another_topic_is_a_clear_error(bench, name):
    first, second = bench.broker(), bench.broker()
    first.subscriber(f"{name}-a", subscription=name)
    second.subscriber(f"{name}-b", subscription=name)
    async with bench.running(first):
        with pytest.raises(TopologyError, match=rf"{name}-a.*{name}-b"):
            await second.start()
        await second.stop()


async def test_ping_tells_whether_the_server_answers(bench):
    broker = bench.broker()
    assert not await broker.ping()
    async with bench.running(broker):
        assert await broker.ping(timeout=8)
    nobody = PubSubBroker(emulator_host="127.0.0.1:1", logger=None)
    await nobody.connect()
    assert not await nobody.ping(timeout=0.5)
    await nobody.stop()


async def test_logs_say_topic_subscription_and_message(bench, name, inbox, caplog):
    broker = bench.broker(logger=logging.getLogger("shop"))

    @broker.subscriber(name, subscription=f"{name}.reader")
    async def read(text: str) -> None:
        await inbox.put(text)

    with caplog.at_level(logging.INFO):
        async with bench.running(broker):
            message_id = await broker.publish("x", topic=name)
            await inbox.wait_for(1)
    told = {
        record.getMessage(): (record.topic, record.subscription, record.message_id)
        for record in caplog.records
        if getattr(record, "message_id", "")
    }
    about = (name, f"{name}.reader", message_id)
    assert told == dict.fromkeys(("Received", "Processed"), about)
