"""What must outlive the process, as the state machine says it and the store writes it.

The fields of each change are in the order of the columns of its statement in the store.
"""

from typing import NamedTuple


class PutTopic(NamedTuple):
    """A topic is new or has other settings; `body` is the serialized `Topic`."""

    number: int
    body: bytes


class DropTopic(NamedTuple):
    """A topic is deleted; its messages stay while subscriptions hold them."""

    number: int


class PutSubscription(NamedTuple):
    """A subscription is new or changed; it gets messages of the topic numbered above `start`."""

    number: int
    topic: int
    start: int
    body: bytes


class DropSubscription(NamedTuple):
    """A subscription is deleted, and with it what it had acknowledged."""

    number: int


class PutSnapshot(NamedTuple):
    """A snapshot holds `seqs` (a JSON list) and all messages of the topic above `after`."""

    number: int
    topic: int
    after: int
    seqs: str
    body: bytes


class DropSnapshot(NamedTuple):
    """A snapshot is deleted or has expired."""

    number: int


class PutMessage(NamedTuple):
    """A message is published; `body` is the serialized `PubsubMessage`, `size` its length."""

    seq: int
    topic: int
    publish_time: float
    ordering_key: str
    size: int
    body: bytes


class DropMessage(NamedTuple):
    """Nobody needs the message any more."""

    seq: int


class PutAck(NamedTuple):
    """A subscription is done with a message that others still need."""

    seq: int
    subscription: int


class DropAck(NamedTuple):
    """A seek brought a message back."""

    seq: int
    subscription: int


class PutOwed(NamedTuple):
    """A seek brought a subscription a message from before the subscription was made."""

    seq: int
    subscription: int


class PutSeek(NamedTuple):
    """A seek made every delivery of a subscription void that is numbered below `first`."""

    subscription: int
    first: int


class PutAttempt(NamedTuple):
    """A message went out for the `attempt`-th time under a dead-letter policy."""

    seq: int
    subscription: int
    attempt: int


class PutUse(NamedTuple):
    """A subscription was last used at a time, in seconds since the epoch."""

    subscription: int
    used: float


class PutSchema(NamedTuple):
    """A schema has another revision; `body` is the serialized `Schema`."""

    number: int
    body: bytes


class DropSchema(NamedTuple):
    """A revision of a schema is deleted."""

    number: int


class PutPolicy(NamedTuple):
    """A resource has another IAM policy; `body` is the serialized `Policy`."""

    resource: str
    body: bytes


class DropPolicy(NamedTuple):
    """A resource with an IAM policy is deleted."""

    resource: str


Change = (
    PutTopic
    | DropTopic
    | PutSubscription
    | DropSubscription
    | PutSnapshot
    | DropSnapshot
    | PutMessage
    | DropMessage
    | PutAck
    | DropAck
    | PutOwed
    | PutSeek
    | PutAttempt
    | PutUse
    | PutSchema
    | DropSchema
    | PutPolicy
    | DropPolicy
)
