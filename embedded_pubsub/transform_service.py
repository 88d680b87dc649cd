"""Validating and trying message transforms, over REST alone, as gcloud and the console do.

Source: Pub/Sub REST reference, `projects.validateMessageTransform` and
`projects.testMessageTransforms`. Google publishes no .proto of them, hence the descriptors here.
"""

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status

from embedded_pubsub.errors import InvalidArgumentError, PubSubError
from embedded_pubsub.limits import check_project
from embedded_pubsub.protos import MessageTransform, Proto, PubsubMessage
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.statuses import status_of
from embedded_pubsub.transforms import Outcome

_PACKAGE = "embedded_pubsub.transforms"
_MESSAGES = {
    "MessageTransforms": {"message_transforms": [MessageTransform.DESCRIPTOR.full_name]},
    "ValidateMessageTransformRequest": {
        "project": str,
        "message_transform": MessageTransform.DESCRIPTOR.full_name,
    },
    "ValidateMessageTransformResponse": {},
    "TestMessageTransformsRequest": {
        "project": str,
        "message": PubsubMessage.DESCRIPTOR.full_name,
        "message_transforms": f"{_PACKAGE}.MessageTransforms",
        "topic": str,
        "subscription": str,
    },
    "FailedMessage": {"error": Status.DESCRIPTOR.full_name},
    "FilteredMessage": {},
    "TransformedMessage": {
        "transformed_message": PubsubMessage.DESCRIPTOR.full_name,
        "filtered_message": f"{_PACKAGE}.FilteredMessage",
        "failed_message": f"{_PACKAGE}.FailedMessage",
    },
    "TestMessageTransformsResponse": {"transformed_messages": [f"{_PACKAGE}.TransformedMessage"]},
}  # fmt: skip


def _field(name: str, number: int, kind: object) -> FieldDescriptorProto:
    field = FieldDescriptorProto(name=name, number=number)
    repeated = isinstance(kind, list)
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind is str:
        field.type = field.TYPE_STRING
    else:
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{kind[0] if isinstance(kind, list) else kind}"
    return field


def _add_messages() -> None:
    file = FileDescriptorProto(
        name="embedded_pubsub/transforms.proto", package=_PACKAGE, syntax="proto3"
    )
    file.dependency.extend(
        sorted({m.DESCRIPTOR.file.name for m in (MessageTransform, PubsubMessage, Status)})
    )
    for name, fields in _MESSAGES.items():
        numbered = enumerate(fields.items(), start=1)
        file.message_type.append(
            DescriptorProto(name=name, field=[_field(f, n, kind) for n, (f, kind) in numbered])
        )
    Default().Add(file)


def _class(name: str) -> type[Proto]:
    kind: type[Proto] = GetMessageClass(Default().FindMessageTypeByName(f"{_PACKAGE}.{name}"))
    return kind


_add_messages()
ValidateMessageTransformRequest = _class("ValidateMessageTransformRequest")
ValidateMessageTransformResponse = _class("ValidateMessageTransformResponse")
TestMessageTransformsRequest = _class("TestMessageTransformsRequest")
TestMessageTransformsResponse = _class("TestMessageTransformsResponse")


class TransformService:
    """The two methods of a project that have to do with transforms."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._state = runtime.state

    async def validate(self, request: Proto) -> Proto:
        """Refuse what is not a transform that can run."""
        check_project(request.project)
        await self._runtime.transforms.check([request.message_transform])
        return ValidateMessageTransformResponse()

    async def test(self, request: Proto) -> Proto:
        """Show what transforms make of a message, after each of them."""
        check_project(request.project)
        transforms = self._transforms(request)
        await self._runtime.transforms.check(transforms)
        outcomes = await self._runtime.transforms.steps(transforms, request.message)
        response = TestMessageTransformsResponse()
        for outcome in outcomes[1:]:
            _describe(outcome, response.transformed_messages.add())
        return response

    def _transforms(self, request: Proto) -> list[Proto]:
        given = [
            name
            for name in ("message_transforms", "topic", "subscription")
            if (request.HasField(name) if name == "message_transforms" else getattr(request, name))
        ]
        match given:
            case ["message_transforms"]:
                return list(request.message_transforms.message_transforms)
            case ["topic"]:
                return list(self._state.topic(request.topic).config.message_transforms)
            case ["subscription"]:
                found = self._state.subscription(request.subscription)
                return list(found.config.message_transforms)
        raise InvalidArgumentError(
            "One of message_transforms, topic and subscription must be set, and not "
            f"{' and '.join(given) or 'none'}."
        )


def _describe(outcome: Outcome, shown: Proto) -> None:
    if outcome is None:
        shown.filtered_message.SetInParent()
    elif isinstance(outcome, PubSubError):
        shown.failed_message.error.CopyFrom(status_of(outcome))
    else:
        shown.transformed_message.CopyFrom(outcome)
