"""FastAPI plugin: handlers of messages as routes, with FastAPI's own dependencies."""

from typing import Annotated, Any, Final

from faststream_pubsub._faststream import ContextRepo, load_fastapi_parts
from faststream_pubsub.broker import PubSubBroker as _Broker
from faststream_pubsub.message import PubSubMessage as _Message
from faststream_pubsub.publisher import PubSubPublisherUsecase

_StreamRouter, Context, _UNSET = load_fastapi_parts()
_RESPONSE_DEFAULTS: Final = {
    "response_model": _UNSET,
    "response_model_include": None,
    "response_model_exclude": None,
    "response_model_by_alias": True,
    "response_model_exclude_unset": False,
    "response_model_exclude_defaults": False,
    "response_model_exclude_none": False,
}

PubSubBroker = Annotated[_Broker, Context("broker")]
PubSubMessage = Annotated[_Message, Context("message")]

__all__ = ("Context", "PubSubBroker", "PubSubMessage", "PubSubRouter")


class PubSubRouter(_StreamRouter):  # type: ignore[misc, valid-type] # FastStream's class is loaded at run time, as FastAPI is optional
    """An `APIRouter` with a broker, which starts and stops with the application."""

    broker_class = _Broker
    broker: _Broker

    def __init__(
        self,
        project: str | None = None,
        *,
        context: ContextRepo | None = None,
        **options: Any,  # noqa: ANN401 - as many types as options
    ) -> None:
        """Prepare router and broker.

        Args:
            project: Project ID, as for `PubSubBroker`.
            context: Context repository.
            **options: All of `PubSubBroker` but `tags`, which is `specification_tags` here, and
                `apply_types`, `dependencies` and `routers`; all of `APIRouter`; `schema_url` and
                `setup_state` as in FastStream's other FastAPI routers.
        """
        super().__init__(project, context=context, **options)

    def subscriber(self, topic: str = "", **settings: Any) -> Any:  # type: ignore[override, unused-ignore] # noqa: ANN401 - FastStream's decorator is untyped
        """Subscribe a handler.

        Args:
            topic: Topic ID or full name.
            **settings: Those of `PubSubBroker.subscriber`, with FastAPI's `Depends` as
                `dependencies`, and the `response_model` settings of FastAPI's routes.
        """
        return super().subscriber(topic, **({"dependencies": ()} | _RESPONSE_DEFAULTS | settings))

    def publisher(self, topic: str, **settings: Any) -> PubSubPublisherUsecase:  # noqa: ANN401 - as many types as settings
        """Declare a publisher; `settings` are those of `PubSubBroker.publisher`."""
        return self.broker.publisher(topic, **settings)
