import json

import pytest
from faststream import FastStream
from pydantic import BaseModel

from faststream_pubsub import PubSubBroker, PubSubRouter, RetryPolicy, TopicSchema
from faststream_pubsub.asyncapi import PubSubAsyncAPI


class Stock(BaseModel):
    count: int


@pytest.fixture
def document():
    router = PubSubRouter("shop-")
    broker = PubSubBroker()

    @router.publisher("packed", ordering_key="k", attributes={"kind": "a"}, title="packed")
    @router.subscriber(
        "orders",
        subscription="packing",
        ack_deadline_seconds=20,
        filter="attributes:kind",
        retry_policy=RetryPolicy(minimum_backoff_seconds=1),
        dead_letter_topic="dead",
        title="orders",
    )
    async def pack(number: int) -> int:
        return number

    router.publisher("stock", topic_schema=TopicSchema(Stock, "stock-v1"), title="stock")
    broker.include_router(router)
    app = FastStream(broker, specification=PubSubAsyncAPI())
    specification = app.schema.to_specification()
    assert json.loads(specification.to_json()) == specification.to_jsonable()
    return specification.to_jsonable()


def test_channels_say_what_their_subscription_is(document):
    channel = document["channels"]["orders"]
    assert channel["address"] == "shop-orders"
    assert channel["x-subscription"] == {
        "name": "shop-packing",
        "topic": "shop-orders",
        "ackDeadlineSeconds": 20,
        "filter": "attributes:kind",
        "deadLetterPolicy": {"deadLetterTopic": "shop-dead", "maxDeliveryAttempts": 5},
        "retryPolicy": {"minimumBackoff": "1s", "maximumBackoff": "600s"},
    }


def test_messages_say_ordering_key_and_attributes(document):
    [(name, message)] = [
        (n, m) for n, m in document["components"]["messages"].items() if n.startswith("packed")
    ]
    assert message["bindings"]["googlepubsub"] == {
        "bindingVersion": "0.2.0",
        "orderingKey": "k",
        "attributes": {"kind": "a"},
    }, name


def test_server_speaks_googlepubsub(document):
    [server] = document["servers"].values()
    assert server["protocol"] == "googlepubsub"
    assert server["host"] == "pubsub.googleapis.com:443"


def test_topics_say_what_their_schema_is(document):
    assert document["channels"]["stock"]["bindings"]["googlepubsub"] == {
        "bindingVersion": "0.2.0",
        "schemaSettings": {"encoding": "json", "name": "stock-v1"},
    }
    [message] = [m for n, m in document["components"]["messages"].items() if n.startswith("stock")]
    assert message["bindings"]["googlepubsub"]["schema"] == {"name": "stock-v1"}
    # the binding's JSON schema allows none without a schema
    assert "bindings" not in document["channels"]["packed"]
