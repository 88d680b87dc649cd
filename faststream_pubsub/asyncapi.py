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

    Subscribers' channels say what the subscription is, as the extension `x-subscription`, in the
    names of Pub/Sub's REST API; publishers' messages say ordering key and attributes.
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


def _bind(document: Any, endpoint: Any) -> None:  # noqa: ANN401 - FastStream has a class per version
    for key in endpoint.schema():
        channel = document.channels[clear_key(key)]
        match endpoint:
            case PubSubSubscriber():
                binding: dict[str, Any] = {"bindingVersion": BINDING_VERSION}
                binding |= {"x-subscription": _settings(endpoint)}
                channel.bindings = ChannelBinding(**{BINDING: binding})
            case PubSubPublisherUsecase():
                binding = {"bindingVersion": BINDING_VERSION}
                channel.bindings = ChannelBinding(**{BINDING: binding})
                for message in channel.messages.values():
                    name = message.ref.rsplit("/", maxsplit=1)[-1]
                    _bind_message(document.components.messages[_unescaped(name)], endpoint)


def _bind_message(message: Any, publisher: PubSubPublisherUsecase) -> None:  # noqa: ANN401 - see above
    binding: dict[str, Any] = {"bindingVersion": BINDING_VERSION}
    if publisher.ordering_key:
        binding["orderingKey"] = publisher.ordering_key
    if publisher.attributes:
        binding["attributes"] = publisher.attributes
    message.bindings = {BINDING: binding}


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
