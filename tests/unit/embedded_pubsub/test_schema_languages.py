"""Avro and protocol buffer definitions: what they accept, and what may follow them."""

import io
import json
from contextlib import suppress

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded_pubsub.avro import AvroSchema
from embedded_pubsub.errors import InvalidArgumentError
from embedded_pubsub.protobuf_schemas import ProtobufSchema


def record(**fields):
    defaulted = {"default": None} if fields.pop("optional", False) else {}
    return {
        "type": "record",
        "name": "R",
        "fields": [{"name": n, "type": t, **defaulted} for n, t in fields.items()],
    }


def avro(**fields):
    return AvroSchema(json.dumps(record(**fields)))


ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
FIXED = {"type": "fixed", "name": "F", "size": 2}


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("null", None, 0),
        ("boolean", True, 1),
        ("int", 2**31 - 1, 2**31),
        ("int", -(2**31), True),
        ("long", 2**63 - 1, 2**63),
        ("double", 1, "1"),
        ("double", 1.5, None),
        ("string", "é", 1),
        ("bytes", "\u00ff", "\u0100"),
        (["null", "int"], None, 5),
        (["null", "int"], {"int": 5}, {"long": 5}),
        (["null", "int"], {"int": 5}, {"null": None}),
        (["int"], {"int": 5}, None),
        (["null", ENUM], {"E": "A"}, {"E": "C"}),
        ({"type": "array", "items": "int"}, [1, 2], [1, "2"]),
        ({"type": "map", "values": "int"}, {"a": 1}, {"a": "1"}),
        (ENUM, "B", "C"),
        (ENUM, "B", ["B"]),
        (FIXED, "ab", "abc"),
        (["null", "R"], {"R": {"x": None}}, {"R": {"x": 1}}),
    ],
)
def test_avro_json_is_held_to_its_type(kind, good, bad):
    schema = avro(x=kind)
    schema.check_json(json.dumps({"x": good}).encode())
    for wrong in ({"x": bad}, {"x": good, "y": 1}, {}, [good]):
        with pytest.raises(InvalidArgumentError, match="message"):
            schema.check_json(json.dumps(wrong).encode())


def test_avro_json_that_is_not_finite_is_refused():
    with pytest.raises(InvalidArgumentError, match="double"):
        avro(x="double").check_json(b'{"x": NaN}')


@given(st.binary(max_size=40))
def test_any_bytes_are_avro_or_refused(data):
    schema = avro(x=["null", "string"], y={"type": "array", "items": "long"}, z=ENUM)
    for check in (schema.check_binary, schema.check_json):
        with suppress(InvalidArgumentError):
            check(data)


def test_avro_binary_is_one_value_exactly():
    schema = avro(x="string", y=["null", "int"])
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema.root, {"x": "a", "y": 3})
    data = stream.getvalue()
    schema.check_binary(data)
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(InvalidArgumentError):
            schema.check_binary(wrong)


@pytest.mark.parametrize(
    ("before", "after", "compatible"),
    [
        (record(x="int"), record(x="int"), True),
        (record(x="int"), record(x="long"), False),
        (record(x="string"), record(x="bytes"), True),
        (record(x="int"), record(x="int", y="int"), False),
        (record(x=["null", "int"], optional=True), record(), True),
        (record(x=ENUM), record(x={**ENUM, "symbols": ["A", "B", "C"]}), False),
        (record(x=FIXED), record(x={**FIXED, "size": 3}), False),
        (record(x=["null", "int"]), record(x=["int", "null"]), True),
        (record(x=["null", "int"]), record(x=["null", "int", "string"]), False),
        (record(x=["null", "R"]), record(x=["null", "R"]), True),
        (record(x="int"), {**record(x="int"), "name": "S"}, False),
        (
            record(x={"type": "map", "values": "int"}),
            record(x={"type": "map", "values": "string"}),
            False,
        ),
    ],
)
def test_avro_revisions_must_read_each_other(before, after, compatible):
    earlier, later = AvroSchema(json.dumps(before)), AvroSchema(json.dumps(after))
    if compatible:
        later.check_follows(earlier)
        return
    with pytest.raises(InvalidArgumentError, match="incompatible"):
        later.check_follows(earlier)


@pytest.mark.parametrize("bad", ["", "[]", "5", '{"type": "record"}', '"int"', '{"type": "what"}'])
def test_what_is_no_avro_is_refused(bad):
    with pytest.raises(InvalidArgumentError, match="definition"):
        AvroSchema(bad)


