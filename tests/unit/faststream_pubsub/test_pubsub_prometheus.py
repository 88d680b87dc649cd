import pytest

from faststream_pubsub import PubSubBroker, TestPubSubBroker


async def test_messages_batches_errors_and_publications_are_counted():
    client = pytest.importorskip("prometheus_client")
    from faststream_pubsub.prometheus import PubSubPrometheusMiddleware

    registry = client.CollectorRegistry()
    broker = PubSubBroker(
        logger=None, middlewares=[PubSubPrometheusMiddleware(registry=registry, app_name="shop")]
    )

    @broker.subscriber("orders", subscription="packing")
    async def pack(text: str) -> None:
        if text == "bad":
            raise ValueError(text)

    @broker.subscriber("orders", subscription="counting", batch=True)
    async def count(texts: list[str]) -> None: ...

    async with TestPubSubBroker(broker):
        await broker.publish_batch("12345", "123", topic="orders")
        with pytest.raises(ValueError, match="bad"):
            await broker.publish("bad", "orders")

    def value(name, **labels):
        own = {"app_name": "shop", "broker": "gcp_pubsub"}
        return registry.get_sample_value(f"faststream_{name}", own | labels)

    assert value("received_messages_total", handler="packing") == 3
    assert value("received_messages_total", handler="counting") == 3
    assert value("received_messages_size_bytes_sum", handler="counting") == 11
    assert (
        value(
            "received_processed_messages_exceptions_total",
            handler="packing",
            exception_type="ValueError",
        )
        == 1
    )
    assert value("published_messages_total", destination="orders", status="success") == 2
