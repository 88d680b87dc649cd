"""Pydantic models as Avro schemas, for topics that the service validates.

The schema follows what pydantic writes as JSON: a `datetime` is a string there, and so it is in the
schema. Only unions look different in Avro's JSON: `{"string": "x"}` for `"x"`. Messages are
converted on their way out and in.

Source: Apache Avro 1.11 specification, "Schema Declaration" and "JSON Encoding".
"""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, TypeAlias

from faststream.exceptions import SetupError
from pydantic import BaseModel

from faststream_pubsub.names import check_name

Json: TypeAlias = Any
Avro: TypeAlias = Any
"""A schema: a name, a union (list), or a dict with a `type`."""

MAX_DEFINITION_BYTES: Final = 300_000
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PRIMITIVES: Final = {
    "string": "string",
    "integer": "long",
    "number": "double",
    "boolean": "boolean",
    "null": "null",
}


class TopicSchema:
    """The schema of a topic's messages: a pydantic model, under a name of its own.

    Attributes:
        model: The model.
        schema_id: ID or full name of the Pub/Sub schema.
    """

    def __init__(self, model: type[BaseModel], schema_id: str = "") -> None:
        """Render a model.

        Args:
            model: Its JSON is what the messages are.
            schema_id: ID or full name of the Pub/Sub schema; the model's name if left out.

        Raises:
            SetupError: Avro has no word for one of its types; the text names the field.
        """
        self.model = model
        self.schema_id = schema_id or model.__name__
        check_name("schemas", self.schema_id, is_whole=True)
        self._root = avro_schema(model)

    @classmethod
    def of(cls, schema: "type[BaseModel] | TopicSchema | None") -> "TopicSchema | None":
        """Take what a user gives: a model, or one with a name."""
        if schema is None or isinstance(schema, TopicSchema):
            return schema
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            return cls(schema)
        raise SetupError(
            f"topic_schema={schema!r} is neither a pydantic model nor a TopicSchema of one.",
        )

    @cached_property
    def definition(self) -> str:
        """The schema as JSON text."""
        return json.dumps(self._root)

    @cached_property
    def _names(self) -> Mapping[str, Avro]:
        names: dict[str, Avro] = {}
        _collect(self._root, names)
        return names

    @cached_property
    def _has_unions(self) -> bool:
        return any(
            isinstance(part, list) for named in self._names.values() for part in _parts(named)
        )

    def to_avro(self, data: bytes) -> bytes:
        """Turn JSON into Avro's JSON; what is no JSON stays as it is, for the server to refuse."""
        return self._convert(data, tagged=False)

    def from_avro(self, data: bytes) -> bytes:
        """Turn Avro's JSON into JSON; what is no JSON stays as it is."""
        return self._convert(data, tagged=True)

    def _convert(self, data: bytes, *, tagged: bool) -> bytes:
        if not self._has_unions:
            return data
        try:
            value = json.loads(data)
        except ValueError:
            return data
        return json.dumps(_converted(self._root, value, self._names, tagged=tagged)).encode()


def avro_schema(model: type[BaseModel]) -> Avro:
    """Render the Avro record of a pydantic model.

    Strings, dates, decimals and UUIDs are `string`; integers `long`; numbers `double`; lists and
    sets `array`; dicts `map`; models `record`; enumerations of words `enum`; `X | None` and unions
    of different JSON types are unions.

    Raises:
        SetupError: Avro has no word for a type, as `Any` or `tuple[int, str]`.
    """
    schema = model.model_json_schema(mode="serialization")
    definitions = schema.get("$defs", {})
    if reference := schema.get("$ref"):
        return _Renderer(definitions).render({"$ref": reference}, model.__name__)
    renderer = _Renderer(definitions)
    return renderer.record(schema, renderer.take_name(model.__name__), model.__name__)


