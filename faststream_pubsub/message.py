import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from faststream.message import AckStatus, StreamMessage

from faststream_pubsub.deliveries import Batch, Delivery
from faststream_pubsub.errors import AcknowledgeError

CONTENT_TYPE: Final = "content-type"
CORRELATION_ID: Final = "correlation_id"
REPLY_TO: Final = "reply_to"


class PubSubMessage(StreamMessage[Delivery]):
    """A message from Pub/Sub, settled by `ack`, `nack` or `reject`; the first one counts."""

    @classmethod
    def of(cls, delivery: Delivery) -> "PubSubMessage":
        """Wrap a delivery. The body is the data as it came; the rest is in attributes."""
        message = delivery.message
        attributes = attributes_of(delivery)
        message_id = delivery.message_id
        return cls(
            raw_message=delivery,
            body=message.data,
            headers=attributes,
            reply_to=attributes.get(REPLY_TO, ""),
            content_type=attributes.get(CONTENT_TYPE),
            correlation_id=attributes.get(CORRELATION_ID) or message_id,
            message_id=message_id,
        )

    @property
    def attributes(self) -> dict[str, Any]:
        """The message's attributes, which are its headers."""
        return self.headers

    @property
    def ordering_key(self) -> str:
        """Key whose messages come in order; empty for none."""
        key: str = self.raw_message.message.ordering_key
        return key

    @property
    def delivery_attempt(self) -> int | None:
        """Which delivery this is, from 1; None where the subscription doesn't count them."""
        return self.raw_message.attempt or None

    @property
    def publish_time(self) -> datetime:
        """When the service accepted the message, UTC."""
        published: datetime = self.raw_message.message.publish_time.ToDatetime(tzinfo=UTC)
        return published

    @property
    def subscription(self) -> str:
        """Full name of the subscription that it came through."""
        return self.raw_message.subscription

    async def ack(self) -> None:
        """Acknowledge.

        Raises:
            AcknowledgeError: The service did not confirm (exactly-once subscriptions only). The
                message is settled all the same: it may come again.
        """
        if self.committed is None:
            confirmation = self.raw_message.settler.ack(self.raw_message)
            if confirmation is not None:
                try:
                    await confirmation
                except AcknowledgeError:
                    self.committed = AckStatus.NACKED
                    raise
            self.committed = self.committed or AckStatus.ACKED

    async def nack(self, delay_seconds: int = 0) -> None:
        """Have it delivered again.

        Args:
            delay_seconds: Wait before that, 0 to 600; a retry policy of the subscription can only
                make it longer.

        Raises:
            ValueError: The delay is out of range.
        """
        _check_delay(delay_seconds)
        if self.committed is None:
            await self.raw_message.settler.nack(self.raw_message, int(delay_seconds))
        await super().nack()

    async def reject(
        self,
        reason: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Never have it delivered again.

        With a `dead_letter_topic` the message is published there, as it came, and then
        acknowledged; without one it is acknowledged, and an error is logged.

        Args:
            reason: Goes with the dead letter as attribute `dead-letter-reason`.
            attributes: Further attributes for the dead letter.
        """
        if self.committed is None:
            await self.raw_message.settler.reject(
                self.raw_message,
                reason=reason,
                attributes=attributes or {},
            )
        await super().reject()


class PubSubBatchMessage(StreamMessage[Batch]):
    """Messages that a handler takes together.

    `ack`, `nack` and `reject` settle those of `messages` that the handler has not settled itself.
    """

    _batch_headers: list[dict[str, Any]] | None

    @property
    def batch_headers(self) -> list[dict[str, Any]]:
        """Attributes of each message; they are read for who looks at them."""
        if self._batch_headers is None:
            self._batch_headers = [attributes_of(delivery) for delivery in self.raw_message]
        return self._batch_headers

    @batch_headers.setter
    def batch_headers(self, value: list[dict[str, Any]]) -> None:
        self._batch_headers = value or None

    def content_types(self) -> list[str | None]:
        """Content type of each message."""
        if self._batch_headers is None:
            return [delivery.message.attributes.get(CONTENT_TYPE) for delivery in self.raw_message]
        return [headers.get(CONTENT_TYPE) for headers in self._batch_headers]

    @cached_property
    def messages(self) -> tuple[PubSubMessage, ...]:
        """The messages, in the order of their delivery; they are made for who looks at them."""
        return tuple(PubSubMessage.of(delivery) for delivery in self.raw_message)

    async def ack(self) -> None:
        """Acknowledge what is not settled yet.

        Raises:
            AcknowledgeError: The service did not confirm all (exactly-once subscriptions only).
                The batch is settled all the same: parts of it may come again.
        """
        if self.committed is None and (left := self._unsettled_deliveries()):
            try:
                await left[0].settler.ack_all(left)
            except AcknowledgeError:
                self.committed = AckStatus.NACKED
                raise
        await super().ack()

    async def nack(self, delay_seconds: int = 0) -> None:
        """Have what is not settled yet delivered again.

        Args:
            delay_seconds: Wait before that, 0 to 600.

        Raises:
            ValueError: The delay is out of range.
        """
        _check_delay(delay_seconds)
        if self.committed is None:
            for message in self._unsettled():
                await message.nack(delay_seconds)
        await super().nack()

    async def reject(
        self,
        reason: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Make dead letters of what is not settled yet; see `PubSubMessage.reject`."""
        if self.committed is None:
            left = self._unsettled()
            await asyncio.gather(*(message.reject(reason, attributes) for message in left))
        await super().reject()

    def _unsettled_deliveries(self) -> Sequence[Delivery]:
        if "messages" in self.__dict__:
            return [message.raw_message for message in self._unsettled()]
        # nobody has looked at them, so nobody has settled any
        return self.raw_message

    def _unsettled(self) -> list[PubSubMessage]:
        return [message for message in self.messages if message.committed is None]


def attributes_of(delivery: Delivery) -> dict[str, str]:
    """Attributes of a delivered message, in half the time that `dict` takes for them."""
    found = delivery.message.attributes
    return {key: found[key] for key in found}


def _check_delay(delay_seconds: int) -> None:
    if not 0 <= delay_seconds <= 600:
        raise ValueError(f"delay_seconds={delay_seconds!r} is out of range: 0 to 600.")
