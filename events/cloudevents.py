"""CloudEvents 1.0 on Pub/Sub, binary mode: attributes ``ce-*``, the payload as JSON.

Source: CloudEvents specification 1.0.2 and its Google Cloud Pub/Sub protocol binding.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from pydantic import ValidationError

from events.catalogue import BY_TYPE
from events.model import Event

E = TypeVar("E")
Ours = TypeVar("Ours", bound=Event)

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"
REQUIRED_ATTRIBUTES = ("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time")
_IDS = uuid.uuid5(uuid.NAMESPACE_DNS, "nexus.events")


class InvalidEventError(ValueError):
    """A message that is no event of ours: ``field``, ``value`` and ``reason`` say why."""

    def __init__(self, field: str, value: str, reason: str) -> None:
        super().__init__(f"{field}={value!r}: {reason}")
        self.field = field
        self.value = value
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Envelope(Generic[E]):
    """An event with what CloudEvents says about it."""

    event: E
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    traceparent: str | None = None


def derived_id(cause: str, event: Event) -> str:
    """The id of an event that ``cause`` (a claim or a saga) emits: always the same one."""
    return str(uuid.uuid5(_IDS, f"{cause}|{event.type}|{event.identity}"))


def encode(
    event: Event,
    *,
    id: str,  # noqa: A002 - CloudEvents' own name
    source: str,
    time: datetime,
    traceparent: str | None = None,
) -> tuple[bytes, dict[str, str]]:
    """An event's wire form: data and attributes."""
    attributes = {
        "ce-specversion": SPEC_VERSION,
        "ce-id": id,
        "ce-source": source,
        "ce-type": event.type,
        "ce-subject": event.subject,
        "ce-time": time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "content-type": CONTENT_TYPE,
    }
    if traceparent:
        attributes["traceparent"] = traceparent
    return event.model_dump_json().encode(), attributes


def decode(data: bytes, attributes: Mapping[str, str], expected: type[Ours]) -> Envelope[Ours]:
    """Read an event of the expected type. Raises InvalidEventError."""
    for name in REQUIRED_ATTRIBUTES:
        if not attributes.get(name):
            raise InvalidEventError(name, "", "the attribute is missing; CloudEvents requires it")
    _expect("ce-specversion", attributes["ce-specversion"], SPEC_VERSION)
    _expect_type(attributes["ce-type"], expected)
    content_type = attributes.get("content-type", CONTENT_TYPE).partition(";")[0].strip()
    _expect("content-type", content_type, CONTENT_TYPE)
    return Envelope(
        event=_payload(data, expected),
        id=attributes["ce-id"],
        source=attributes["ce-source"],
        type=attributes["ce-type"],
        subject=attributes.get("ce-subject", ""),
        time=_time(attributes["ce-time"]),
        traceparent=attributes.get("traceparent"),
    )


def _expect(field: str, value: str, wanted: str) -> None:
    if value != wanted:
        raise InvalidEventError(field, value, f"only {wanted!r} is read here")


def _expect_type(value: str, expected: type[Event]) -> None:
    if value == expected.type:
        return
    known = BY_TYPE.get(value)
    if known is not None:
        reason = f"this type travels on topic {known.topic()!r}; here {expected.type!r} is read"
    elif value.rpartition(".v")[0] == expected.type.rpartition(".v")[0]:
        reason = f"unknown version; {expected.type!r} is read here"
    else:
        reason = f"unknown type; {expected.type!r} is read here"
    raise InvalidEventError("ce-type", value, reason)


def _time(value: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidEventError("ce-time", value, "not an RFC 3339 time") from None
    if time.tzinfo is None:
        raise InvalidEventError("ce-time", value, "the time zone is missing; RFC 3339 requires it")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise InvalidEventError("ce-time", value, "not between the years 1 and 9999") from None


def _payload(data: bytes, expected: type[Ours]) -> Ours:
    try:
        return expected.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "data"
        value = data[:100].decode(errors="replace") if field == "data" else repr(first["input"])
        raise InvalidEventError(field, value[:200], first["msg"]) from None
