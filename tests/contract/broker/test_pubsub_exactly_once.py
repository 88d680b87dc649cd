"""Acks that the service does not confirm, and leases that end: who hears of it."""

import asyncio
import logging

import pytest
from faststream import AckPolicy, BaseMiddleware, ExceptionMiddleware
from prometheus_client import CollectorRegistry

from faststream_pubsub import AcknowledgeError, PublishError
from faststream_pubsub.annotations import PubSubMessage as Message
from faststream_pubsub.prometheus import PubSubCollector
from faststream_pubsub.wire import DeleteSubscriptionRequest


async def delete_subscription(broker, message):
    """From now on the service refuses the message's ack."""
    request = DeleteSubscriptionRequest(subscription=message.subscription)
    await broker._connection.client.rpcs.delete_subscription(request)


async def create(bench, name):
    broker = bench.broker()
    broker.subscriber(
        name,
        subscription=f"{name}.r",
        enable_exactly_once_delivery=True,
        dead_letter_topic=f"{name}.dead",
    )
    async with broker:
        await broker.setup()


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("undoes", [False, True])
async def test_refused_ack_reaches_the_middlewares(bench, name, make_inbox, undoes, batch):
    seen, published = make_inbox(), make_inbox()

    class Watching(BaseMiddleware):
        async def after_processed(self, exc_type=None, exc_val=None, exc_tb=None):
            await seen.put(("after_processed", exc_val))
            return await super().after_processed(exc_type, exc_val, exc_tb)

    exceptions = ExceptionMiddleware()

    @exceptions.add_handler(AcknowledgeError)
    async def undo(error: AcknowledgeError) -> None:
        await seen.put(("undone", error))

    await create(bench, name)
    broker = bench.broker(middlewares=[*([exceptions] if undoes else []), Watching])

    @broker.publisher(f"{name}-packed")
    @broker.subscriber(
        name,
        subscription=f"{name}.r",
        batch=batch,
        ack_policy=AckPolicy.REJECT_ON_ERROR,
        enable_exactly_once_delivery=True,
        autocreate=False,
        dead_letter_topic=f"{name}.dead",
    )
    async def pack(_: object, message: Message) -> str:
        first = message.messages[0] if batch else message
        await delete_subscription(broker, first)
        return "packed"

    @broker.subscriber(f"{name}-packed")
    @broker.subscriber(f"{name}.dead", subscription=f"{name}.dead")
    async def read(text: str) -> None:
        await published.put(text)

    async with bench.running(broker):
        message_id = await broker.publish("x", topic=name)
        await published.wait_for(1)
        told = [one for one in await seen.wait_for(2 + undoes) if one[1] is not None]
        await broker.publish("end", topic=f"{name}-packed")
        await published.wait_for(2)

    assert [what for what, _ in told] == ["after_processed", "undone"][: 1 + undoes]
    assert told[0][1].message_id == message_id
    assert "NOT_FOUND" in str(told[0][1])
    # what was published stays, and a handled message is no dead letter
    assert published.seen == ["packed", "end"]


async def test_ack_is_sent_after_the_result_is_published(bench, name, inbox):
    class Refusing(BaseMiddleware):
        async def publish_scope(self, call_next, cmd):
            if cmd.destination == f"{name}-packed" and len(inbox.seen) == 1:
                raise PublishError("no")
            return await call_next(cmd)

    broker = bench.broker(middlewares=[Refusing])

    @broker.publisher(f"{name}-packed")
    @broker.subscriber(name, enable_exactly_once_delivery=True)
    async def pack(text: str, message: Message) -> str:
        await inbox.put(message)
        return text

    async with bench.running(broker):
        await broker.publish("x", topic=name)
        seen = await inbox.wait_for(2)
    assert seen[0].message_id == seen[1].message_id


async def test_get_one_leaves_the_ack_to_its_caller(bench, name):
    broker = bench.broker()
    subscriber = broker.subscriber(name, enable_exactly_once_delivery=True)
    async with bench.running(broker):
        await broker.publish("x", topic=name)
        message = await subscriber.get_one(timeout=8)
        assert message.committed is None
        await message.ack()


async def test_lost_leases_and_failed_acks_are_logged_and_counted(
    bench, name, inbox, until, caplog
):
    broker = bench.broker(logger=logging.getLogger("shop"))
    registry = CollectorRegistry()
    registry.register(PubSubCollector(broker, app_name="shop"))
    may_end = asyncio.Event()

    @broker.subscriber(name, max_lease_seconds=1, ack_policy=AckPolicy.MANUAL, max_workers=2)
    async def read(text: str, message: Message) -> None:
        await inbox.put(message)
        if text == "slow":
            await may_end.wait()
        else:
            await delete_subscription(broker, message)
            await message.ack()

    def value(metric):
        labels = {"app_name": "shop", "broker": "gcp_pubsub", "subscription": f"{name}-sub"}
        return registry.get_sample_value(f"faststream_subscription_{metric}", labels)

    with caplog.at_level(logging.WARNING):
        async with bench.running(broker):
            message_id = await broker.publish("slow", topic=name)
            await inbox.wait_for(1)
            assert (value("held_messages"), value("down_seconds")) == (1, 0)
            await until(lambda: value("lost_leases_total"))
            may_end.set()
            await broker.publish("quick", topic=name)
            await inbox.wait_for(2)
            await until(lambda: value("failed_acks_total"))
    [lost] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"lease of message {message_id} has ended" in lost.getMessage()
    assert "max_lease_seconds=1 is over" in lost.getMessage()
    assert lost.subscription == f"{name}-sub"


async def test_exactly_once_that_nobody_declared_is_learned_from_the_service(
    own_server, name, inbox
):
    owner = own_server.broker()
    owner.subscriber(name, subscription=f"{name}.once", enable_exactly_once_delivery=True)
    async with owner:
        await owner.setup()

    broker = own_server.broker()
    subscriber = broker.subscriber(subscription=f"{name}.once", ack_policy=AckPolicy.MANUAL)

    @subscriber
    async def read(message: Message) -> None:
        # without exactly-once delivery there would be nothing to wait for
        confirmation = message.raw_message.settler.ack(message.raw_message)
        await inbox.put(confirmation is not None)
        await confirmation

    async with own_server.running(broker):
        await broker.publish("x", topic=name)
        assert await inbox.wait_for(1) == [True]
        assert subscriber.reading._held.leases.lease_seconds == 60
