"""Annotations for handlers that want the message, the broker or the logger themselves."""

from typing import Annotated

from faststream.annotations import ContextRepo, Logger
from faststream.params import Context, NoCast

from faststream_pubsub.broker import PubSubBroker as _Broker
from faststream_pubsub.message import PubSubMessage as _Message

PubSubMessage = Annotated[_Message, Context("message")]
PubSubBroker = Annotated[_Broker, Context("broker")]

__all__ = ("ContextRepo", "Logger", "NoCast", "PubSubBroker", "PubSubMessage")
