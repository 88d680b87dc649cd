"""Publishing: messages are checked, numbered, and (once durable) given to who wants them."""

from collections.abc import Iterable, Sequence

from embedded_pubsub import limits
from embedded_pubsub.log import Cursor, Message
from embedded_pubsub.protos import Proto
from embedded_pubsub.resources import Publication, TopicState
from embedded_pubsub.topics import Topics
from embedded_pubsub.varints import varint

FRAME_BYTES = 4
"""What a message costs in a request beside its own bytes: a tag and a length."""


class Publishing(Topics):
    """What comes into a server."""

    def prepare(self, request: Proto, now: float) -> Publication:
        """Check a `PublishRequest` and give its messages ids and a publish time."""
        topic = self.topic(request.topic)
        bodies = _serialized(request.messages)
        limits.check_publish(request, sum(map(len, bodies)) + FRAME_BYTES * len(bodies))
        for message in request.messages:
            limits.check_message(message)
        if topic.config.HasField("schema_settings"):
            settings = topic.config.schema_settings
            accepted = [self.schemas.accept(settings, m.data) for m in request.messages]
            for message, attributes in zip(request.messages, accepted, strict=True):
                message.attributes.update(attributes)
            bodies = _serialized(request.messages)
        return self.accept(topic, request.messages, bodies, now)

    def new_id(self) -> str:
        """Give the id of a message that is accepted, but filtered out before it is published."""
        return str(next(self.numbers))

    def accept(
        self, topic: TopicState, messages: Sequence[Proto], bodies: Sequence[bytes], now: float
    ) -> Publication:
        """Give messages, and their serialized form, ids and a publish time."""
        stamp = _publish_time(now)
        accepted: list[Message] = []
        for message, body in zip(messages, bodies, strict=True):
            seq = next(self.numbers)
            stamped = body + _message_id(seq) + stamp
            accepted.append(
                Message(seq, topic.number, len(stamped), message.ordering_key, now, stamped)
            )
        attributes = [dict(message.attributes) for message in messages] if topic.filtered else []
        return Publication(topic, accepted, attributes)

    def deliver(self, publication: Publication) -> None:
        """Hand durable messages to all that were there when they were published."""
        topic, messages = publication.topic, publication.messages
        holders = len(topic.readers) - _pass_over(topic.readers.values(), messages)
        for message in messages:
            message.holders = holders
            self.keep_body(message)
        if topic.readers:
            topic.log.extend(messages)
            self.published.add(topic)
        if publication.attributes:
            self._deliver_matching(publication)
        if not holders:
            for message in messages:
                if not message.holders:
                    self.drop(message)

    def _deliver_matching(self, publication: Publication) -> None:
        for subscription in publication.topic.filtered.values():
            matches, start = subscription.matches, subscription.start
            for message, attributes in zip(
                publication.messages, publication.attributes, strict=True
            ):
                if start < message.seq and matches(attributes):
                    message.holders += 1
                    subscription.backlog.add(message)
                    self.deliverable.add(subscription)


def _pass_over(readers: Iterable[Cursor], messages: Sequence[Message]) -> int:
    """Have readers that came after messages were published skip them; counts those readers."""
    late = [reader for reader in readers if reader.start > messages[0].seq]
    for reader in late:
        reader.skip(messages)
    return len(late)


def _serialized(messages: Iterable[Proto]) -> list[bytes]:
    return [message.SerializeToString() for message in messages]


def _message_id(seq: int) -> bytes:
    """Serialize the field `message_id` (3), to be appended: the last value of a field counts."""
    digits = b"%d" % seq
    return b"\x1a%c%b" % (len(digits), digits)


def _publish_time(now: float) -> bytes:
    """Serialize the field `publish_time` (4), to be appended."""
    seconds = int(now)
    nanos = int((now - seconds) * 1e9)
    stamp = b"\x08" + varint(seconds) + b"\x10" + varint(nanos)
    return b"\x22" + varint(len(stamp)) + stamp
