"""Protocol buffer schemas: what they allow in both encodings, and which may follow each other."""

import importlib
import json
from collections.abc import Iterator

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from embedded_pubsub.errors import InvalidArgumentError
from embedded_pubsub.protofile import parse_proto

_FILE = "schema.proto"


class ProtobufSchema:
    """One revision of a protocol buffer schema.

    Args:
        definition: The text of a .proto file with one message at its top level.

    Raises:
        InvalidArgumentError: The text is not such a file.
    """

    def __init__(self, definition: str) -> None:
        file = parse_proto(definition)
        file.name = _FILE
        if len(file.message_type) != 1:
            raise InvalidArgumentError(
                f"definition: {len(file.message_type)} messages at the top level; a schema has "
                "exactly one, with the others inside it."
            )
        name = f"{file.package}.{file.message_type[0].name}".lstrip(".")
        pool = DescriptorPool()
        try:
            for dependency in file.dependency:
                _add_well_known(pool, dependency)
            pool.Add(file)
            self.descriptor: Descriptor = pool.FindMessageTypeByName(name)
        except (TypeError, KeyError) as error:
            raise InvalidArgumentError(f"definition: {error}.") from error
        self._class = message_factory.GetMessageClass(self.descriptor)

    def check_json(self, data: bytes) -> None:
        """Refuse what is not one message in protobuf's JSON encoding."""
        try:
            document = json.loads(data)
            if not isinstance(document, dict):
                raise InvalidArgumentError("message: must be a JSON object.")
            json_format.ParseDict(document, self._class())
        except (json_format.ParseError, ValueError, RecursionError) as error:
            raise InvalidArgumentError(f"message: {error}.") from error

    def check_binary(self, data: bytes) -> None:
        """Refuse what is not one message in protobuf's binary encoding."""
        try:
            message = self._class.FromString(data)
        except DecodeError as error:
            raise InvalidArgumentError(f"message: {error}.") from error
        if not message.IsInitialized():
            missing = ", ".join(message.FindInitializationErrors())
            raise InvalidArgumentError(f"message: required fields are missing: {missing}.")

    def check_follows(self, earlier: "ProtobufSchema") -> None:
        """Refuse to follow a revision unless only optional fields were added or removed."""
        for problem in _differences(earlier.descriptor, self.descriptor, set()):
            raise InvalidArgumentError(
                f"definition: incompatible with an earlier revision: {problem}."
            )


def _add_well_known(pool: DescriptorPool, name: str) -> None:
    module = name.removesuffix(".proto").replace("/", ".") + "_pb2"
    try:
        file = importlib.import_module(module).DESCRIPTOR
    except ImportError as error:
        raise InvalidArgumentError(
            f"definition: import {name!r}: there is no such file."
        ) from error
    for dependency in file.dependencies:
        _add_well_known(pool, dependency.name)
    copied = FileDescriptorProto()
    file.CopyToProto(copied)
    pool.Add(copied)


def _differences(old: Descriptor, new: Descriptor, seen: set[str]) -> Iterator[str]:
    if old.full_name in seen:
        return
    seen.add(old.full_name)
    if old.full_name != new.full_name:
        yield f"{old.full_name} is called {new.full_name}"
        return
    before = {field.number: field for field in old.fields}
    after = {field.number: field for field in new.fields}
    for number in sorted(before.keys() ^ after.keys()):
        field = before.get(number) or after[number]
        if field.is_required or field.is_repeated:
            yield f"{field.full_name} is not in both and is not optional"
    for number in sorted(before.keys() & after.keys()):
        yield from _field_differences(before[number], after[number], seen)


def _field_differences(old: FieldDescriptor, new: FieldDescriptor, seen: set[str]) -> Iterator[str]:
    def shape(field: FieldDescriptor) -> tuple[object, ...]:
        return field.name, field.type, field.is_repeated, field.is_required

    if shape(old) != shape(new):
        yield f"{old.full_name} = {old.number} is another field in the new revision"
    elif old.message_type is not None:
        yield from _differences(old.message_type, new.message_type, seen)
    elif old.enum_type is not None:
        yield from _enum_differences(old.enum_type, new.enum_type)


def _enum_differences(old: EnumDescriptor, new: EnumDescriptor) -> Iterator[str]:
    before = {(value.name, value.number) for value in old.values}
    after = {(value.name, value.number) for value in new.values}
    for name, number in sorted(before ^ after):
        yield f"{old.full_name}.{name} = {number} is not in both"
