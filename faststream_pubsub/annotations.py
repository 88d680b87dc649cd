"""Annotations for handlers that want the message, the broker or the logger themselves."""

from typing import Annotated

from faststream.annotations import ContextRepo, Logger
from faststream.params import Context, NoCast

from faststream_pubsub.broker import PubSubBroker as _Broker
from faststream_pubsub.message import PubSubBatchMessage as _BatchMessage
from faststream_pubsub.message import PubSubMessage as _Message

PubSubMessage = Annotated[_Message, Context("message")]
PubSubBatchMessage = Annotated[_BatchMessage, Context("message")]
PubSubBroker = Annotated[_Broker, Context("broker")]

__all__ = ("ContextRepo", "Logger", "NoCast", "PubSubBatchMessage", "PubSubBroker", "PubSubMessage")
