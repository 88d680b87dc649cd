"""Schemas and topics that have one, by the official clients."""

import io
import json

import fastavro
import grpc
import pytest
from google.api_core import exceptions
from google.pubsub_v1 import SchemaServiceClient
from google.pubsub_v1.types import Encoding, Schema, SchemaView

AVRO = json.dumps(
    {"type": "record", "name": "State", "fields": [{"name": "name", "type": "string"}]}
)
AVRO_PLUS = json.dumps(
    {
        "type": "record",
        "name": "State",
        "fields": [
            {"name": "name", "type": "string"},
            {"name": "population", "type": "long", "default": 0},
        ],
    }
)
AVRO_OTHER = AVRO_PLUS.replace(', "default": 0', "")
PROTO = 'syntax = "proto3"; message State { string name = 1; }'
PROTO_PLUS = 'syntax = "proto3"; message State { string name = 1; int64 population = 2; }'
PROTO_OTHER = 'syntax = "proto3"; message State { int64 name = 1; }'
TYPES = {"avro": Schema.Type.AVRO, "proto": Schema.Type.PROTOCOL_BUFFER}


@pytest.fixture
def schemas(target):
    with grpc.insecure_channel(target) as channel:
        transport = SchemaServiceClient.get_transport_class("grpc")(channel=channel)
        yield SchemaServiceClient(transport=transport)


@pytest.fixture
def create(schemas, pubsub):
    def create_schema(definition=AVRO, language="avro", schema_id="schema"):
        schema = Schema(type_=TYPES[language], definition=definition)
        parent = f"projects/{pubsub.project}"
        return schemas.create_schema(parent=parent, schema=schema, schema_id=schema_id)

    return create_schema


def commit(schemas, name, definition, language="avro"):
    schema = Schema(name=name, type_=TYPES[language], definition=definition)
    return schemas.commit_schema(name=name, schema=schema)


def with_schema(pubsub, name, encoding=Encoding.JSON, **settings):
    settings = {"schema": name, "encoding": encoding, **settings}
    pubsub.publisher.create_topic(request={"name": pubsub.topic, "schema_settings": settings})
    pubsub.subscribe(pubsub.subscription)


def binary(definition, value):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(json.loads(definition)), value)
    return stream.getvalue().decode()


def test_schema_is_created_read_listed_and_deleted(schemas, create, pubsub, differs):
    differs("lists definitions in the basic view as well")
    created = create()
    assert created.name == pubsub.name("schemas", "schema")
    assert created.revision_id
    assert schemas.get_schema(name=created.name).definition == AVRO
    parent = f"projects/{pubsub.project}"
    (listed,) = schemas.list_schemas(parent=parent)
    assert (listed.name, listed.definition) == (created.name, "")
    (whole,) = schemas.list_schemas(request={"parent": parent, "view": SchemaView.FULL})
    assert whole.definition == AVRO
    with pytest.raises(exceptions.AlreadyExists):
        create()
    schemas.delete_schema(name=created.name)
    with pytest.raises(exceptions.NotFound):
        schemas.get_schema(name=created.name)


@pytest.mark.parametrize(
    ("language", "definition"),
    [("avro", "{"), ("avro", '"string"'), ("avro", ""), ("proto", "message"), ("proto", "")],
)
def test_what_is_no_schema_is_refused(create, differs, language, definition):
    if language == "proto":
        differs("has no protocol buffer schemas, and accepts what is none")
    elif definition == '"string"':
        differs("accepts an Avro schema that is no record")
    with pytest.raises(exceptions.InvalidArgument):
        create(definition, language)


class TestRevisions:
    @pytest.mark.parametrize(
        ("language", "first", "second"), [("avro", AVRO, AVRO_PLUS), ("proto", PROTO, PROTO_PLUS)]
    )
    def test_are_committed_rolled_back_and_deleted(
        self, schemas, create, language, first, second, differs
    ):
        if language == "proto":
            differs("has no protocol buffer schemas")
        created = create(first, language)
        committed = commit(schemas, created.name, second, language)
        assert committed.revision_id != created.revision_id
        assert schemas.get_schema(name=created.name).definition == second
        earlier = schemas.get_schema(name=f"{created.name}@{created.revision_id}")
        assert earlier.definition == first
        back = schemas.rollback_schema(name=created.name, revision_id=created.revision_id)
        assert back.revision_id not in {created.revision_id, committed.revision_id}
        listed = {each.revision_id for each in schemas.list_schema_revisions(name=created.name)}
        assert listed == {back.revision_id, committed.revision_id, created.revision_id}
        schemas.delete_schema_revision(name=f"{created.name}@{committed.revision_id}")
        listed = {each.revision_id for each in schemas.list_schema_revisions(name=created.name)}
        assert listed == {back.revision_id, created.revision_id}

    @pytest.mark.parametrize(
        ("language", "first", "other"), [("avro", AVRO, AVRO_OTHER), ("proto", PROTO, PROTO_OTHER)]
    )
    def test_must_be_compatible(self, schemas, create, language, first, other, differs):
        differs("doesn't compare revisions" if language == "avro" else "has no protobuf schemas")
        created = create(first, language)
        with pytest.raises(exceptions.InvalidArgument, match="incompatible"):
            commit(schemas, created.name, other, language)
        assert schemas.get_schema(name=created.name).definition == first


