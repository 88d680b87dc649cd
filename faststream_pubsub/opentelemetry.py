"""Spans and metrics by OpenTelemetry; the context travels in the attributes, as W3C writes it."""

from typing import Any

from faststream.message import StreamMessage
from faststream.opentelemetry import TelemetrySettingsProvider
from faststream.opentelemetry.consts import MESSAGING_DESTINATION_PUBLISH_NAME
from faststream.opentelemetry.middleware import TelemetryMiddleware
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.semconv.trace import SpanAttributes
from opentelemetry.trace import TracerProvider

from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.response import PubSubPublishCommand

# https://opentelemetry.io/docs/specs/semconv/messaging/gcp-pubsub/
_SYSTEM = "gcp_pubsub"


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
            settings_provider_factory=lambda _: PubSubTelemetrySettingsProvider(),
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            meter=meter,
            include_messages_counters=True,
        )


class PubSubTelemetrySettingsProvider(TelemetrySettingsProvider[Delivery, PubSubPublishCommand]):
    """What the spans say."""

    messaging_system = _SYSTEM

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
