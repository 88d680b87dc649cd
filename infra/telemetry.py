"""OpenTelemetry: one trace for each iteration, sent on by the standard ``OTEL_*`` environment.

Without an exporter in the environment the API's own no-op spans are used, yet ids are still made
and carried, so that logs and the ledger can name the trace.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER = trace.get_tracer("nexus")
Kind = Literal["producer", "consumer", "internal"]
_KINDS = {
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
    "internal": trace.SpanKind.INTERNAL,
}


def configure() -> TracerProvider:
    """Set the process's tracer provider up from the environment; call once.

    ``OTEL_TRACES_EXPORTER`` is ``otlp``, ``console`` or ``none``; without it, ``otlp`` when an
    OTLP endpoint is set, else ``none``. ``OTEL_EXPORTER_OTLP_PROTOCOL`` chooses ``grpc`` or
    ``http/protobuf``. Sampler, service name and resource are read by the SDK itself.
    """
    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):
        return current
    provider = TracerProvider(resource=Resource.create(_default_service()))
    exporter = _exporter()
    if isinstance(exporter, ConsoleSpanExporter):
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    elif exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def _default_service() -> dict[str, str]:
    return {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "nexus"}


def _exporter() -> SpanExporter | None:
    endpoint = any(
        os.environ.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    # By the specification, an empty variable counts as one that is not set.
    chosen = os.environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "none")
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or chosen == "none":
        return None
    if chosen == "console":
        import sys  # noqa: PLC0415 - only this exporter writes by itself

        return ConsoleSpanExporter(out=sys.stderr)
    return _otlp_exporter()


def _otlp_exporter() -> SpanExporter:
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - costs 100 ms
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - costs 100 ms
        OTLPSpanExporter as HttpExporter,
    )

    return HttpExporter()


def force_flush() -> None:
    """Send what waits now."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush()


def shut_down() -> None:
    """Send what waits; call before the process ends."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    kind: Kind = "internal",
    attributes: Mapping[str, str | int | float] | None = None,
) -> Iterator[trace.Span]:
    """A span, below the W3C ``traceparent`` that is given, else below the current span."""
    above = context.get_current()
    if parent is not None:
        above = _PROPAGATOR.extract({"traceparent": parent})
    with _TRACER.start_as_current_span(
        name, context=above, kind=_KINDS[kind], attributes=attributes
    ) as current:
        yield current


def traceparent() -> str | None:
    """The current span as W3C ``traceparent``; None outside any span."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


def trace_id(parent: str | None) -> str | None:
    """The trace id within a ``traceparent``."""
    return parent.split("-")[1] if parent and parent.count("-") >= 3 else None
