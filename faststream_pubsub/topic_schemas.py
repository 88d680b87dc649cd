"""Schemas of topics: made, compared with what is there, and changed when the code may."""

import json

import grpc

from faststream_pubsub import wire
from faststream_pubsub.avro import TopicSchema
from faststream_pubsub.client import PubSubClient, told
from faststream_pubsub.errors import TopologyError


class SchemaKeeper:
    """Makes sure that a topic's messages are validated by the schema that the code declares."""

    def __init__(self, client: PubSubClient, *, create: bool, update: bool) -> None:
        """Prepare a keeper.

        Args:
            client: The connection.
            create: Create schemas and topics that are absent.
            update: Commit revisions of schemas, and give schemas to topics that are there.
        """
        self._client = client
        self._create = create
        self._update = update

    async def ensure(self, topic: str, schema: TopicSchema) -> None:
        """Create or compare a topic's schema, and the topic.

        An earlier or later revision of the schema is good, too: releases overlap.

        Raises:
            TopologyError: Something is absent or different, and how to mend it.
        """
        path = self._client.schema_path(schema)
        if not (self._create and await self._created(path, schema)):
            await self._compare(path, schema)
        if self._create:
            await self._client.ensure_topic(topic)
        await self._compare_topic(topic, path)

    async def _created(self, path: str, schema: TopicSchema) -> bool:
        parent, _, schema_id = path.rsplit("/", maxsplit=2)
        request = wire.CreateSchemaRequest(parent=parent, schema_id=schema_id)
        request.schema.CopyFrom(_avro(path, schema))
        try:
            await self._client.setup_call("create_schema", request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                return False
            raise TopologyError(f"can't create {path}: {told(error)}") from error
        return True

    async def _compare(self, path: str, schema: TopicSchema) -> None:
        if json.loads(schema.definition) in await self._revisions(path):
            return
        if not self._update:
            raise TopologyError(
                f"{path} has no revision that says what {schema.model.__name__} says: set "
                "autoupdate=True to commit one, name another schema with TopicSchema(model, id), "
                "or declare the model that is there.",
            )
        request = wire.CommitSchemaRequest(name=path)
        request.schema.CopyFrom(_avro(path, schema))
        try:
            await self._client.setup_call("commit_schema", request)
        except grpc.aio.AioRpcError as error:
            raise TopologyError(f"can't commit a revision of {path}: {told(error)}") from error

    async def _revisions(self, path: str) -> list[object]:
        request = wire.ListSchemaRevisionsRequest(name=path, view=wire.FULL_SCHEMA)
        found: list[object] = []
        while True:
            try:
                page = await self._client.setup_call("list_schema_revisions", request)
            except grpc.aio.AioRpcError as error:
                raise TopologyError(f"can't read {path}: {told(error)}") from error
            found += [json.loads(one.definition) for one in page.schemas if one.type_ == wire.AVRO]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def _compare_topic(self, topic: str, path: str) -> None:
        try:
            found = await self._client.setup_call("get_topic", wire.GetTopicRequest(topic=topic))
        except grpc.aio.AioRpcError as error:
            raise TopologyError(f"can't read {topic}: {told(error)}") from error
        settings = found.schema_settings
        if settings.schema == path and settings.encoding == wire.JSON_ENCODING:
            return
        if not self._update:
            raise TopologyError(
                f"{topic} validates its messages by {settings.schema or 'no schema'}, but {path} "
                "in JSON is declared: set autoupdate=True to change it, or declare what is found.",
            )
        request = wire.UpdateTopicRequest()
        request.topic.name = topic
        request.topic.schema_settings.schema = path
        request.topic.schema_settings.encoding = wire.JSON_ENCODING
        request.update_mask.paths.append("schema_settings")
        try:
            await self._client.setup_call("update_topic", request)
        except grpc.aio.AioRpcError as error:
            raise TopologyError(f"can't give {path} to {topic}: {told(error)}") from error


def _avro(path: str, schema: TopicSchema) -> wire.Proto:
    return wire.Schema(name=path, type_=wire.AVRO, definition=schema.definition)
