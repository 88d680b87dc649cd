"""Traces from publications through handlers, one by one and in batches."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from faststream_pubsub import PubSubBroker, TestPubSubBroker
from faststream_pubsub.annotations import PubSubBatchMessage
from faststream_pubsub.opentelemetry import PubSubTelemetryMiddleware
from faststream_pubsub.wire import PubsubMessage

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
GOOGLE = "googclient_traceparent"


@pytest.fixture
def spans():
    return InMemorySpanExporter()


def provider_for(spans):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


@pytest.fixture
def middleware(spans):
    return PubSubTelemetryMiddleware(tracer_provider=provider_for(spans))


async def test_one_trace_from_publication_through_handlers(spans, middleware):
    broker = PubSubBroker(logger=None, middlewares=[middleware])

    @broker.publisher("second")
    @broker.subscriber("first", subscription="first.reader")
    async def forward(text: str) -> str:
        return text

    @broker.subscriber("second", subscription="second.reader")
    async def read(_: str) -> None: ...

    async with TestPubSubBroker(broker, connect_only=False):
        await broker.publish("go", topic="first")

    finished = spans.get_finished_spans()
    assert len({span.context.trace_id for span in finished}) == 1
    names = {span.name for span in finished}
    assert {"first publish", "first.reader process", "second publish"} <= names
    (handled,) = (span for span in finished if span.name == "first.reader process")
    assert handled.attributes["messaging.destination.subscription.name"] == "first.reader"
    assert handled.attributes["messaging.destination_publish.name"] == "first"


@pytest.mark.parametrize(
    "attributes",
    [
        {"googclient_traceparent": TRACEPARENT, "googclient_tracestate": "a=b"},
        {"traceparent": TRACEPARENT, "tracestate": "a=b"},
        # what FastStream wrote counts
        {
            "traceparent": TRACEPARENT,
            "tracestate": "a=b",
            "googclient_traceparent": f"00-{'1' * 32}-{SPAN}-01",
        },
    ],
)
async def test_context_of_a_google_client_is_continued(spans, middleware, attributes):
    publisher, broker = PubSubBroker(logger=None), PubSubBroker(middlewares=[middleware])

    @broker.subscriber("first", subscription="first.reader")
    async def read(_: str) -> None: ...

    async with TestPubSubBroker(publisher, broker):
        await publisher.publish("x", "first", attributes=attributes)

    [process] = [span for span in spans.get_finished_spans() if span.name.endswith("process")]
    assert f"{process.context.trace_id:032x}" == TRACE
    assert f"{process.parent.span_id:016x}" == SPAN
    assert process.context.trace_state.get("a") == "b"


async def test_batch_is_linked_to_the_traces_of_its_messages(spans):
    reader = InMemoryMetricReader()
    middleware = PubSubTelemetryMiddleware(
        tracer_provider=provider_for(spans), meter_provider=MeterProvider([reader])
    )
    publisher, broker = PubSubBroker(logger=None), PubSubBroker(middlewares=[middleware])
    sent = [
        {key: f"00-{number:032x}-{number:016x}-01"}
        for number, key in enumerate((GOOGLE, "traceparent", GOOGLE), start=1)
    ]
    received: list[dict[str, str]] = []

    @broker.subscriber("first", subscription="first.reader", batch=True)
    async def read(_: list[str], batch: PubSubBatchMessage) -> None:
        received.extend(message.attributes for message in batch.messages)

    async with TestPubSubBroker(publisher, broker):
        messages = [PubsubMessage(data=b"x", attributes=attributes) for attributes in sent]
        await publisher.config.service.publish_batch(
            "projects/local-project/topics/first", messages
        )

    finished = {span.name: span for span in spans.get_finished_spans()}
    create, process = finished["first.reader create"], finished["first.reader process"]
    assert [link.context.trace_id for link in create.links] == [1, 2, 3]
    assert [link.context.span_id for link in create.links] == [1, 2, 3]
    assert process.parent.span_id == create.context.span_id
    assert process.attributes["messaging.batch.message_count"] == 3
    # links are made from copies: handlers see what was sent
    assert received == sent
    metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    counted = {metric.name: metric.data.data_points[0] for metric in metrics}
    assert counted["messaging.process.messages"].value == 3


async def test_messages_published_together_are_linked_each(spans, middleware):
    broker = PubSubBroker(logger=None, middlewares=[middleware])

    @broker.subscriber("first", subscription="first.reader", batch=True)
    async def read(_: list[str]) -> None: ...

    async with TestPubSubBroker(broker):
        await broker.publish_batch("a", "b", topic="first")
    finished = {span.name: span for span in spans.get_finished_spans()}
    assert len(finished["first.reader create"].links) == 2
    trace_ids = {link.context.trace_id for link in finished["first.reader create"].links}
    assert trace_ids == {finished["first publish"].context.trace_id}
