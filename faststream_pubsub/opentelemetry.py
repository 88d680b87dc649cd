"""Spans and metrics by OpenTelemetry; the context travels in the attributes, as W3C writes it."""

from typing import Any, TypeVar

from faststream.message import StreamMessage
from faststream.opentelemetry import TelemetrySettingsProvider
from faststream.opentelemetry.consts import MESSAGING_DESTINATION_PUBLISH_NAME
from faststream.opentelemetry.middleware import TelemetryMiddleware
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.semconv.trace import SpanAttributes
from opentelemetry.trace import TracerProvider

from faststream_pubsub.deliveries import Batch, Delivery
from faststream_pubsub.response import PubSubPublishCommand

# https://opentelemetry.io/docs/specs/semconv/messaging/gcp-pubsub/
_SYSTEM = "gcp_pubsub"
Raw = TypeVar("Raw")


class PubSubTelemetryMiddleware(TelemetryMiddleware[PubSubPublishCommand]):
    """One span per publication and per handled message, in one trace."""

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
            MESSAGING_DESTINATION_PUBLISH_NAME: self.get_consume_destination_name(msg),
        }

    def get_consume_destination_name(self, msg: StreamMessage[Delivery]) -> str:
        """The subscription's ID."""
        return msg.raw_message.subscription.rsplit("/", maxsplit=1)[-1]


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
            MESSAGING_DESTINATION_PUBLISH_NAME: self.get_consume_destination_name(msg),
        }

    def get_consume_destination_name(self, msg: StreamMessage[Batch]) -> str:
        """The subscription's ID."""
        return msg.raw_message[0].subscription.rsplit("/", maxsplit=1)[-1]


def _provider_for(
    raw: Delivery | Batch | None,
) -> PubSubTelemetrySettingsProvider | PubSubBatchTelemetrySettingsProvider:
    if isinstance(raw, tuple):
        return PubSubBatchTelemetrySettingsProvider()
    return PubSubTelemetrySettingsProvider()
