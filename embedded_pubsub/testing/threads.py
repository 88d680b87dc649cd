"""A server in a thread with a loop of its own, for programs that have none, or block theirs."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from embedded_pubsub.server import Server

T = TypeVar("T")

START_SECONDS = 60


class ThreadedServer:
    """Runs a server between `with` and its end.

    Args:
        server: The server, not yet started.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="embedded-pubsub", daemon=True
        )

    def clear(self, project: str) -> None:
        """Delete all that a project has, `project` being its id."""
        self._run(self.server.clear(project))

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self.server.start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._run(self.server.stop())
        finally:
            self._end()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
