from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from faststream.exceptions import SetupError
from faststream.response import BatchPublishCommand, PublishCommand, Response
from faststream.response.publish_type import PublishType

from faststream_pubsub._faststream import SendableMessage


class PubSubResponse(Response):
    """A body with attributes and an ordering key of its own.

    Handlers return it, and `publish_batch` and the lists of handlers take it as an element.
    """

    def __init__(
        self,
        body: SendableMessage,
        *,
        attributes: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        correlation_id: str | None = None,
        ordering_key: str = "",
    ) -> None:
        super().__init__(
            body=body,
            headers={**(headers or {}), **(attributes or {})},
            correlation_id=correlation_id,
        )
        self.ordering_key = ordering_key

    def as_publish_command(self) -> "PubSubPublishCommand":
        """Turn the result into what a publisher takes."""
        return PubSubPublishCommand(
            self.body,
            headers=self.headers,
            correlation_id=self.correlation_id,
            ordering_key=self.ordering_key,
            _publish_type=PublishType.PUBLISH,
        )


@dataclass(frozen=True, slots=True)
class Own:
    """What a message of a batch has for itself; it goes before what the batch has."""

    headers: dict[str, Any] = field(default_factory=dict)
    ordering_key: str = ""
    correlation_id: str | None = None


_NOTHING = Own()


class PubSubPublishCommand(BatchPublishCommand):
    """Everything that one publication needs; headers are the attributes.

    Attributes:
        own: What each message of a batch has for itself; empty where none has anything.
    """

    def __init__(
        self,
        message: SendableMessage,
        /,
        *messages: SendableMessage,
        _publish_type: PublishType,
        topic: str = "",
        correlation_id: str | None = None,
        headers: dict[str, str] | None = None,
        reply_to: str = "",
        ordering_key: str = "",
        timeout: float | None = 30.0,
    ) -> None:
        super().__init__(
            message,
            *messages,
            destination=topic,
            correlation_id=correlation_id,
            headers=headers,
            reply_to=reply_to,
            _publish_type=_publish_type,
        )
        self.ordering_key = ordering_key
        self.timeout = timeout
        self.own: tuple[Own, ...] = ()
        if messages:
            if any(isinstance(one, Response) for one in (message, *messages)):
                self.batch_bodies = (message, *messages)
        elif isinstance(message, Response):
            self._become(message)

    def _become(self, message: Response) -> None:
        own = _own_of(message)
        self.body = message.body
        self.headers = {**self.headers, **own.headers}
        self.ordering_key = own.ordering_key or self.ordering_key
        self.correlation_id = own.correlation_id or self.correlation_id

    @property
    def batch_bodies(self) -> tuple[Any, ...]:
        """The bodies; what a message has for itself follows its body when they are replaced.

        Raises:
            SetupError: There are other bodies, in another number, than those with attributes or
                ordering keys of their own.
        """
        return super().batch_bodies

    @batch_bodies.setter
    def batch_bodies(self, value: Sequence[Any]) -> None:
        if self.own or any(isinstance(one, Response) for one in value):
            self.own = _follow(self.batch_bodies, self.own, value)
        bodies = [one.body if isinstance(one, Response) else one for one in value]
        self.body, self.extra_bodies = (bodies[0], tuple(bodies[1:])) if bodies else (None, ())

    @classmethod
    def from_cmd(cls, cmd: PublishCommand, *, batch: bool = False) -> "PubSubPublishCommand":
        """Take over a command of another broker, or this one's own as it is."""
        if isinstance(cmd, PubSubPublishCommand):
            if batch:
                body, extra = cls._parse_bodies(cmd.body, batch=True)
                cmd.batch_bodies = (body, *extra)
            return cmd
        body, extra = cls._parse_bodies(cmd.body, batch=batch)
        return cls(
            body,
            *extra,
            topic=cmd.destination,
            correlation_id=cmd.correlation_id,
            headers=cmd.headers,
            reply_to=cmd.reply_to,
            _publish_type=cmd.publish_type,
        )

    def __repr__(self) -> str:
        parts: dict[str, Any] = {
            "body": self.body,
            "topic": self.destination,
            "attributes": self.headers,
            "ordering_key": self.ordering_key,
            "correlation_id": self.correlation_id,
        }
        inner = ", ".join(f"{name}={value!r}" for name, value in parts.items() if value)
        return f"{type(self).__name__}({inner})"


def _own_of(message: Response) -> Own:
    key = getattr(message, "ordering_key", "")
    return Own(message.headers, key, message.correlation_id)


def _follow(before: Sequence[Any], own: Sequence[Own], after: Sequence[Any]) -> tuple[Own, ...]:
    """Find what each body has for itself after a middleware has replaced them."""
    if not own:
        return tuple(_own_of(one) if isinstance(one, Response) else _NOTHING for one in after)
    free = dict(enumerate(before))
    found: list[Own] = []
    for one in after:
        if isinstance(one, Response):
            found.append(_own_of(one))
            continue
        place = next((at for at, body in free.items() if body is one), None)
        if place is None:
            place = next((at for at, body in free.items() if body == one), None)
        if place is None:
            return _by_place(own, after)
        del free[place]
        found.append(own[place])
    return tuple(found)


def _by_place(own: Sequence[Own], after: Sequence[Any]) -> tuple[Own, ...]:
    if len(own) != len(after):
        raise SetupError(
            f"a middleware has made {len(after)} messages of {len(own)} with attributes or "
            "ordering keys of their own: let it set PubSubResponse elements, which say them.",
        )
    return tuple(
        _own_of(one) if isinstance(one, Response) else mine
        for mine, one in zip(own, after, strict=True)
    )
