"""The bus: steps and sagas become FastStream subscribers, outgoing events become messages.

Names: an event travels on ``<prefix><topic>``; ``<handler>.<topic>`` is the subscription of a
handler, ``<handler>.<topic>.dead`` its dead-letter topic and the subscription that keeps it.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import structlog
from faststream import AckPolicy, Context

from events.cloudevents import Envelope, InvalidEventError
from faststream_pubsub import PubSubBroker, PubSubError, PubSubMessage, RetryPolicy
from infra.once import Dead, Redeliver, Settled, Settlement
from infra.ports import Outgoing
from infra.telemetry import span, trace_id, traceparent

MAX_DELIVERY_ATTEMPTS = 100
"""For messages that kill their worker each time; every other failure is dead-lettered at once."""

REDELIVER_SECONDS = 2.0
"""For messages whose handling broke off, such as when the ledger did not answer."""

LONGEST_DELAY_SECONDS = 600.0

log = structlog.get_logger(__name__)

Decode = Callable[[bytes, Mapping[str, str]], Envelope[Any]]
Handle = Callable[[Envelope[Any]], Awaitable[Settlement]]


class BusPublisher:
    """The ``Publisher`` port on a broker."""

    def __init__(self, broker: PubSubBroker, prefix: str = "") -> None:
        self._broker = broker
        self._prefix = prefix

    async def publish(self, outgoing: Sequence[Outgoing]) -> tuple[str, ...]:
        """Publish all at once; the ids of those that are confirmed."""
        confirmed = await asyncio.gather(*(self._one(event) for event in outgoing))
        return tuple(event.id for event, done in zip(outgoing, confirmed, strict=True) if done)

    async def _one(self, event: Outgoing) -> bool:
        try:
            await self._broker.publish(
                event.data,
                topic=self._prefix + event.topic,
                attributes=dict(event.attributes),
                ordering_key=event.ordering_key,
            )
        except PubSubError as error:
            log.warning("not_published", topic=event.topic, event_id=event.id, error=str(error))
            return False
        return True


def subscription_name(prefix: str, handler: str, topic: str) -> str:
    """The subscription of a handler to a topic."""
    return f"{prefix}{handler}.{topic}"


def dead_name(subscription: str) -> str:
    """The dead-letter topic of a subscription, and the subscription that keeps its messages."""
    return f"{subscription}.dead"


def subscribe(
    broker: PubSubBroker,
    *,
    handler: str,
    topic: str,
    prefix: str,
    decode: Decode,
    handle: Handle,
    workers: int,
    max_lease_seconds: float,
) -> None:
    """Have a handler's messages decoded, handled in a span, and settled by its outcome."""
    name = subscription_name(prefix, handler, topic)

    @broker.subscriber(
        prefix + topic,
        subscription=name,
        ack_deadline_seconds=30,
        retry_policy=RetryPolicy(minimum_backoff_seconds=0.5, maximum_backoff_seconds=10),
        dead_letter_topic=dead_name(name),
        max_delivery_attempts=MAX_DELIVERY_ATTEMPTS,
        max_messages=workers * 4,
        max_workers=workers,
        max_lease_seconds=max_lease_seconds,
        ack_policy=AckPolicy.MANUAL,
        decoder=_untouched,
        no_reply=True,
        title=name,
    )
    async def consume(
        body: bytes,
        message: Annotated[PubSubMessage, Context("message")],
    ) -> None:
        attributes = {key: str(value) for key, value in message.attributes.items()}
        try:
            envelope = decode(body, attributes)
        except InvalidEventError as error:
            log.warning("invalid_message", subscription=name, reason=str(error))
            await _reject(message, str(error), error)
            return
        await _settle(message, await _handled(handler, envelope, handle))


async def _untouched(message: PubSubMessage) -> bytes:
    return bytes(message.body)


async def _handled(handler: str, envelope: Envelope[Any], handle: Handle) -> Settlement:
    event = envelope.event
    attributes = {
        "messaging.system": "gcp_pubsub",
        "messaging.operation.type": "process",
        "messaging.message.id": envelope.id,
        "nexus.subject": event.subject,
    }
    with (
        span(
            f"{handler} {envelope.type}",
            parent=envelope.traceparent,
            kind="consumer",
            attributes=attributes,
        ),
        structlog.contextvars.bound_contextvars(**_log_context(handler, envelope)),
    ):
        try:
            return await handle(envelope)
        except Exception:
            # A message that is left unsettled would stay leased for as long as its lease may last.
            log.exception("not_handled")
            return Redeliver(REDELIVER_SECONDS)


def _log_context(handler: str, envelope: Envelope[Any]) -> Mapping[str, object]:
    """What every line that is logged within the current span carries."""
    context = {
        "handler": handler,
        "iteration": getattr(envelope.event, "iteration", None),
        "shard": getattr(envelope.event, "shard_index", None),
        "event_id": envelope.id,
        "trace_id": trace_id(traceparent()) or trace_id(envelope.traceparent),
    }
    return {key: value for key, value in context.items() if value is not None}


async def _settle(message: PubSubMessage, settlement: Settlement) -> None:
    match settlement:
        case Settled():
            await message.ack()
        case Redeliver(after_seconds):
            await message.nack(delay_seconds=_delay(after_seconds, message.delivery_attempt or 1))
        case Dead(reason):
            await _reject(message, reason, None)


def _delay(after_seconds: float, attempt: int) -> int:
    """Longer from try to try, so that waiting does not use up the delivery attempts.

    The service counts every delivery; a hundred of these last over half a day.
    """
    patience = 1.5 ** max(0, attempt - 3)
    return math.ceil(min(LONGEST_DELAY_SECONDS, after_seconds * patience))


async def _reject(message: PubSubMessage, reason: str, error: InvalidEventError | None) -> None:
    found = {"dead-letter-field": error.field, "dead-letter-value": error.value} if error else {}
    attributes = {key: _attribute(value) for key, value in found.items() if value}
    await message.reject(reason=_attribute(reason), attributes=attributes)


def _attribute(value: str) -> str:
    """At most the 1,024 bytes that Pub/Sub allows an attribute."""
    return value.encode()[:1024].decode(errors="ignore")
