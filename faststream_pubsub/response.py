from typing import Any

from faststream.response import BatchPublishCommand, PublishCommand, Response
from faststream.response.publish_type import PublishType

from faststream_pubsub._faststream import SendableMessage


class PubSubResponse(Response):
    """A handler's result with attributes and an ordering key for its publication."""

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


class PubSubPublishCommand(BatchPublishCommand):
    """Everything that one publication needs; headers are the attributes."""

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