def test_only_revision_stays(schemas, create):
    created = create()
    with pytest.raises((exceptions.FailedPrecondition, exceptions.InvalidArgument)):
        schemas.delete_schema_revision(name=f"{created.name}@{created.revision_id}")


def test_messages_of_a_topic_must_be_of_its_schema(create, pubsub, differs):
    differs("accepts JSON fields that are not in the schema")
    created = create()
    with_schema(pubsub, created.name)
    pubsub.publish('{"name": "Alaska"}')
    for bad in ("", "no JSON", '{"name": 5}', '{"name": "Alaska", "extra": 1}', "{}"):
        with pytest.raises(exceptions.InvalidArgument):
            pubsub.publish(bad, attribute="so that it isn't empty")
    (received,) = pubsub.pull(1)
    assert dict(received.message.attributes) == {
        "googclient_schemaencoding": "JSON",
        "googclient_schemaname": created.name,
        "googclient_schemarevisionid": created.revision_id,
    }


def test_binary_encoding_is_checked(create, pubsub, differs):
    differs("accepts bytes after the Avro value")
    with_schema(pubsub, create().name, Encoding.BINARY)
    alaska = binary(AVRO, {"name": "Alaska"})
    pubsub.publish(alaska)
    for bad in (alaska[:-1], alaska + "x"):
        with pytest.raises(exceptions.InvalidArgument):
            pubsub.publish(bad)


@pytest.mark.parametrize(
    ("encoding", "good", "bad"),
    [(Encoding.JSON, '{"name": "Alaska"}', '{"other": ""}'), (Encoding.BINARY, "\n\1x", "\n\5x")],
)
def test_protobuf_messages_are_checked(create, pubsub, differs, encoding, good, bad):
    differs("has no protocol buffer schemas")
    with_schema(pubsub, create(PROTO, "proto").name, encoding)
    pubsub.publish(good)
    with pytest.raises(exceptions.InvalidArgument, match="schema validation"):
        pubsub.publish(bad)


def test_range_of_revisions_is_what_counts(schemas, create, pubsub, differs):
    differs("accepts JSON fields that are not in the schema")
    created = create()
    second = commit(schemas, created.name, AVRO_PLUS)
    revision = created.revision_id
    with_schema(pubsub, created.name, first_revision_id=revision, last_revision_id=revision)
    pubsub.publish('{"name": "Alaska"}')
    more = '{"name": "Alaska", "population": 1}'
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.publish(more)
    pubsub.publisher.update_topic(
        request={
            "topic": {
                "name": pubsub.topic,
                "schema_settings": {
                    "schema": created.name,
                    "encoding": Encoding.JSON,
                    "first_revision_id": revision,
                    "last_revision_id": second.revision_id,
                },
            },
            "update_mask": {"paths": ["schema_settings"]},
        }
    )
    pubsub.publish(more)
    ids = [each.message.attributes["googclient_schemarevisionid"] for each in pubsub.pull(2)]
    assert sorted(ids) == sorted([revision, second.revision_id])


def test_deleted_schema_stops_its_topics(schemas, create, pubsub):
    created = create()
    with_schema(pubsub, created.name)
    schemas.delete_schema(name=created.name)
    found = pubsub.publisher.get_topic(topic=pubsub.topic)
    assert found.schema_settings.schema == "_deleted-schema_"
    with pytest.raises(exceptions.GoogleAPICallError):
        pubsub.publish('{"name": "Alaska"}')


def test_topic_needs_a_schema_that_exists(pubsub):
    with pytest.raises(exceptions.NotFound):
        with_schema(pubsub, pubsub.name("schemas", "none-such"))


def test_topic_needs_an_encoding(pubsub, create):
    with pytest.raises(exceptions.InvalidArgument):
        with_schema(pubsub, create().name, Encoding.ENCODING_UNSPECIFIED)


def test_schemas_and_messages_are_validated_without_being_kept(schemas, create, pubsub):
    parent = f"projects/{pubsub.project}"
    schema = Schema(type_=Schema.Type.AVRO, definition=AVRO)
    schemas.validate_schema(parent=parent, schema=schema)
    with pytest.raises(exceptions.InvalidArgument):
        schemas.validate_schema(
            parent=parent, schema=Schema(type_=Schema.Type.AVRO, definition="{}")
        )
    request = {"parent": parent, "schema": schema, "encoding": Encoding.JSON}
    schemas.validate_message(request={**request, "message": b'{"name": "Alaska"}'})
    with pytest.raises(exceptions.InvalidArgument):
        schemas.validate_message(request={**request, "message": b'{"name": 1}'})
    name = create().name
    request = {"parent": parent, "name": name, "encoding": Encoding.BINARY}
    message = binary(AVRO, {"name": "Alaska"}).encode()
    schemas.validate_message(request={**request, "message": message})
    with pytest.raises(exceptions.InvalidArgument):
        schemas.validate_message(request={**request, "message": b"\xff"})
