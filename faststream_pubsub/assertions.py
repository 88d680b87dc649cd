"""What handlers and publishers under a test broker can be asked about their calls."""

from typing import Any

from faststream.exceptions import SetupError
from faststream.message import StreamMessage

from faststream_pubsub._faststream import (
    EMPTY,
    BrokerFields,
    CallAssertions,
    ExpectedCall,
    HandlerCallWrapper,
    P_HandlerParams,
    T_HandlerReturn,
)
from faststream_pubsub.deliveries import Delivery

_DESCRIBED = ("headers", "correlation_id", "reply_to", "content_type", "path", "context")


class PubSubCallAssertions(CallAssertions):
    """FastStream's call assertions, which know attributes and ordering keys as well.

    What is left out is not compared: the body; `attributes` (or `headers`), of which the message
    may carry more; `ordering_key`, `correlation_id`, `reply_to`, `content_type`; and `context`,
    the values of names that `Context()` would take.
    """

    __slots__ = ()

    async def assert_called_once_with(
        self,
        body: Any = EMPTY,  # noqa: ANN401 - whatever a message may hold
        /,
        *,
        attributes: dict[str, str] = EMPTY,
        ordering_key: str = EMPTY,
        **described: Any,  # noqa: ANN401 - FastStream's own, each of another type
    ) -> None:
        """Assert that there was one call, with the message described here."""
        await self._assert_called_once_with(_expected(body, attributes, ordering_key, described))

    async def assert_called_with(
        self,
        body: Any = EMPTY,  # noqa: ANN401 - whatever a message may hold
        /,
        *,
        attributes: dict[str, str] = EMPTY,
        ordering_key: str = EMPTY,
        **described: Any,  # noqa: ANN401 - FastStream's own, each of another type
    ) -> None:
        """Assert that the last call was with the message described here."""
        await self._assert_called_with(_expected(body, attributes, ordering_key, described))

    async def assert_any_call(
        self,
        body: Any = EMPTY,  # noqa: ANN401 - whatever a message may hold
        /,
        *,
        attributes: dict[str, str] = EMPTY,
        ordering_key: str = EMPTY,
        **described: Any,  # noqa: ANN401 - FastStream's own, each of another type
    ) -> None:
        """Assert that one of the calls was with the message described here."""
        await self._assert_any_call(_expected(body, attributes, ordering_key, described))


class PubSubHandlerCallWrapper(
    PubSubCallAssertions,
    HandlerCallWrapper[P_HandlerParams, T_HandlerReturn],
):
    """A handler of this broker."""

    __slots__ = ()


def _expected(
    body: object,
    attributes: dict[str, str],
    ordering_key: str,
    described: dict[str, Any],
) -> ExpectedCall:
    if unknown := described.keys() - _DESCRIBED:
        raise TypeError(f"a call can't be asked for {', '.join(sorted(unknown))}.")
    if attributes is not EMPTY:
        described["headers"] = {**(described.get("headers") or {}), **attributes}
    return ExpectedCall(
        body=body,
        **{name: described.get(name, EMPTY) for name in _DESCRIBED},
        broker_fields=BrokerFields(
            {} if ordering_key is EMPTY else {"ordering_key": ordering_key},
            _read_field,
        ),
    )


def _read_field(name: str, message: StreamMessage[Any]) -> object:
    delivery = message.raw_message
    if not isinstance(delivery, Delivery):
        raise SetupError(f"`{name}` can't be told of a {type(message).__name__}: it is not ours.")
    return getattr(delivery.message, name)
