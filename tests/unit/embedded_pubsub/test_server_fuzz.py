"""Any request is answered or refused, whatever is in it."""

import asyncio
from contextlib import suppress

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from embedded_pubsub import protos
from embedded_pubsub.errors import InvalidArgumentError, PubSubError
from embedded_pubsub.filters import compile_filter
from embedded_pubsub.methods import methods
from embedded_pubsub.overview import as_html, overview
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.store import SqliteStore
from tests.support.fuzz import fuzzed

TEXTS = [
    "", "projects/p", "projects/p/topics/topic", "projects/p/subscriptions/subscription",
    "projects/p/snapshots/snapshot", "projects/p/schemas/schema", "schema", "labels", "a.b", "é",
    "_deleted-topic_", "_deleted-schema_", "attributes:k", "https://example.com/", "1-2-3",
    '{"type": "record", "name": "R", "fields": []}', 'syntax = "proto3"; message M {}', "x" * 300,
]  # fmt: skip
NUMBERS = [0, 1, 2, 9, 10, 600, 1000, 86_400, 2**31 - 1, -1, -(2**31)]
VALUES = {
    FieldDescriptor.CPPTYPE_STRING: st.sampled_from(TEXTS) | st.text(max_size=9),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from(NUMBERS),
    FieldDescriptor.CPPTYPE_INT64: st.sampled_from([*NUMBERS, 2**63 - 1, -(2**63)]),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
}
KINDS = (
    "CreateTopic", "CreateSubscription", "CreateSnapshot", "CreateSchema", "Publish", "Pull",
    "Acknowledge", "ModifyAckDeadline",
)  # fmt: skip


def value_of(draw, field, depth):
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_MESSAGE:
            return fill(draw, field.message_type, depth + 1)
        case FieldDescriptor.CPPTYPE_ENUM:
            return draw(st.sampled_from([value.number for value in field.enum_type.values]))
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return draw(st.binary(max_size=9))
        case kind:
            return draw(VALUES[kind])


def fill(draw, descriptor, depth=0):
    document = {}
    for field in descriptor.fields:
        if depth > 3 or not draw(st.booleans()):
            continue
        count = draw(st.integers(0, 2)) if field.is_repeated else 1
        values = [value_of(draw, field, depth) for _ in range(count)]
        document[field.name] = values if field.is_repeated else values[0]
    return document


def message_of(kind, document):
    """Build a message, leaving out what protobuf itself would not hold."""
    message = kind()
    for name, value in document.items():
        field = kind.DESCRIPTOR.fields_by_name[name]
        owner = getattr(message, name)
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        with suppress(ValueError):
            match value:
                case dict():
                    owner.CopyFrom(message_of(type(owner), value))
                case list() if is_map:
                    owner.update({str(e.get("key", "")): str(e.get("value", "")) for e in value})
                case [dict(), *_]:
                    owner.extend(message_of(type(owner.add()), each) for each in value)
                case list():
                    owner.extend(value)
                case _:
                    setattr(message, name, value)
    return message


@st.composite
def calls(draw, requests):
    name = draw(st.sampled_from(sorted(requests) + 3 * list(KINDS)))
    return name, message_of(requests[name], fill(draw, requests[name].DESCRIPTOR))


@pytest.fixture
def loop():
    running = asyncio.new_event_loop()
    yield running
    running.close()


@fuzzed(60)
@given(data=st.data())
def test_any_calls_are_answered_or_refused_and_outlive_a_restart(data, tmp_path_factory, loop):
    folder = tmp_path_factory.mktemp("fuzz")

    async def run():
        runtime = Runtime(SqliteStore(folder, fsync=False), lambda: 1e9)
        served = methods(runtime)
        call = {method.name: method.call for method in served}
        requests = {method.name: method.request for method in served}
        await call["CreateTopic"](protos.Topic(name=TEXTS[2]), None)
        request = protos.Subscription(name=TEXTS[3], topic=TEXTS[2])
        await call["CreateSubscription"](request, None)
        for name, request in data.draw(st.lists(calls(requests), min_size=5, max_size=20)):
            if name == "Pull":
                request.return_immediately = True
            with suppress(PubSubError):
                await call[name](request, 0.001)
            runtime.call_soon(runtime.state.tick)
        before = overview(runtime)
        assert as_html(before)
        await runtime.close()
        again = Runtime(SqliteStore(folder, fsync=False), lambda: 1e9)
        after = overview(again)
        await again.close()
        assert without_leases(after) == without_leases(before)

    loop.run_until_complete(run())


def without_leases(document):
    return {
        kind: [{name: value for name, value in row.items() if name != "leases"} for row in rows]
        for kind, rows in document.items()
    }


PARTS = [
    "attributes", ":", ".", "=", "!=", "hasPrefix", "(", ")", ",", "AND", "OR", "NOT", "-", "k",
    '"v"', '"', "\\", '"\\u0041"', '"\\777"', "é", " ",
]  # fmt: skip


@fuzzed(100)
@given(st.lists(st.sampled_from(PARTS), max_size=25), st.sampled_from(["", " "]))
def test_any_filter_is_a_predicate_or_refused(parts, space):
    with suppress(InvalidArgumentError):
        assert compile_filter(space.join(parts))({"k": "v"}) in {True, False}


@fuzzed(100)
@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text):
    with suppress(InvalidArgumentError):
        assert compile_filter(text)({}) in {True, False}


def test_deepest_filter_is_compiled():
    assert compile_filter("(" * 122 + "attributes:k" + ")" * 122)({"k": ""})


def test_fuzzed_requests_reach_deep_fields():
    document = {"name": "n", "schema_settings": {"schema": "s"}, "labels": [{"key": "k"}]}
    topic = message_of(protos.Topic, document)
    assert json_format.MessageToDict(topic) == {
        "name": "n",
        "schemaSettings": {"schema": "s"},
        "labels": {"k": ""},
    }