EVERYTHING = """
// A line comment.
syntax = "proto3"; /* and
another */ package a.b;
import "google/protobuf/timestamp.proto";
import public "google/protobuf/struct.proto";
option java_package = "x" "y";
message Outer {
  option (custom).option = { a: [1, 2] b: "}" };
  reserved 4, 6 to max; reserved "old";
  string name = 1;
  optional int64 count = 2 [deprecated = true];
  map<string, Inner> inner = 3;
  google.protobuf.Timestamp time = 5;
  repeated double many = 0x10 [packed = true, json_name = "lots"];
  Color color = 021;
  message Inner { Color color = 1; .a.b.Outer again = 2; }
  enum Color { option allow_alias = true; RED = 0; SCARLET = 0 [deprecated = true]; BLUE = -1; }
  oneof either { string left = 10; Inner right = 11; }
};
"""


def test_proto_file_is_read_without_protoc():
    schema = ProtobufSchema(EVERYTHING)
    document = {
        "name": "n",
        "count": "5",
        "inner": {"k": {"color": "SCARLET", "again": {"left": "x"}}},
        "time": "2026-11-21T00:00:00Z",
        "lots": [1.5],
        "color": "BLUE",
    }
    schema.check_json(json.dumps(document).encode())
    assert schema.descriptor.fields_by_name["many"].number == 16
    assert schema.descriptor.fields_by_name["color"].number == 17
    assert schema.descriptor.fields_by_name["count"].has_presence
    assert not schema.descriptor.fields_by_name["name"].has_presence


@pytest.mark.parametrize(
    "bad", [b"", b"[]", b"5", b'{"other": ""}', b'{"name": 5}', b'{"left": "", "right": {}}']
)
def test_protobuf_json_is_held_to_its_message(bad):
    with pytest.raises(InvalidArgumentError, match="message"):
        ProtobufSchema(EVERYTHING).check_json(bad)


@given(st.binary(max_size=40))
def test_any_bytes_are_protobuf_or_refused(data):
    schema = ProtobufSchema(EVERYTHING)
    for check in (schema.check_binary, schema.check_json):
        with suppress(InvalidArgumentError):
            check(data)


def test_required_fields_are_required():
    schema = ProtobufSchema('message M { required int32 x = 1 [default = -3, json_name = "y"]; }')
    assert schema.descriptor.fields_by_name["x"].default_value == -3
    schema.check_binary(b"\x08\x01")
    with pytest.raises(InvalidArgumentError, match="required"):
        schema.check_binary(b"")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "exactly one"),
        ("message A {} message B {}", "exactly one"),
        ("message A { X x = 1; }", "X"),
        ("message A { optional int32 x = 0; }", "1 to"),
        ("message A { optional int32 x = 08; }", "whole number"),
        ('syntax = "proto4"; message A {}', "proto3"),
        ('import "mine.proto"; message A {}', "google/protobuf"),
        ('import "google/protobuf/none.proto"; message A {}', "no such file"),
        ("service S {}", "service"),
        ("message A { optional group G = 1 {} }", "group"),
        ("message A { extensions 100 to 200; }", "extensions"),
        ("message A {", "the end"),
        ("message A { option x = {", "the end"),
        ("message A { optional int32 x = 1 [", "the end"),
        ("message A { enum E {} }", "E"),
        ("\0", "line 1"),
        ("\n\nmessage 5 {}", "line 3"),
        ("message A {" * 40, "inside each other"),
    ],
)
def test_what_is_no_proto_file_is_refused(text, word):
    with pytest.raises(InvalidArgumentError, match=word):
        ProtobufSchema(text)


@given(st.lists(st.sampled_from(EVERYTHING.split()), max_size=30).map(" ".join))
def test_any_text_is_a_proto_file_or_refused(text):
    with suppress(InvalidArgumentError):
        ProtobufSchema(text)


@pytest.mark.parametrize(
    ("before", "after", "compatible"),
    [
        ("string x = 1;", "string x = 1; int32 y = 2;", True),
        ("string x = 1; int32 y = 2;", "string x = 1;", True),
        ("string x = 1;", "string x = 1; repeated int32 y = 2;", False),
        ("string x = 1;", "bytes x = 1;", False),
        ("string x = 1;", "string y = 1;", False),
        ("E e = 1; enum E { A = 0; }", "E e = 1; enum E { A = 0; B = 1; }", False),
        ("I i = 1; message I {}", "I i = 1; message I { int32 y = 1; }", True),
        ("I i = 1; message I { int32 y = 1; }", "I i = 1; message I { int64 y = 1; }", False),
        ("M m = 1;", "M m = 1; int32 x = 2;", True),
    ],
)
def test_protobuf_revisions_add_or_remove_optional_fields_only(before, after, compatible):
    first, second = (
        ProtobufSchema(f'syntax = "proto3"; message M {{ {fields} }}') for fields in (before, after)
    )
    if compatible:
        second.check_follows(first)
        return
    with pytest.raises(InvalidArgumentError, match="incompatible"):
        second.check_follows(first)
