"""Spans and metrics by OpenTelemetry; the context travels in the attributes, as W3C writes it.

Google's clients write it as `googclient_traceparent`, which is read as well.
"""

from typing import Any, Final, TypeVar

from faststream.message import StreamMessage
from faststream.opentelemetry import TelemetrySettingsProvider
from faststream.opentelemetry.consts import MESSAGING_DESTINATION_PUBLISH_NAME
from faststream.opentelemetry.middleware import BaseTelemetryMiddleware, TelemetryMiddleware
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.semconv.trace import SpanAttributes
from opentelemetry.trace import TracerProvider

from faststream_pubsub._faststream import AsyncFuncAny, ContextRepo
from faststream_pubsub.deliveries import Batch, Delivery
from faststream_pubsub.message import CORRELATION_ID
from faststream_pubsub.response import PubSubPublishCommand

# https://opentelemetry.io/docs/specs/semconv/messaging/gcp-pubsub/
_SYSTEM = "gcp_pubsub"
_SUBSCRIPTION: Final = "messaging.destination.subscription.name"
_GOOGLE: Final = "googclient_"
_CONTEXT: Final = ("traceparent", "tracestate")
Raw = TypeVar("Raw")


class PubSubTelemetryMiddleware(TelemetryMiddleware[PubSubPublishCommand]):
    """One span per publication and per handled message, in one trace.

    A batch has messages of many traces, and so one span in a trace of its own, whose first span
    links to all of them.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        meter: Meter | None = None,
    ) -> None:
        super().__init__(
            settings_provider_factory=_provider_for,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            meter=meter,
            include_messages_counters=True,
        )

    def __call__(self, msg: Any | None, /, *, context: ContextRepo) -> "_Middleware":  # noqa: ANN401 - FastStream's signature
        """Make the middleware of one message."""
        return _Middleware(
            msg,
            tracer=self._tracer,
            metrics_container=self._metrics,
            settings_provider_factory=self._settings_provider_factory,
            context=context,
        )


class _Middleware(BaseTelemetryMiddleware[PubSubPublishCommand]):
    async def consume_scope(self, call_next: AsyncFuncAny, msg: StreamMessage[Any]) -> Any:  # noqa: ANN401 - what handlers return
        """Make the message's context readable, then let FastStream's middleware do its work."""
        if msg.batch_headers:
            messages = zip(msg.batch_headers, msg.raw_message, strict=True)
            msg.batch_headers = [_linkable(headers, one.message_id) for headers, one in messages]
        else:
            msg.headers = with_context(msg.headers)
        return await super().consume_scope(call_next, msg)


def with_context(attributes: dict[str, Any]) -> dict[str, Any]:
    """A message's attributes with the context that Google's client wrote under its own names.

    Source: `googclient_` of google-cloud-pubsub's `open_telemetry/context_propagation.py`.
    """
    if _CONTEXT[0] in attributes or f"{_GOOGLE}{_CONTEXT[0]}" not in attributes:
        return attributes
    found = {key: attributes.get(f"{_GOOGLE}{key}") for key in _CONTEXT}
    return attributes | {key: value for key, value in found.items() if value}


def _linkable(attributes: dict[str, Any], message_id: str) -> dict[str, Any]:
    # FastStream makes one link per correlation ID; the messages of one publish_batch share theirs
    return with_context(attributes) | {CORRELATION_ID: message_id}


class _Provider(TelemetrySettingsProvider[Raw, PubSubPublishCommand]):
    """What spans of publications say."""

    messaging_system = _SYSTEM

    def get_publish_attrs_from_cmd(self, cmd: PubSubPublishCommand) -> dict[str, Any]:
        """Attributes of a publication's span."""
        return {
            SpanAttributes.MESSAGING_SYSTEM: _SYSTEM,
            SpanAttributes.MESSAGING_DESTINATION_NAME: cmd.destination,
            SpanAttributes.MESSAGING_MESSAGE_CONVERSATION_ID: cmd.correlation_id or "",
        }

    def get_publish_destination_name(self, cmd: PubSubPublishCommand) -> str:
        """The topic's ID."""
        return cmd.destination


class PubSubTelemetrySettingsProvider(_Provider[Delivery]):
    """What spans of single messages say."""

    def get_consume_attrs_from_message(self, msg: StreamMessage[Delivery]) -> dict[str, Any]:
        """Attributes of a handler's span."""
        return {
            SpanAttributes.MESSAGING_SYSTEM: _SYSTEM,
            SpanAttributes.MESSAGING_MESSAGE_ID: msg.message_id,
            SpanAttributes.MESSAGING_MESSAGE_CONVERSATION_ID: msg.correlation_id,
            SpanAttributes.MESSAGING_MESSAGE_PAYLOAD_SIZE_BYTES: len(msg.body),
            **_destinations(msg.raw_message),
        }

    def get_consume_destination_name(self, msg: StreamMessage[Delivery]) -> str:
        """The subscription's ID."""
        return _id(msg.raw_message.subscription)


class PubSubBatchTelemetrySettingsProvider(_Provider[Batch]):
    """What spans of batches say."""

    def get_consume_attrs_from_message(self, msg: StreamMessage[Batch]) -> dict[str, Any]:
        """Attributes of a handler's span."""
        return {
            SpanAttributes.MESSAGING_SYSTEM: _SYSTEM,
            SpanAttributes.MESSAGING_MESSAGE_ID: msg.message_id,
            SpanAttributes.MESSAGING_MESSAGE_CONVERSATION_ID: msg.correlation_id,
            SpanAttributes.MESSAGING_MESSAGE_PAYLOAD_SIZE_BYTES: sum(map(len, msg.body)),
            SpanAttributes.MESSAGING_BATCH_MESSAGE_COUNT: len(msg.raw_message),
            **_destinations(msg.raw_message[0]),
        }

    def get_consume_destination_name(self, msg: StreamMessage[Batch]) -> str:
        """The subscription's ID."""
        return _id(msg.raw_message[0].subscription)


def _destinations(delivery: Delivery) -> dict[str, str]:
    """Where it was published, as far as the subscriber declares it, and where it was read."""
    subscription = _id(delivery.subscription)
    published = _id(delivery.settler.topic) or subscription
    return {_SUBSCRIPTION: subscription, MESSAGING_DESTINATION_PUBLISH_NAME: published}


def _id(name: str) -> str:
    return name.rsplit("/", maxsplit=1)[-1]


def _provider_for(
    raw: Delivery | Batch | None,
) -> PubSubTelemetrySettingsProvider | PubSubBatchTelemetrySettingsProvider:
    if isinstance(raw, tuple):
        return PubSubBatchTelemetrySettingsProvider()
    return PubSubTelemetrySettingsProvider()
