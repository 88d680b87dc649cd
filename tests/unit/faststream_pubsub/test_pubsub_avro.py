"""Pydantic models as Avro schemas."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal
from uuid import UUID

import fastavro
import pytest
from faststream.exceptions import SetupError
from pydantic import BaseModel, ConfigDict, Field

from embedded_pubsub.avro import AvroSchema
from faststream_pubsub import PubSubBroker, TopicSchema


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Size(Enum):
    BIG = "very big"


class Level(IntEnum):
    LOW = 1


class Item(BaseModel):
    sku: str
    price: Decimal


class Order(BaseModel):
    number: int
    weight: float
    packed: bool
    note: str | None = None
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    day: date = date(2026, 1, 2)
    took: timedelta = timedelta(seconds=3)
    ident: UUID = UUID(int=1)
    data: bytes = b"x"
    color: Color = Color.RED
    maybe: Color | None = Color.BLUE
    size: Size = Size.BIG
    level: Level = Level.LOW
    kind: Literal["a", "b"] = "a"
    items: list[Item] = []
    best: Item | None = None
    marks: set[int] = set()
    counts: dict[str, int | None] = {}
    grid: list[list[str | None]] = []
    ratio: float | None = 2
    either: int | str | list[float] = 0
    parent: "Order | None" = None


WHOLE = Order(
    number=1,
    weight=2,
    packed=True,
    items=[Item(sku="a", price=Decimal("1.50"))],
    best=Item(sku="b", price=Decimal(2)),
    marks={3},
    counts={"a": 1, "b": None},
    grid=[["x", None], []],
    either="s",
    parent=Order(number=2, weight=0.5, packed=False, note="n", either=[1.5]),
)


def test_model_is_said_in_avro_as_its_json_is():
    schema = json.loads(TopicSchema(Order).definition)
    types = {field["name"]: field["type"] for field in schema["fields"]}
    assert (schema["type"], schema["name"]) == ("record", "Order")
    assert types["number"] == "long"
    assert types["weight"] == "double"
    assert types["note"] == ["null", "string"]
    assert types["at"] == types["took"] == types["ident"] == types["data"] == "string"
    assert types["color"]["symbols"] == ["red", "blue"]
    assert types["size"] == "string"
    assert types["level"] == "long"
    assert types["best"] == ["null", "Item"]
    assert types["counts"] == {"type": "map", "values": ["null", "long"]}
    assert types["parent"] == ["null", "Order"]
    fastavro.parse_schema(schema)


@pytest.mark.parametrize("order", [WHOLE, Order(number=1, weight=1, packed=False)])
def test_what_is_written_is_of_the_schema_and_reads_back(order):
    schema = TopicSchema(Order)
    written = schema.to_avro(order.model_dump_json().encode())
    AvroSchema(schema.definition).check_json(written)
    assert Order.model_validate_json(schema.from_avro(written)) == order


def test_absent_optional_field_is_written_as_null():
    class Note(BaseModel):
        text: str | None = None

    schema = TopicSchema(Note)
    assert schema.to_avro(b"{}") == b'{"text": null}'
    assert schema.from_avro(b'{"text": {"string": "x"}}') == b'{"text": "x"}'


def test_what_is_no_json_is_left_to_the_server():
    assert TopicSchema(Order).to_avro(b"\xff") == b"\xff"
    assert TopicSchema(Order).from_avro(b"\xff") == b"\xff"


def test_json_without_unions_is_not_touched():
    assert TopicSchema(Item).to_avro(b' {"sku": 1}') == b' {"sku": 1}'


def field(annotation, name="odd", **config):
    return type(
        "Odd",
        (BaseModel,),
        {"__annotations__": {name: annotation}, "model_config": ConfigDict(**config)},
    )


class Aliased(BaseModel):
    odd: int = Field(alias="not-a-name")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (field(Any), "Odd.odd"),
        (field(dict), "Odd.odd"),
        (field(list), r"Odd.odd\[\]"),
        (field(tuple[int, str]), "Odd.odd"),
        (field(Color | str), "Odd.odd.*look alike"),
        (field(Item | Order), "Odd.odd.*look alike"),
        (field(list[dict[str, Any]]), "Odd.odd"),
        (field(int, extra="allow"), "Odd.*extra='allow'"),
        (Aliased, "Aliased.not-a-name"),
    ],
)
def test_type_that_avro_can_not_say_is_named(model, told):
    with pytest.raises(SetupError, match=f"{told}.*Give the field"):
        PubSubBroker().publisher("orders", topic_schema=model)


@pytest.mark.parametrize("wrong", [dict, {"type": "record"}, "Order"])
def test_only_models_are_schemas(wrong):
    with pytest.raises(SetupError, match=r"topic_schema=.*pydantic model"):
        PubSubBroker().publisher("orders", topic_schema=wrong)


def test_schema_needs_a_topic_and_no_codec():
    with pytest.raises(SetupError, match="topic_schema needs a topic"):
        PubSubBroker().subscriber(subscription="orders-sub", topic_schema=Item)


def test_two_models_of_one_name_are_two_records():
    inner = type("Item", (BaseModel,), {"__annotations__": {"x": int}})

    class Both(BaseModel):
        one: Item
        other: inner

    definition = TopicSchema(Both).definition
    AvroSchema(definition).check_json(b'{"one": {"sku": "a", "price": "1"}, "other": {"x": 1}}')
