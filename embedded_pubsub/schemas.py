"""Schemas and their revisions, and whether a message is of one. Pure, like the state machine.

Source: Cloud Pub/Sub documentation, "Schema overview", "Commit a schema revision" and
"Publish messages of schema type".
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

from embedded_pubsub import limits
from embedded_pubsub.changes import Change, DropSchema, PutSchema
from embedded_pubsub.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from embedded_pubsub.protos import AVRO, BINARY, FULL, JSON, PROTOCOL_BUFFER, Proto, Schema
from embedded_pubsub.settings import copy

DELETED_SCHEMA = "_deleted-schema_"


class Definition(Protocol):
    """What a schema's text means; every method raises InvalidArgumentError or returns quietly."""

    def check_json(self, data: bytes) -> None:
        """Refuse what is not of the schema, in JSON."""

    def check_binary(self, data: bytes) -> None:
        """Refuse what is not of the schema, in its binary encoding."""

    def check_follows(self, earlier: Self) -> None:
        """Refuse to be a revision that comes after this one."""


def definition_of(schema: Proto) -> Definition:
    """Read a `Schema`'s definition.

    Raises:
        InvalidArgumentError: It is none, or longer than 300 KB.
    """
    size = len(schema.definition.encode())
    if not 1 <= size <= limits.MAX_SCHEMA_BYTES:
        raise InvalidArgumentError(
            f"definition: {size} bytes; a schema has 1 to {limits.MAX_SCHEMA_BYTES}."
        )
    # Both are loaded when a schema is first used: they would double the time to start.
    match schema.type_:
        case t if t == AVRO:
            from embedded_pubsub.avro import AvroSchema  # noqa: PLC0415 - as said above

            return AvroSchema(schema.definition)
        case t if t == PROTOCOL_BUFFER:
            from embedded_pubsub.protobuf_schemas import (  # noqa: PLC0415 - as said above
                ProtobufSchema,
            )

            return ProtobufSchema(schema.definition)
    raise InvalidArgumentError(f"type: {schema.type_} must be AVRO or PROTOCOL_BUFFER.")


def check_message(definition: Definition, encoding: int, data: bytes) -> None:
    """Refuse data that is not of a schema.

    Args:
        definition: The schema.
        encoding: A `google.pubsub.v1.Encoding`.
        data: A message's data.
    """
    match encoding:
        case e if e == JSON:
            definition.check_json(data)
        case e if e == BINARY:
            definition.check_binary(data)
        case _:
            raise InvalidArgumentError(f"encoding: {encoding} must be JSON or BINARY.")


@dataclass(eq=False)
class Revision:
    """One revision of a schema, under the number that it is stored by."""

    number: int
    config: Proto

    @cached_property
    def definition(self) -> Definition:
        """What the text means, read when it is first needed."""
        return definition_of(self.config)


