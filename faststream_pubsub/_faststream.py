"""The one door to FastStream's private parts.

FastStream has no public API for writing a broker, so its in-tree brokers use
`faststream._internal`. Everything that this package needs of it passes through here: a release
that moves something breaks one file.
"""

from typing import Any

from fast_depends.dependencies import Dependant as Dependency  # codespell:ignore
from faststream._internal._compat import json_loads
from faststream._internal.basic_types import (
    AsyncFuncAny,
    DecodedMessage,
    LoggerProto,
    SendableMessage,
)
from faststream._internal.broker import BrokerRouter, BrokerUsecase
from faststream._internal.broker.registrator import Registrator
from faststream._internal.broker.router import ArgsContainer, SubscriberRoute
from faststream._internal.configs import (
    BrokerConfig,
    PublisherSpecificationConfig,
    PublisherUsecaseConfig,
    SubscriberSpecificationConfig,
    SubscriberUsecaseConfig,
    UnderlyingDriverAnnotation,
    UnderlyingDriverAnnotations,
)
from faststream._internal.constants import EMPTY
from faststream._internal.context import Context as ContextField
from faststream._internal.context import ContextRepo
from faststream._internal.di import FastDependsConfig
from faststream._internal.endpoint.call_wrapper import HandlerCallWrapper
from faststream._internal.endpoint.publisher import (
    PublisherProto,
    PublisherSpecification,
    PublisherUsecase,
)
from faststream._internal.endpoint.publisher.fake import FakePublisher
from faststream._internal.endpoint.subscriber import SubscriberSpecification, SubscriberUsecase
from faststream._internal.endpoint.subscriber.call_item import CallsCollection, HandlerItem
from faststream._internal.endpoint.subscriber.utils import MultiLock, default_filter
from faststream._internal.endpoint.utils import ParserComposition, process_msg
from faststream._internal.logger import DefaultLoggerStorage, LoggerState, make_logger_state
from faststream._internal.logger.logger_proxy import EmptyLoggerObject
from faststream._internal.logger.logging import get_broker_logger
from faststream._internal.parser import BatchCodecProto, CodecProto, DefaultCodec
from faststream._internal.producer import ProducerProto
from faststream._internal.testing.broker import EnterType, TestBroker, change_producer
from faststream._internal.testing.calls import BrokerFields, CallAssertions, ExpectedCall
from faststream._internal.types import (
    AsyncCallable,
    BrokerMiddleware,
    CustomCallable,
    IdGenerator,
    P_HandlerParams,
    PublisherMiddleware,
    T_HandlerReturn,
)
from faststream._internal.utils.path import Address
from faststream.specification.asyncapi.utils import clear_key

__all__ = (
    "EMPTY",
    "Address",
    "ArgsContainer",
    "AsyncCallable",
    "AsyncFuncAny",
    "BatchCodecProto",
    "BrokerConfig",
    "BrokerFields",
    "BrokerMiddleware",
    "BrokerRouter",
    "BrokerUsecase",
    "CallAssertions",
    "CallsCollection",
    "CodecProto",
    "ContextField",
    "ContextRepo",
    "CustomCallable",
    "DecodedMessage",
    "DefaultCodec",
    "DefaultLoggerStorage",
    "Dependency",
    "EmptyLoggerObject",
    "EnterType",
    "ExpectedCall",
    "FakePublisher",
    "FastDependsConfig",
    "HandlerCallWrapper",
    "HandlerItem",
    "IdGenerator",
    "LoggerProto",
    "LoggerState",
    "MultiLock",
    "P_HandlerParams",
    "ParserComposition",
    "ProducerProto",
    "PublisherMiddleware",
    "PublisherProto",
    "PublisherSpecification",
    "PublisherSpecificationConfig",
    "PublisherUsecase",
    "PublisherUsecaseConfig",
    "Registrator",
    "SendableMessage",
    "SubscriberRoute",
    "SubscriberSpecification",
    "SubscriberSpecificationConfig",
    "SubscriberUsecase",
    "SubscriberUsecaseConfig",
    "T_HandlerReturn",
    "TestBroker",
    "UnderlyingDriverAnnotation",
    "UnderlyingDriverAnnotations",
    "change_producer",
    "clear_key",
    "default_filter",
    "get_broker_logger",
    "json_loads",
    "load_fastapi_parts",
    "make_logger_state",
    "process_msg",
)


def load_fastapi_parts() -> tuple[Any, Any, Any]:
    """FastStream's base of FastAPI routers, its `Context`, and FastAPI's unset response model.

    FastAPI is optional, so it is loaded only by who asks for it.
    """
    from faststream._internal.fastapi import router  # noqa: PLC0415 - loads FastAPI
    from faststream._internal.fastapi.context import Context  # noqa: PLC0415 - loads FastAPI

    return router.StreamRouter, Context, router.Default(None)  # type: ignore[attr-defined] # imported there from FastAPI
