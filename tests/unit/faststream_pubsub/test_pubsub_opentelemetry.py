from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from faststream_pubsub import PubSubBroker, TestPubSubBroker
from faststream_pubsub.opentelemetry import PubSubTelemetryMiddleware


async def test_one_trace_from_publication_through_handlers():
    spans = InMemorySpanExporter()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    middleware = PubSubTelemetryMiddleware(tracer_provider=tracer_provider)
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
