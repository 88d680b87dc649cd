"""What the service refuses, as exceptions that carry the canonical code of google.rpc.Code."""

from collections.abc import Mapping
from typing import ClassVar


class PubSubError(Exception):
    """A refusal that the client sees; `code` is the name of a `google.rpc.Code`."""

    code: ClassVar[str] = "INTERNAL"


class InvalidArgumentError(PubSubError):
    """The request itself is wrong, whatever the state of the server."""

    code = "INVALID_ARGUMENT"


class OutOfRangeError(PubSubError):
    """A number is well formed but beyond what is allowed."""

    code = "OUT_OF_RANGE"


class NotFoundError(PubSubError):
    """A named resource does not exist."""

    code = "NOT_FOUND"


class AlreadyExistsError(PubSubError):
    """A resource of that name exists."""

    code = "ALREADY_EXISTS"


class FailedPreconditionError(PubSubError):
    """The request is well formed, but not in the resource's present state."""

    code = "FAILED_PRECONDITION"


class AbortedError(PubSubError):
    """Somebody else changed the resource meanwhile; the client reads it again."""

    code = "ABORTED"


class ResourceExhaustedError(PubSubError):
    """The server has no room, on disk or otherwise."""

    code = "RESOURCE_EXHAUSTED"


class UnavailableError(PubSubError):
    """The server is closing; the client may try again elsewhere or later."""

    code = "UNAVAILABLE"


class UnimplementedError(PubSubError):
    """A documented feature that this server does not have."""

    code = "UNIMPLEMENTED"


class StaleAckIdError(InvalidArgumentError):
    """An exactly-once subscription was given ack ids whose lease is over.

    `failures` maps each such ack id to the reason that the official clients look for in the
    `ErrorInfo` detail (Cloud Pub/Sub documentation, "Exactly-once delivery").
    """

    def __init__(self, failures: Mapping[str, str]) -> None:
        super().__init__(
            "Some acknowledgement ids in the request were invalid. This could be because the "
            "acknowledgement ids have expired or the acknowledgement ids were malformed."
        )
        self.failures = failures


class DataDirError(Exception):
    """The data folder can't be used: another server holds it, or it is not ours."""


class DataDirInUseError(DataDirError):
    """Another server has the data folder open."""
