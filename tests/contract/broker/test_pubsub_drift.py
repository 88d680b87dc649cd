"""Subscriptions that are there already, and not as declared."""

import logging
import re
from dataclasses import replace

import pytest

from faststream_pubsub import PubSubBroker, RetryPolicy, TopologyError
from faststream_pubsub.client import PubSubClient
from faststream_pubsub.connection import Address, connect
from faststream_pubsub.flow import PublishBatching, PublishFlow
from faststream_pubsub.service import PubSubService, Rights
from faststream_pubsub.wire import GetSubscriptionRequest, Subscription


async def declare(bench, name, **settings):
    options = {k: settings.pop(k) for k in ("logger",) if k in settings}
    broker = bench.broker(**options)
    broker.subscriber(settings.pop("topic", name), subscription=name, **settings)
    async with broker:
        await broker.setup()
        service = broker._connection
        path = service.client.subscription_path(name)
        return await service.client.rpcs.get_subscription(GetSubscriptionRequest(subscription=path))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"enable_message_ordering": True}, "enable_message_ordering: declared True, found False"),
        ({"filter": "attributes:a"}, "filter: declared 'attributes:a', found ''"),
    ],
)
@pytest.mark.parametrize("source", [{}, {"autocreate": False}, {"topic": ""}])
async def test_what_can_not_be_changed_is_an_error(own_server, name, settings, told, source):
    await declare(own_server, name)
    with pytest.raises(TopologyError, match=f"{name} exists and can't be changed.*{told}"):
        await declare(own_server, name, **settings, **source)


async def test_ordering_that_nobody_asked_for_does_no_harm(bench, name):
    await declare(bench, name, enable_message_ordering=True)
    await declare(bench, name)


async def test_filter_that_is_no_longer_declared_is_an_error(own_server, name):
    await declare(own_server, name, filter="attributes:a")
    with pytest.raises(TopologyError, match="declared '', found 'attributes:a'"):
        await declare(own_server, name)
    # who only reads what is there takes it as it is
    await declare(own_server, name, autocreate=False)


CHANGES = [
    ({"ack_deadline_seconds": 20}, "ack_deadline_seconds: declared 20, found 10"),
    (
        {"retry_policy": RetryPolicy(minimum_backoff_seconds=1.5, maximum_backoff_seconds=9)},
        r"retry_policy: declared \(1.5, 9.0\), found None",
    ),
    ({"dead_letter_topic": "letters-x"}, "dead_letter_topic: declared '.*letters-x', found None"),
]


@pytest.mark.parametrize(("settings", "told"), CHANGES)
async def test_what_can_be_changed_is_told(bench, name, caplog, settings, told):
    await declare(bench, name)
    with caplog.at_level(logging.WARNING):
        found = await declare(bench, name, logger=logging.getLogger("shop"), **settings)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.subscription == name
    assert re.search(told, record.getMessage())
    assert "autoupdate=True" in record.getMessage()
    assert found.ack_deadline_seconds == 10
    assert not found.HasField("retry_policy")


@pytest.mark.parametrize(("settings", "told"), CHANGES)
async def test_what_can_be_changed_is_changed_when_asked_to(bench, name, caplog, settings, told):
    await declare(bench, name)
    with caplog.at_level(logging.WARNING):
        found = await declare(bench, name, autoupdate=True, **settings)
        await declare(bench, name, logger=logging.getLogger("shop"), **settings)
    assert not caplog.records, told
    if "ack_deadline_seconds" in settings:
        assert found.ack_deadline_seconds == 20
    if "retry_policy" in settings:
        assert found.retry_policy.minimum_backoff.ToMilliseconds() == 1_500
    if "dead_letter_topic" in settings:
        assert found.dead_letter_policy.dead_letter_topic.endswith("/letters-x")
        assert found.dead_letter_policy.max_delivery_attempts == 5


async def test_who_reads_the_dead_letters_declares_their_subscription(bench, name, caplog):
    broker = bench.broker(logger=logging.getLogger("shop"))
    broker.subscriber(name, subscription=f"{name}.r", dead_letter_topic=f"{name}.dead")
    broker.subscriber(
        f"{name}.dead",
        subscription=f"{name}.dead",
        ack_deadline_seconds=30,
        enable_message_ordering=True,
    )
    with caplog.at_level(logging.WARNING):
        async with broker:
            await broker.setup()
    assert not caplog.records


async def test_the_permission_for_dead_letters_is_told_on_the_service(embedded_target, name):
    connection = await connect(project="p", emulator_host=embedded_target, target=None)
    service = replace(connection, address=Address(target=embedded_target, emulated=False))
    told = []
    client = PubSubClient(service)
    real = PubSubService(
        client,
        autocreate=True,
        publish_patience_seconds=1,
        publish_batching=PublishBatching(),
        publish_flow=PublishFlow(),
        publish_compression_bytes=None,
    )
    wanted = Subscription(
        name=f"projects/p/subscriptions/{name}", topic=f"projects/p/topics/{name}"
    )
    wanted.dead_letter_policy.dead_letter_topic = f"projects/p/topics/{name}.dead"
    rights = Rights(create=True, update=False)
    for _ in range(2):
        await real.ensure(wanted, rights, lambda *record: told.append(record))
    await real.close(1)
    [(level, text, _)] = told
    assert level == logging.WARNING
    assert "roles/pubsub.publisher" in text
    assert "roles/pubsub.subscriber" in text
    assert f"{name}.dead" in text


def test_subscriber_overrides_its_broker():
    broker = PubSubBroker(autoupdate=True, autocreate=False)
    own = broker.subscriber("topic", autoupdate=False, autocreate=True)
    assert own._rights() == Rights(create=True, update=False)
    assert broker.subscriber("other")._rights() == Rights(create=False, update=True)
