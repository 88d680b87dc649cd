"""The broker's logger: records say topic, subscription and message."""

import logging
from functools import partial
from typing import Any

from faststream_pubsub._faststream import (
    ContextRepo,
    DefaultLoggerStorage,
    LoggerProto,
    get_broker_logger,
    make_logger_state,
)

# as many digits as the IDs of the service have; the first ones are the same for hours
_MESSAGE_ID_WIDTH = 17


class PubSubLoggerStorage(DefaultLoggerStorage):
    """Builds a logger whose columns fit the subscribers' names."""

    def __init__(self) -> None:
        super().__init__()
        self._topic_width = 4
        self._subscription_width = 4

    def register_subscriber(self, params: dict[str, Any]) -> None:
        """Widen the columns for a subscriber."""
        self._topic_width = max(self._topic_width, len(params.get("topic", "")))
        self._subscription_width = max(
            self._subscription_width,
            len(params.get("subscription", "")),
        )

    def get_logger(self, *, context: ContextRepo) -> LoggerProto:
        """Return the logger, built once."""
        logger = self._get_logger_ref()
        if logger is None:
            logger = self._build(context)
            self._logger_ref.add(logger)
        return logger

    def _build(self, context: ContextRepo) -> logging.Logger:
        return get_broker_logger(
            name="pubsub",
            default_context={"topic": "", "subscription": ""},
            message_id_ln=_MESSAGE_ID_WIDTH,
            fmt=(
                "%(asctime)s %(levelname)-8s - "
                f"%(topic)-{self._topic_width}s | "
                f"%(subscription)-{self._subscription_width}s | "
                f"%(message_id)-{_MESSAGE_ID_WIDTH}s - %(message)s"
            ),
            context=context,
            log_level=self.logger_log_level,
        )


make_pubsub_logger_state = partial(make_logger_state, default_storage_cls=PubSubLoggerStorage)
