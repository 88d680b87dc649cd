"""AsyncAPI documents with Pub/Sub's bindings, which FastStream's own document has no place for.

Source: https://github.com/asyncapi/bindings/tree/master/googlepubsub (binding version 0.2.0).
"""

from typing import Any, Final

from faststream.specification import Specification
from faststream.specification.asyncapi import AsyncAPI
from faststream.specification.asyncapi.v3_0_0.schema.bindings import ChannelBinding
from google.protobuf.json_format import MessageToDict

from faststream_pubsub._faststream import clear_key
from faststream_pubsub.publisher import PubSubPublisherUsecase
from faststream_pubsub.subscriber import PubSubSubscriber

BINDING: Final = "googlepubsub"
BINDING_VERSION: Final = "0.2.0"


class PubSubAsyncAPI(AsyncAPI):
    """An `AsyncAPI` factory that adds Pub/Sub's bindings to documents of version 3.

    Messages say their topic's schema, and those of publishers ordering key and attributes. Channels
    of topics with a schema have its settings: the binding's JSON schema allows no others. What a
    subscriber's subscription is stands in its channel as the extension `x-subscription`, in the
    names of Pub/Sub's REST API.
    """

    def to_specification(self) -> Specification:
        """Render the document."""
        document: Any = super().to_specification()
        if not self.schema_version.startswith("3."):
            return document  # type: ignore[no-any-return] # the same document
        for broker in self.brokers:
            endpoints: list[Any] = [*broker.subscribers, *broker.publishers]
            for endpoint in endpoints:
                if endpoint.specification.include_in_schema:
                    _bind(document, endpoint)
        return document  # type: ignore[no-any-return] # the same document


def _bind(document: Any, endpoint: PubSubSubscriber | PubSubPublisherUsecase) -> None:  # noqa: ANN401 - FastStream has a class per version
    schema = endpoint.topic_schema
    for key in endpoint.schema():
        channel = document.channels[clear_key(key)]
        if isinstance(endpoint, PubSubSubscriber):
            setattr(channel, "x-subscription", _settings(endpoint))
        if schema is not None:
            settings = {"encoding": "json", "name": schema.schema_id}
            channel.bindings = ChannelBinding(**{BINDING: _binding(schemaSettings=settings)})
        for message in channel.messages.values():
            name = message.ref.rsplit("/", maxsplit=1)[-1]
            described = document.components.messages[_unescaped(name)]
            described.bindings = {BINDING: _message(endpoint)}


def _message(endpoint: PubSubSubscriber | PubSubPublisherUsecase) -> dict[str, Any]:
    schema = endpoint.topic_schema
    binding = _binding(schema={"name": schema.schema_id} if schema else None)
    if isinstance(endpoint, PubSubPublisherUsecase):
        binding |= _given(orderingKey=endpoint.ordering_key, attributes=endpoint.attributes)
    return binding


def _binding(**fields: object) -> dict[str, Any]:
    return {"bindingVersion": BINDING_VERSION} | _given(**fields)


def _given(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _settings(subscriber: PubSubSubscriber) -> dict[str, Any]:
    wanted = subscriber.settings.as_subscription(
        name=subscriber.subscription,
        topic=subscriber.topic,
        dead_letter_topic=subscriber.dead_letter_topic,
    )
    settings: dict[str, Any] = MessageToDict(wanted)
    return settings


def _unescaped(pointer: str) -> str:
    return pointer.replace("~1", "/").replace("~0", "~")
