"""Looks at dead-letter subscriptions; what is looked at stays."""

import asyncio
from collections.abc import Iterable

from faststream_pubsub import PubSubBroker, PubSubMessage, TopologyError
from infra.bus import dead_name
from infra.ports import DeadLetter

QUIET_SECONDS = 1.0
REASON = "dead-letter-reason"
REASON_BY_SERVICE = "given up after {attempts} deliveries that no handler settled"


async def peek(
    broker: PubSubBroker, subscriptions: Iterable[str], *, limit: int
) -> list[DeadLetter]:
    """The dead letters of these subscriptions, oldest first, at most ``limit`` of each."""
    found = await asyncio.gather(*(_peek(broker, name, limit) for name in subscriptions))
    letters = [letter for letters in found for letter in letters]
    return sorted(letters, key=lambda letter: (letter.publish_time, letter.message_id))


async def _peek(broker: PubSubBroker, subscription: str, limit: int) -> list[DeadLetter]:
    reader = broker.subscriber(
        subscription=dead_name(subscription), autocreate=False, max_messages=limit
    )
    taken: list[PubSubMessage] = []
    try:
        await reader.start()
        while len(taken) < limit:
            message = await reader.get_one(timeout=QUIET_SECONDS)
            if message is None:
                break
            taken.append(message)
    except TopologyError:
        return []
    finally:
        for message in taken:
            await message.nack()
        await reader.stop()
    return [_letter(subscription, message) for message in taken]


def _letter(subscription: str, message: PubSubMessage) -> DeadLetter:
    attributes = {key: str(value) for key, value in message.attributes.items()}
    attempts = attributes.get("CloudPubSubDeadLetterSourceDeliveryCount", "many")
    return DeadLetter(
        subscription=subscription,
        message_id=message.message_id,
        reason=attributes.get(REASON) or REASON_BY_SERVICE.format(attempts=attempts),
        attributes=attributes,
        data=bytes(message.body),
        publish_time=message.publish_time,
    )