class _Renderer:
    def __init__(self, definitions: Mapping[str, Json]) -> None:
        self._definitions = definitions
        self._taken: set[str] = set()
        self._records: dict[str, str] = {}

    def render(self, schema: Json, path: str) -> Avro:  # noqa: PLR0911 - one line per kind of type
        match schema:
            case {"$ref": str() as reference}:
                return self._referenced(reference.rsplit("/", maxsplit=1)[-1], path)
            case {"anyOf": branches} | {"oneOf": branches}:
                return self._union(branches, path)
            case {"const": str() as word}:
                return self._enum([word], path)
            case {"enum": [*words]} if all(isinstance(word, str) for word in words):
                return self._enum(words, path)
            case {"type": "array", "items": items} if "prefixItems" not in schema:
                return {"type": "array", "items": self.render(items, f"{path}[]")}
            case {"type": "object", "additionalProperties": dict() as values}:
                return {"type": "map", "values": self.render(values, f"{path}.*")}
            case {"type": "object", "properties": _}:
                return self.record(schema, self.take_name(schema["title"]), path)
            case {"type": str() as kind} if kind in _PRIMITIVES:
                return _PRIMITIVES[kind]
        raise _no_word(path, schema)

    def record(self, schema: Json, name: str, path: str) -> Avro:
        if schema.get("additionalProperties"):
            raise _no_word(path, "fields that are not declared (extra='allow')")
        fields = []
        for key, value in schema["properties"].items():
            if not _NAME.fullmatch(key):
                raise _no_word(f"{path}.{key}", "a field name with other than A-Z, a-z, 0-9 and _")
            field = {"name": key, "type": self.render(value, f"{path}.{key}")}
            if "default" in value and value["default"] is None:
                field["default"] = None
            fields.append(field)
        return {"type": "record", "name": name, "fields": fields}

    def take_name(self, title: str) -> str:
        name = base = re.sub(r"\W", "_", title, flags=re.ASCII)
        number = 2
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        return name

    def _referenced(self, key: str, path: str) -> Avro:
        schema = self._definitions[key]
        if "properties" not in schema:
            return self.render(schema, path)
        if key in self._records:
            return self._records[key]
        self._records[key] = self.take_name(key)
        return self.record(schema, self._records[key], key)

    def _enum(self, words: list[str], path: str) -> Avro:
        if not all(map(_NAME.fullmatch, words)):
            return "string"
        name = self.take_name(path.replace(".", "_").replace("[]", "_item"))
        return {"type": "enum", "name": name, "symbols": words}

    def _union(self, branches: list[Json], path: str) -> Avro:
        rendered = [self.render(branch, path) for branch in branches]
        if len({_json_kind(branch) for branch in rendered}) < len(rendered):
            raise _no_word(path, "a union whose branches look alike in JSON")
        return sorted(rendered, key=lambda branch: branch != "null")


def _no_word(path: str, what: Json) -> SetupError:
    return SetupError(
        f"{path}: Avro has no word for {what if isinstance(what, str) else json.dumps(what)}. "
        "Give the field a type of its own: scalars, lists, dicts of one type, models, or one of "
        "them or None.",
    )


def _json_kind(schema: Avro) -> str:
    match schema:
        case "string" | {"type": "enum"}:
            return "string"
        case {"type": "array"}:
            return "array"
        case "null" | "boolean" | "long" | "double":
            return str(schema)
    return "object"


def _collect(schema: Avro, names: dict[str, Avro]) -> None:
    for part in (schema, *_parts(schema)):
        if isinstance(part, dict) and "name" in part and part["name"] not in names:
            names[part["name"]] = part
            _collect(part, names)
        elif part is not schema:
            _collect(part, names)


def _parts(schema: Avro) -> list[Avro]:
    """The schemas that a schema is made of."""
    match schema:
        case list():
            return schema
        case {"type": "record", "fields": fields}:
            return [field["type"] for field in fields]
        case {"type": "array", "items": items}:
            return [items]
        case {"type": "map", "values": values}:
            return [values]
    return []


def _converted(schema: Avro, value: Json, names: Mapping[str, Avro], *, tagged: bool) -> Json:
    schema = names.get(schema, schema) if isinstance(schema, str) else schema
    match schema, value:
        case list(), _:
            return _converted_union(schema, value, names, tagged=tagged)
        case {"type": "record", "fields": fields}, dict():
            given = {f["name"]: f.get("default") for f in fields if "default" in f} | value
            kinds = {field["name"]: field["type"] for field in fields}
            return {
                key: _converted(kinds[key], item, names, tagged=tagged) if key in kinds else item
                for key, item in given.items()
            }
        case {"type": "array", "items": items}, list():
            return [_converted(items, item, names, tagged=tagged) for item in value]
        case {"type": "map", "values": values}, dict():
            return {k: _converted(values, v, names, tagged=tagged) for k, v in value.items()}
    return value


def _converted_union(
    branches: list[Avro], value: Json, names: Mapping[str, Avro], *, tagged: bool
) -> Json:
    if value is None:
        return None
    by_tag = {_tag(branch): branch for branch in branches}
    if tagged:
        match value:
            case dict() if len(value) == 1 and next(iter(value)) in by_tag:
                ((tag, inner),) = value.items()
                return _converted(by_tag[tag], inner, names, tagged=True)
        return value
    kind = _kind_of(value)
    for tag, branch in by_tag.items():
        wanted = _json_kind(branch)
        # a number may be written without its point
        if kind == wanted or (kind, wanted) == ("long", "double"):
            return {tag: _converted(branch, value, names, tagged=False)}
    return value


def _kind_of(value: Json) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "long"
        case float():
            return "double"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _tag(branch: Avro) -> str:
    if isinstance(branch, str):
        return branch
    return str(branch.get("name", branch["type"]))
