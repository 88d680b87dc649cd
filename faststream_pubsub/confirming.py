"""Exactly-once delivery: an ack that is not confirmed is an error that middlewares see."""

from types import TracebackType
from typing import Any

from faststream import BaseMiddleware
from faststream.message import StreamMessage

from faststream_pubsub._faststream import AsyncFuncAny


class ConfirmingMiddleware(BaseMiddleware[Any, Any]):
    """Acknowledges what was handled, inside of all other middlewares.

    FastStream acknowledges outside of them and logs what goes wrong there. An ack that the service
    refuses means that the message comes again: whoever has to undo something must hear of it.
    """

    message: StreamMessage[Any] | None = None

    async def consume_scope(self, call_next: AsyncFuncAny, msg: StreamMessage[Any]) -> Any:  # noqa: ANN401 - what handlers return
        """Remember the message."""
        self.message = msg
        return await call_next(msg)

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool | None:
        """Acknowledge after the handler, and after what it returned is published.

        Raises:
            AcknowledgeError: The service did not confirm.
        """
        del exc_val, exc_tb
        if exc_type is None and self.message is not None:
            await self.message.ack()
        return False
