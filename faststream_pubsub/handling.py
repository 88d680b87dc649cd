"""One message through its handler: what FastStream's `SubscriberUsecase` does, for less.

FastStream builds its chain anew for every message: two exit stacks, two middlewares of its own,
context scopes, FastDepends' solver. That costs more than everything else that happens to a message
of Pub/Sub. Here the same steps are taken in the same order, but FastStream's two middlewares are
written out as `try` and `except`, what does not change from message to message is worked out when
the subscriber starts, and FastDepends' solver is asked only by handlers that need it. Whatever is
not the common case goes the way that FastStream itself goes: `HandlerItem.is_suitable` for several
handlers or filters, `HandlerItem.call` in tests, the wrapped call for dependencies.

A test runs both, this one and FastStream's, over a table of cases and compares all that a handler,
a middleware, a publisher or a log could see of them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from functools import partial
from itertools import chain
from typing import Any, Final, TypeVar

from faststream import BaseMiddleware
from faststream.exceptions import (
    AckMessage,
    HandlerException,
    IgnoredException,
    NackMessage,
    RejectMessage,
    SubscriberNotFound,
)
from faststream.message import SourceType
from faststream.middlewares import AckPolicy
from faststream.response import Response, ensure_response

from faststream_pubsub._faststream import (
    BrokerMiddleware,
    CallsCollection,
    ContextRepo,
    EmptyLoggerObject,
    HandlerItem,
    LoggerState,
    SubscriberSpecification,
    SubscriberUsecase,
    SubscriberUsecaseConfig,
    default_filter,
)
from faststream_pubsub.handler_lock import HandlerLock
from faststream_pubsub.injecting import Call, Message, lean_call

T = TypeVar("T")
Cmd = TypeVar("Cmd")
MsgType = TypeVar("MsgType")

# an enumeration's member is looked up slower than a module's name
_ACK_FIRST: Final = AckPolicy.ACK_FIRST
_RESPONSE: Final = SourceType.RESPONSE
_NOTHING: Final = nullcontext()
_ON_ERROR: Final = {
    AckPolicy.ACK: "ack",
    AckPolicy.NACK_ON_ERROR: "nack",
    AckPolicy.REJECT_ON_ERROR: "reject",
}


class LeanSubscriber(SubscriberUsecase[MsgType]):
    """A subscriber that handles a message as FastStream does, in less time."""

    def __init__(
        self,
        config: SubscriberUsecaseConfig,
        specification: SubscriberSpecification[Any, Any],
        calls: CallsCollection[MsgType],
    ) -> None:
        super().__init__(config, specification, calls)
        self._settles = not config.auto_ack_disabled
        self._injected: dict[HandlerItem[MsgType], Call] = {}
        self._extra_context: tuple[tuple[str, Any], ...] = ()
        self._context: ContextRepo = self._outer_config.context
        self._log_state: LoggerState = self._outer_config.logger

    async def start(self) -> None:
        """Prepare to handle messages."""
        await super().start()
        self.lock = HandlerLock()

    def _build_fastdepends_model(self) -> None:
        super()._build_fastdepends_model()
        config = self._outer_config
        self._extra_context = tuple(config.extra_context.items())
        self._context, self._log_state = config.context, config.logger
        self._injected = {item: self._inject(item) for item in self.calls.data}

    def _inject(self, item: HandlerItem[MsgType]) -> Call:
        injection = self._outer_config.fd_config
        lean = None
        if injection.use_fastdepends and not injection.get_dependent and item.dependant:
            lean = lean_call(item.dependant, injection.context)
        return lean or item.handler.call_wrapped

    def handling(self) -> AbstractContextManager[None]:
        """What the context holds of this subscriber, for all messages of the tasks begun in it."""
        return self._context.scopes(
            (
                ("handler_", self),
                ("logger", self._log_state.logger.logger),
                *self._extra_context,
            ),
        )

    def _scope(self) -> AbstractContextManager[None]:
        is_set = self._context.get_local("handler_") is self
        return _NOTHING if is_set else self.handling()

    async def process_message(self, msg: MsgType) -> Response:
        """Handle a message, publish what its handler returns, and settle it.

        Returns:
            The handler's result; an empty one where an error was dealt with.
        """
        taken = _Taken()
        with self.lock, self._scope():
            try:
                try:
                    if middlewares := self._broker_middlewares:
                        response = await self._call_within(middlewares, msg, taken)
                    else:
                        response = await self._call_suitable(msg, taken, ())
                except BaseException as error:
                    self._log_end(taken, error)
                    raise
                self._log_end(taken, None)
            except BaseException as error:
                if not await self._settle_failed(msg, taken, error):
                    raise
                return ensure_response(None)
            else:
                await self._settle_handled(msg, taken)
                return response
            finally:
                for key, token in reversed(taken.tokens):
                    self._context.reset_local(key, token)

    async def _call_within(
        self, makers: Sequence[BrokerMiddleware[Any]], msg: MsgType, taken: "_Taken"
    ) -> Response:
        context = self._context
        middlewares: list[BaseMiddleware[Any, Any]] = []
        async with AsyncExitStack() as stack:
            for make in makers:
                middleware = make(msg, context=context)
                middlewares.append(middleware)
                await stack.enter_async_context(middleware)
            return await self._call_suitable(msg, taken, middlewares[::-1])
        return ensure_response(None)  # a middleware has dealt with an error

    async def _call_suitable(
        self,
        msg: MsgType,
        taken: "_Taken",
        middlewares: Sequence[BaseMiddleware[Any, Any]],
    ) -> Response:
        items = self.calls.data
        cache: dict[Any, Any] = {}
        message: Message | None
        for item in items:
            if len(items) == 1 and item.filter is default_filter and item.parser and item.decoder:
                message = await item.parser(msg)
                message.set_decoder(item.decoder)
                message = None if message.processed else message
            else:
                message = await item.is_suitable(msg, cache)
            if message is not None:
                return await self._call(item, message, taken, middlewares)
        raise SubscriberNotFound(f"There is no suitable handler for {msg=}")

    async def _call(
        self,
        item: HandlerItem[MsgType],
        message: Message,
        taken: "_Taken",
        middlewares: Sequence[BaseMiddleware[Any, Any]],
    ) -> Response:
        set_local = self._context.set_local
        taken.tokens = (
            ("log_context", set_local("log_context", self.get_log_context(message))),
            ("message", set_local("message", message)),
        )
        taken.message = message
        if self._settles and self.ack_policy is _ACK_FIRST:
            await self._try(message.ack)
        if message.source_type is not _RESPONSE:
            self._log_step("Received")
        if item.handler.is_test:
            scopes = (middleware.consume_scope for middleware in middlewares)
            result = await item.call(message=message, _extra_middlewares=scopes)
        else:
            call = self._injected[item]
            for middleware in middlewares:
                call = partial(middleware.consume_scope, call)
            result = await call(message)
        response = ensure_response(result)
        response.correlation_id = response.correlation_id or message.correlation_id
        if message.reply_to or item.handler._publishers:  # noqa: SLF001 - decorators put them there
            await self._publish(item, message, response, middlewares)
        return response

    async def _publish(
        self,
        item: HandlerItem[MsgType],
        message: Message,
        response: Response,
        middlewares: Sequence[BaseMiddleware[Any, Any]],
    ) -> None:
        wants_reply = message.reply_to and not self._no_reply
        for publisher in chain(
            self._make_response_publisher(message) if wants_reply else (),
            item.handler._publishers,  # noqa: SLF001 - decorators put them there
        ):
            scopes = [middleware.publish_scope for middleware in middlewares]
            await publisher._publish(  # noqa: SLF001 - what FastStream calls
                response.as_publish_command(),
                # with none at all, a publisher would take those of its own broker
                _extra_middlewares=scopes or (_pass_on,),
            )

    # FastStream's CriticalLogMiddleware

    def _log_end(self, taken: "_Taken", error: BaseException | None) -> None:
        if taken.message is not None and taken.message.source_type is _RESPONSE:
            return
        state = self._log_state
        if isinstance(error, IgnoredException):
            state.log(str(error), extra=self._log_context())
        elif error is not None:
            text = f"{type(error).__name__}: {error}"
            state.log(text, logging.ERROR, extra=self._log_context(), exc_info=error)
        self._log_step("Processed")

    def _log_step(self, text: str) -> None:
        state = self._log_state
        if type(state.logger) is not EmptyLoggerObject:
            state.log(text, extra=self._log_context())

    def _log_context(self) -> dict[str, Any]:
        context: dict[str, Any] = self._context.get_local("log_context", {})
        return context

    # FastStream's AcknowledgementMiddleware

    async def _settle_handled(self, msg: MsgType, taken: "_Taken") -> None:
        if not self._settles:
            return
        if taken.message is None:
            await self._settle(msg, taken, "ack", {})
        elif self.ack_policy is not _ACK_FIRST:
            try:
                await taken.message.ack()
            except Exception as error:  # noqa: BLE001 - as in _try
                self._log_state.log(repr(error), logging.CRITICAL, exc_info=error)

    async def _settle_failed(self, msg: MsgType, taken: "_Taken", error: BaseException) -> bool:
        """Settle by what the error asks for, else by the policy; True: that deals with it."""
        if not self._settles:
            return False
        if self.ack_policy is _ACK_FIRST:
            await self._settle_handled(msg, taken)
            return False
        if isinstance(error, HandlerException):
            match error:
                case AckMessage():
                    await self._settle(msg, taken, "ack", error.extra_options)
                case NackMessage():
                    await self._settle(msg, taken, "nack", error.extra_options)
                case RejectMessage():
                    await self._settle(msg, taken, "reject", error.extra_options)
            return True
        if not isinstance(error, asyncio.CancelledError) and self.ack_policy in _ON_ERROR:
            await self._settle(msg, taken, _ON_ERROR[self.ack_policy], {})
        return False

    async def _settle(
        self, msg: MsgType, taken: "_Taken", how: str, options: Mapping[str, Any]
    ) -> None:
        # what could not be parsed has to be settled, too
        message = taken.message or await self._try(self._parser, msg)
        if message is not None:
            await self._try(getattr(message, how), **options)

    async def _try(
        self, call: Callable[..., Awaitable[T]], *args: object, **options: object
    ) -> T | None:
        try:
            return await call(*args, **options)
        except Exception as error:  # noqa: BLE001 - it is told, and the worker goes on
            self._log_state.log(repr(error), logging.CRITICAL, exc_info=error)
        return None


class _Taken:
    """A message while it is handled, and how to take it out of the context."""

    __slots__ = ("message", "tokens")

    def __init__(self) -> None:
        self.message: Message | None = None
        self.tokens: tuple[tuple[str, Any], ...] = ()


async def _pass_on(call_next: Callable[[Cmd], Awaitable[T]], cmd: Cmd) -> T:
    return await call_next(cmd)