class Schemas:
    """All schemas of a server.

    Args:
        saved: The revisions that the store holds, in the order of their commits.
        record: Told of every change that must be made durable.
        numbers: Gives each revision its number.
    """

    def __init__(
        self, saved: Sequence[PutSchema], record: Callable[[Change], None], numbers: Iterator[int]
    ) -> None:
        self.by_name: dict[str, list[Revision]] = {}
        self._record = record
        self._numbers = numbers
        for number, body in saved:
            config = Schema.FromString(body)
            self.by_name.setdefault(config.name, []).append(Revision(number, config))

    def create(self, request: Proto, now: float) -> Proto:
        """Create a schema from a `CreateSchemaRequest`; gives its first revision."""
        name = f"{request.parent}/schemas/{request.schema_id}"
        limits.check_name("schema_id", name, "schemas")
        definition_of(request.schema)
        if name in self.by_name:
            raise AlreadyExistsError(f"Resource already exists in the project (resource={name}).")
        self.by_name[name] = []
        return self._add(name, request.schema, now)

    def commit(self, request: Proto, now: float) -> Proto:
        """Add a revision from a `CommitSchemaRequest`; gives it."""
        revisions = self.revisions(request.name)
        if request.schema.name not in {"", request.name}:
            raise InvalidArgumentError(
                f"schema.name: {request.schema.name!r} must be {request.name!r}, or empty."
            )
        if request.schema.type_ != revisions[-1].config.type_:
            raise InvalidArgumentError("schema.type: the type of a schema can't be changed.")
        definition = definition_of(request.schema)
        for revision in revisions:
            definition.check_follows(revision.definition)
        return self._add(request.name, request.schema, now)

    def roll_back(self, request: Proto, now: float) -> Proto:
        """Add a revision that is a copy of an earlier one; gives it."""
        if not request.revision_id:
            raise InvalidArgumentError("revision_id: must name the revision to roll back to.")
        revision = self._revision(request.name, request.revision_id)
        return self._add(request.name, revision.config, now)

    def delete_revision(self, request: Proto) -> Proto:
        """Delete a revision, named in the request or after an @; gives what is left."""
        name, _, revision_id = request.name.partition("@")
        revision = self._revision(name, request.revision_id or revision_id)
        revisions = self.by_name[name]
        if len(revisions) == 1:
            raise InvalidArgumentError(
                f"name: the only revision of {name} can't be deleted; delete the schema."
            )
        revisions.remove(revision)
        self._record(DropSchema(revision.number))
        return revisions[-1].config

    def delete(self, name: str) -> None:
        """Delete a schema and all its revisions."""
        for revision in self.revisions(name):
            self._record(DropSchema(revision.number))
        del self.by_name[name]

    def get(self, name: str) -> Proto:
        """Give the latest revision, or the one after an @."""
        name, at, revision_id = name.partition("@")
        return self._revision(name, revision_id).config if at else self.revisions(name)[-1].config

    def revisions(self, name: str) -> list[Revision]:
        """Give all revisions of a schema, the oldest first."""
        revisions = self.by_name.get(name)
        if revisions is None:
            limits.check_name("name", name, "schemas")
            raise NotFoundError(f"Resource not found (resource={name}).")
        return revisions

    def validate(self, request: Proto) -> None:
        """Refuse the message of a `ValidateMessageRequest` that is not of the schema it names."""
        match request.WhichOneof("schema_spec"):
            case "name":
                name, at, revision_id = request.name.partition("@")
                last = self._revision(name, revision_id) if at else self.revisions(name)[-1]
                definition = last.definition
            case "schema":
                definition = definition_of(request.schema)
            case _:
                raise InvalidArgumentError("schema_spec: needs a name or a schema.")
        check_message(definition, request.encoding, request.message)

    def check_settings(self, settings: Proto) -> None:
        """Refuse a topic's `SchemaSettings` that name no schema, encoding or revision."""
        if settings.encoding not in {JSON, BINARY}:
            raise InvalidArgumentError("schema_settings.encoding: must be JSON or BINARY.")
        self._allowed(settings)

    def accept(self, settings: Proto, data: bytes) -> Mapping[str, str]:
        """Check a message's data against a topic's settings, the last allowed revision first.

        Returns:
            The attributes that the service adds to a message of a schema.

        Raises:
            InvalidArgumentError: The data is of no allowed revision.
            FailedPreconditionError: The schema was deleted.
        """
        if settings.schema == DELETED_SCHEMA:
            raise FailedPreconditionError("schema_settings: the topic's schema was deleted.")
        refusal = InvalidArgumentError("schema_settings: no revision is allowed.")
        for revision in reversed(self._allowed(settings)):
            try:
                check_message(revision.definition, settings.encoding, data)
            except InvalidArgumentError as error:
                refusal = error
            else:
                return {
                    "googclient_schemaencoding": "JSON" if settings.encoding == JSON else "BINARY",
                    "googclient_schemaname": settings.schema,
                    "googclient_schemarevisionid": revision.config.revision_id,
                }
        raise InvalidArgumentError(f"Message failed schema validation: {refusal}")

    def _allowed(self, settings: Proto) -> list[Revision]:
        revisions = self.revisions(settings.schema)
        first, last = settings.first_revision_id, settings.last_revision_id
        start = revisions.index(self._revision(settings.schema, first)) if first else 0
        end = revisions.index(self._revision(settings.schema, last)) + 1 if last else None
        return revisions[start:end]

    def _revision(self, name: str, revision_id: str) -> Revision:
        for revision in self.revisions(name):
            if revision.config.revision_id == revision_id:
                return revision
        raise NotFoundError(f"Resource not found (resource={name}@{revision_id}).")

    def _add(self, name: str, schema: Proto, now: float) -> Proto:
        revisions = self.by_name[name]
        if len(revisions) >= limits.MAX_SCHEMA_REVISIONS:
            raise FailedPreconditionError(
                f"{name}: has {len(revisions)} revisions, the most that a schema may have; "
                "delete one."
            )
        number = next(self._numbers)
        config = Schema(name=name, type_=schema.type_, definition=schema.definition)
        config.revision_id = hashlib.blake2s(f"{name} {number}".encode(), digest_size=4).hexdigest()
        config.revision_create_time.FromMilliseconds(int(now * 1000))
        revisions.append(Revision(number, config))
        self._record(PutSchema(number, config.SerializeToString()))
        return config


def viewed(schema: Proto, view: int) -> Proto:
    """Give a schema with its definition (`FULL`) or without."""
    shown = copy(schema)
    if view != FULL:
        shown.ClearField("definition")
    return shown
