"""What can go wrong, each with the way out in its text."""

from faststream.exceptions import FastStreamException


class PubSubError(FastStreamException):
    """A call to Pub/Sub that failed for good."""


class ConnectError(PubSubError):
    """The broker can't tell where, or as whom, to connect."""


class TopologyError(PubSubError):
    """A topic or subscription is absent, or not what the code declares."""


class PublishError(PubSubError):
    """A message that was not published."""


class FlowControlError(PublishError):
    """A message for which there was no room; it was not sent."""


class InvalidMessageError(PubSubError, ValueError):
    """A message that the service would refuse; it was not sent."""


class AcknowledgeError(PubSubError):
    """An exactly-once subscription did not confirm an acknowledgement.

    Attributes:
        message_id: The message whose acknowledgement failed; it may be delivered again.
        reason: What the service said.
    """

    def __init__(self, message_id: str, reason: str) -> None:
        super().__init__(f"message {message_id} is not acknowledged: {reason}")
        self.message_id = message_id
        self.reason = reason
