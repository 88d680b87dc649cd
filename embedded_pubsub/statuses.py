"""Errors as `google.rpc.Status`, with the details that clients look for.

Source: Google's API Improvement Proposal 193 (errors) and google/rpc/error_details.proto.
"""

import re

from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, ResourceInfo
from google.rpc.status_pb2 import Status

from embedded_pubsub.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PubSubError,
    StaleAckIdError,
)

_FIELD = re.compile(r"([a-z_][a-z0-9_.]*): (.+)", re.DOTALL)
_RESOURCE = re.compile(r"\(resource=(projects/[^/]+/([a-z]+)/[^)]+)\)")
_TYPES = {
    "topics": "pubsub.googleapis.com/Topic",
    "subscriptions": "pubsub.googleapis.com/Subscription",
    "snapshots": "pubsub.googleapis.com/Snapshot",
    "schemas": "pubsub.googleapis.com/Schema",
}


def status_of(error: PubSubError) -> Status:
    """Give an error as a `google.rpc.Status`.

    Its details say which ack ids failed (exactly-once clients read that), which field is wrong,
    which resource is missing or there already, or which precondition does not hold.
    """
    status = Status(code=Code.Value(error.code), message=str(error))
    detail = _detail(error)
    if detail is not None:
        status.details.add().Pack(detail)
    return status


def _detail(error: PubSubError) -> Message | None:
    text = str(error)
    match error:
        case StaleAckIdError():
            return ErrorInfo(
                reason="EXACTLY_ONCE_ACKID_FAILURE",
                domain="pubsub.googleapis.com",
                metadata=dict(error.failures),
            )
        case InvalidArgumentError() | OutOfRangeError():
            field = _FIELD.fullmatch(text)
            violation = BadRequest.FieldViolation(
                field=field[1] if field else "", description=field[2] if field else text
            )
            return BadRequest(field_violations=[violation])
        case NotFoundError() | AlreadyExistsError():
            resource = _RESOURCE.search(text)
            return resource and ResourceInfo(
                resource_type=_TYPES.get(resource[2], ""),
                resource_name=resource[1],
                description=text,
            )
        case FailedPreconditionError():
            violation = PreconditionFailure.Violation(description=text)
            return PreconditionFailure(violations=[violation])
    return None
