"""JavaScript user-defined functions, run by V8 (the optional package mini-racer).

Source: Cloud Pub/Sub documentation, "User-Defined Functions overview": ECMAScript built-ins only,
no calls to the outside, at most 500 ms a message.
"""

import asyncio
import json
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Self

from embedded_pubsub.errors import InvalidArgumentError, UnimplementedError

if TYPE_CHECKING:
    from py_mini_racer import MiniRacer

MAX_SECONDS = 0.5
MAX_HEAP_BYTES = 256 * 1024 * 1024
_ONLY_BUILT_INS = """
for (const name of ["setTimeout", "clearTimeout", "console", "WebAssembly"]) delete globalThis[name]
"""


class Script:
    """One function, in a V8 isolate of its own, on the event loop that made it.

    V8 runs in a thread of its own, so that even an endless function holds nobody up.

    Args:
        name: The function's name.
        code: What defines it.
    """

    def __init__(self, name: str, code: str) -> None:
        self._name = name
        self._code = code
        self._open: AbstractContextManager[MiniRacer] | None = None
        self._isolate: MiniRacer | None = None

    async def start(self) -> Self:
        """Compile the code.

        Raises:
            InvalidArgumentError: It does not compile, or defines no such function.
            UnimplementedError: mini-racer is not installed.
        """
        self._open = _isolate()
        self._isolate = self._open.__enter__()
        self._isolate.set_hard_memory_limit(MAX_HEAP_BYTES)
        await self._eval(_ONLY_BUILT_INS)
        await self._eval(self._code)
        if await self._eval(f"typeof {self._name}") != "function":
            self.close()
            raise InvalidArgumentError(f"javascript_udf.code: defines no function {self._name!r}.")
        return self

    async def call(self, argument: str) -> str | None:
        """Call the function.

        Args:
            argument: Its arguments, as a JSON list.

        Returns:
            What it returned, as JSON; None where that is nothing that JSON can hold.

        Raises:
            InvalidArgumentError: It threw, or took too much time or memory.
        """
        if self._isolate is None:
            await self.start()
        result = await self._eval(
            f"JSON.stringify({self._name}(...JSON.parse({json.dumps(argument)})))"
        )
        return result if isinstance(result, str) else None

    def close(self) -> None:
        """Free the isolate; the next call starts another."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = self._isolate = None

    async def _eval(self, code: str) -> object:
        from py_mini_racer import (  # noqa: PLC0415 - takes long, and is not there for everybody
            JSEvalException,
            JSOOMException,
        )

        if self._isolate is None:
            raise RuntimeError("The isolate is not started.")
        try:
            return await asyncio.wait_for(self._isolate.eval_cancelable(code), MAX_SECONDS)
        except (TimeoutError, JSOOMException) as error:
            # What was left half done, and what was hoarded, must not meet the next message.
            self.close()
            raise InvalidArgumentError(
                f"{self._name}: took more than {MAX_SECONDS:g} s or {MAX_HEAP_BYTES} bytes."
            ) from error
        except JSEvalException as error:
            raise InvalidArgumentError(f"{self._name}: {_last_line(str(error))}") from error


def _isolate() -> "AbstractContextManager[MiniRacer]":
    try:
        from py_mini_racer import mini_racer  # noqa: PLC0415 - not there for everybody
    except ImportError as error:
        raise UnimplementedError(
            "message_transforms: running JavaScript needs the package mini-racer: install "
            "nexus-calibration[transforms]."
        ) from error
    isolate: AbstractContextManager[MiniRacer] = mini_racer(asyncio.get_running_loop())
    return isolate


def _last_line(text: str) -> str:
    """Give the line that names the error, of a message that shows code and stack around it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "Error" in line), lines[0] if lines else "failed")
