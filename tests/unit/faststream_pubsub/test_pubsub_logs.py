"""Lines of the logger that a broker has unless it is given one."""

import logging

import pytest
from faststream import ContextRepo

from faststream_pubsub.logs import PubSubLoggerStorage

MESSAGE_ID = "12345678901234567"
"""As long as those of the service."""


@pytest.fixture(autouse=True)
def fresh_logger(monkeypatch):
    logger = logging.getLogger("faststream.access.pubsub")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "filters", [])


def test_columns_are_as_wide_as_the_names_of_the_subscribers():
    storage = PubSubLoggerStorage()
    storage.register_subscriber({"topic": "orders", "subscription": "orders.packing"})
    storage.register_subscriber({"topic": "returned-orders", "subscription": "all"})
    logger = storage.get_logger(context=ContextRepo())
    assert storage.get_logger(context=ContextRepo()) is logger
    # pytest's own handlers are others
    (handler,) = (one for one in logger.handlers if type(one) is logging.StreamHandler)
    record = logging.makeLogRecord(
        {
            "msg": "Received",
            "levelname": "INFO",
            "topic": "orders",
            "subscription": "orders.packing",
            "message_id": MESSAGE_ID,
        }
    )
    for rule in (*logger.filters, *handler.filters):
        rule.filter(record)
    line = handler.format(record)
    assert line.endswith(f"orders          | orders.packing | {MESSAGE_ID} - Received")
