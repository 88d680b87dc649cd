"""Structured logs on stderr: JSON lines, or plain colour on a terminal; context in every line."""

import logging
import sys
from typing import TextIO

import structlog


def configure(level: str, *, stream: TextIO = sys.stderr, json: bool | None = None) -> None:
    """Send structlog's and the standard library's records to ``stream``.

    Args:
        level: The least level that is written, ``debug`` to ``error``.
        stream: Where to; stdout belongs to results.
        json: JSON lines; without it, when the stream is no terminal.
    """
    as_json = not stream.isatty() if json is None else json
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.PrintLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared)
    )
    logging.basicConfig(handlers=[handler], level=max(_number(level), logging.WARNING), force=True)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]
