"""What this client holds of one subscription: leased messages, until they are settled or lost."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from faststream_pubsub.acknowledging import Acknowledger
from faststream_pubsub.client import PubSubClient
from faststream_pubsub.dead_letters import dead_letter
from faststream_pubsub.deliveries import Delivery, LeaseTable
from faststream_pubsub.errors import PubSubError
from faststream_pubsub.publishing import MessagePublisher
from faststream_pubsub.settings import EXACTLY_ONCE_DEADLINE_SECONDS, SubscriptionSettings

FLUSH_SECONDS: Final = 10.0

Log: TypeAlias = Callable[[int, str, BaseException | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is read: full names, and how to make them be there.

    Attributes:
        subscription: Full name of the subscription.
        dead_letter_topic: Full name of its dead-letter topic, if it has one.
        ensure: Creates or checks topic and subscription.
        topic: Topic that the subscriber declares; empty where it declares a subscription only.
    """

    subscription: str
    dead_letter_topic: str | None
    ensure: Callable[[], Awaitable[None]]
    topic: str = ""


class Holdings:
    """Keeps leases alive, and tells the service what became of each message.

    Attributes:
        leases: What is held.
        topic: See `Source`.
        lost_leases: Leases that have ended before their message was settled, so far.
        failed_acks: Messages that the service did not let be acknowledged, so far.
    """

    def __init__(
        self,
        client: PubSubClient,
        publisher: MessagePublisher,
        source: Source,
        settings: SubscriptionSettings,
        log: Log,
    ) -> None:
        self._publisher = publisher
        self._source = source
        self._settings = settings
        self._log = log
        self.leases = LeaseTable(
            lease_seconds=settings.lease_seconds,
            longest_seconds=settings.max_lease_seconds,
        )
        self._acknowledger = Acknowledger(
            client,
            source.subscription,
            on_lost=partial(self._lose, why="the service had ended it"),
            on_late=self._tell_late,
            on_error=self.report,
            on_failed=self._count_failed_acks,
        )
        self._room = asyncio.Event()
        self.topic = source.topic
        self._exactly_once = settings.enable_exactly_once_delivery
        self.lost_leases = 0
        self.failed_acks = 0

    # taking

    def take(self, deliveries: Iterable[Delivery], *, now: float) -> list[Delivery]:
        """Hold what has just arrived; what is held already is left out of what is returned."""
        return self.leases.begin(deliveries, now=now)

    def expect_confirmations(self) -> None:
        """The service says that the subscription has exactly-once delivery."""
        self._exactly_once = True
        self.leases.at_least(EXACTLY_ONCE_DEADLINE_SECONDS)

    @property
    def is_full(self) -> bool:
        """No more may be held."""
        return (
            len(self.leases) >= self._settings.max_messages
            or self.leases.held_bytes >= self._settings.max_bytes
        )

    async def wait_for_change(self) -> None:
        """Wait until something has been let go."""
        self._room.clear()
        await self._room.wait()

    def wake(self) -> None:
        """Let who waits for a change look again."""
        self._room.set()

    def keep(self, now: float) -> None:
        """Extend the leases that are due, and give up those that have been kept for too long."""
        longest = f"max_lease_seconds={self._settings.max_lease_seconds} is over"
        self._lose(self.leases.take_expired(now=now), why=longest)
        lease_seconds, due = self.leases.take_due(now=now)
        self._acknowledger.set_deadline(due, lease_seconds)

    # settling

    def ack(self, delivery: Delivery) -> Awaitable[None] | None:
        """Acknowledge; with exactly-once delivery, there is a confirmation to wait for."""
        if self._exactly_once:
            return self._ack_confirmed(delivery)
        self._let_go(delivery)
        self._acknowledger.ack(delivery)
        return None

    async def _ack_confirmed(self, delivery: Delivery) -> None:
        delivery.settling = True
        try:
            await self._acknowledger.ack_confirmed(delivery)
        finally:
            self._let_go(delivery)

    async def ack_all(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge several; with exactly-once delivery, wait for all confirmations."""
        if not self._exactly_once:
            self.leases.end_these(deliveries)
            self._room.set()
            self._acknowledger.ack_all(deliveries)
            return
        confirmations = map(self._ack_confirmed, deliveries)
        results = await asyncio.gather(*confirmations, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def nack(self, delivery: Delivery, delay_seconds: int) -> None:
        """Have it delivered again: at once, or when a lease of `delay_seconds` ends."""
        delivery.nacked = True
        self._let_go(delivery)
        self._acknowledger.set_deadline([delivery], delay_seconds)

    async def reject(
        self,
        delivery: Delivery,
        *,
        reason: str,
        attributes: Mapping[str, str],
    ) -> None:
        """Keep it as a dead letter, then acknowledge."""
        message_id = delivery.message_id
        if self._source.dead_letter_topic is None:
            self._log(
                logging.ERROR,
                f"message {message_id} is rejected and gone: {self._source.subscription} has no "
                f"dead_letter_topic. Reason: {reason or 'none given'}",
                None,
            )
            await self._ack(delivery)
            return
        letter = dead_letter(delivery, reason=reason, attributes=attributes)
        try:
            await self._publisher.publish(self._source.dead_letter_topic, letter)
        except PubSubError as error:
            self._log(
                logging.ERROR,
                f"dead letter of message {message_id} is not kept, so the message comes again: "
                f"{error}. Who rejects needs roles/pubsub.publisher on the dead-letter topic.",
                error,
            )
            await self.nack(delivery, 0)
            return
        await self._ack(delivery)

    async def _ack(self, delivery: Delivery) -> None:
        if confirmation := self.ack(delivery):
            await confirmation

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back at once, so that others get them."""
        for delivery in deliveries:
            self._let_go(delivery)
        self._acknowledger.set_deadline(deliveries, 0)

    async def close(self, flush_seconds: float) -> None:
        """Give back what is held, and send what is queued."""
        self.release(self.leases.end_all())
        await self._acknowledger.close(flush_seconds)

    def _let_go(self, delivery: Delivery) -> None:
        self.leases.end(delivery)
        self._room.set()

    # telling

    def report(self, text: str, error: BaseException | None) -> None:
        """Log an error of this subscription."""
        self._log(logging.ERROR, f"{self._source.subscription}: {text}", error)

    def _count_failed_acks(self, count: int) -> None:
        self.failed_acks += count

    def _lose(self, deliveries: list[Delivery], *, why: str) -> None:
        self.lost_leases += len(deliveries)
        for delivery in deliveries:
            # what is behind it in its key will come again with it
            delivery.nacked = True
            self._let_go(delivery)
            self._log(
                logging.WARNING,
                f"lease of message {delivery.message_id} has ended before it was settled, "
                f"as {why}; it may be delivered again",
                None,
            )

    def _tell_late(self, deliveries: list[Delivery]) -> None:
        self.lost_leases += len(deliveries)
        self._log(
            logging.WARNING,
            f"{len(deliveries)} messages of {self._source.subscription} are acknowledged after "
            f"their leases have ended, message {deliveries[0].message_id} first; they may be "
            "delivered again. Leases are extended by the event loop: let code that blocks it run "
            "in a thread, as handlers by plain `def` do",
            None,
        )
