"""Avro schemas: what they allow in both encodings, and which revisions may follow each other.

Source: Apache Avro 1.11 specification, "JSON Encoding" and "Schema Resolution". Definitions and
binary data are read by fastavro; its JSON reader takes fields that no schema names and values of
other types, so JSON is checked here.
"""

import io
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import fastavro

from embedded_pubsub.errors import InvalidArgumentError

Avro: TypeAlias = Any
"""A parsed schema: a name, a union (list) or a dict with a `type`, as fastavro gives it."""

_INT, _LONG = 2**31, 2**63
_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


def _is_whole(value: object, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit


def _is_number(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type] # checked in front of it


def _is_bytes(value: object) -> bool:
    return isinstance(value, str) and all(ord(character) < 256 for character in value)


_PRIMITIVES: dict[str, Callable[[object], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "int": lambda value: _is_whole(value, _INT),
    "long": lambda value: _is_whole(value, _LONG),
    "float": _is_number,
    "double": _is_number,
    "string": lambda value: isinstance(value, str),
    "bytes": _is_bytes,
}


class AvroSchema:
    """One revision of an Avro schema.

    Args:
        definition: The schema as JSON text.

    Raises:
        InvalidArgumentError: The text is not a schema.
    """

    def __init__(self, definition: str) -> None:
        self.names: dict[str, Avro] = {}
        try:
            self.root: Avro = fastavro.parse_schema(
                json.loads(definition), named_schemas=self.names
            )
        except Exception as error:  # fastavro fails in its own words and in Python's
            raise InvalidArgumentError(
                f"definition: not an Avro schema: {type(error).__name__}: {error}."
            ) from error
        if _kind(self.root) != "record":
            raise InvalidArgumentError("definition: the top of an Avro schema must be a record.")

    def check_json(self, data: bytes) -> None:
        """Refuse what is not one value in Avro's JSON encoding."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InvalidArgumentError(f"message: not JSON: {error}.") from error
        self._check(self.root, value, "message")

    def check_binary(self, data: bytes) -> None:
        """Refuse what is not one value in Avro's binary encoding, with nothing after it."""
        stream = io.BytesIO(data)
        try:
            fastavro.schemaless_reader(stream, self.root, None)
        except Exception as error:  # fastavro fails in its own words and in Python's
            raise InvalidArgumentError(
                f"message: not Avro of this schema: {type(error).__name__}: {error}."
            ) from error
        if stream.tell() != len(data):
            raise InvalidArgumentError(
                f"message: {len(data) - stream.tell()} bytes are left after the Avro value."
            )

    def check_follows(self, earlier: "AvroSchema") -> None:
        """Refuse to follow a revision unless each can read what the other has written."""
        for writer, reader in ((earlier, self), (self, earlier)):
            reason = _Resolution(writer.names, reader.names).problem(writer.root, reader.root)
            if reason:
                raise InvalidArgumentError(
                    f"definition: incompatible with an earlier revision: {reason}."
                )

    def _check(self, schema: Avro, value: object, path: str) -> None:
        schema = self.names.get(schema, schema) if isinstance(schema, str) else schema
        kind = _kind(schema)
        match kind:
            case "union":
                self._check_union(schema, value, path)
            case "record" | "error":
                self._check_record(schema, value, path)
            case "array":
                for index, item in enumerate(_expect(list, value, path)):
                    self._check(schema["items"], item, f"{path}[{index}]")
            case "map":
                for key, item in _expect(dict, value, path).items():
                    self._check(schema["values"], item, f"{path}.{key}")
            case "enum":
                _require(value in schema["symbols"], path, value, f"one of {schema['symbols']}")
            case "fixed":
                good = _is_bytes(value) and len(str(value)) == schema["size"]
                _require(good, path, value, f"{schema['size']} bytes")
            case _:
                _require(_PRIMITIVES[kind](value), path, value, kind)

    def _check_union(self, branches: list[Avro], value: object, path: str) -> None:
        if value is None:
            _require("null" in map(_kind, branches), path, value, "a branch of the union")
            return
        tagged = _expect(dict, value, path)
        _require(len(tagged) == 1, path, value, 'one branch of the union, as {"type": value}')
        ((tag, inner),) = tagged.items()
        branch = next((b for b in branches if tag == _full_name(b) != "null"), None)
        _require(branch is not None, path, tag, f"one of {[_full_name(b) for b in branches]}")
        self._check(branch, inner, path)

    def _check_record(self, schema: Avro, value: object, path: str) -> None:
        fields = {field["name"]: field for field in schema["fields"]}
        given = _expect(dict, value, path)
        for name in given:
            _require(name in fields, path, name, f"one of the fields {sorted(fields)}")
        for name, field in fields.items():
            _require(name in given, f"{path}.{name}", None, "a value")
            self._check(field["type"], given[name], f"{path}.{name}")


def _expect(kind: type, value: object, path: str) -> Any:  # noqa: ANN401 - of the kind asked for
    _require(isinstance(value, kind), path, value, "an object" if kind is dict else "a list")
    return value


def _require(good: bool, path: str, value: object, expected: str) -> None:
    if not good:
        raise InvalidArgumentError(f"{path}: {str(value)[:100]!r} is not {expected}.")


def _kind(schema: Avro) -> str:
    match schema:
        case list():
            return "union"
        case dict():
            return _kind(schema["type"])
        case _:
            return str(schema)


def _full_name(schema: Avro) -> str:
    if isinstance(schema, dict):
        return str(schema["name"]) if "name" in schema else _kind(schema)
    return str(schema)


class _Resolution:
    """Whether data of a writer's schema can be read by a reader's."""

    def __init__(self, writer_names: Mapping[str, Avro], reader_names: Mapping[str, Avro]) -> None:
        self._writer_names = writer_names
        self._reader_names = reader_names
        self._seen: set[tuple[str, str]] = set()

    def problem(self, writer: Avro, reader: Avro) -> str:
        """Give why not, or nothing."""
        writer = self._writer_names.get(writer, writer) if isinstance(writer, str) else writer
        reader = self._reader_names.get(reader, reader) if isinstance(reader, str) else reader
        if _kind(writer) == "union":
            return next(filter(None, (self.problem(branch, reader) for branch in writer)), "")
        if _kind(reader) == "union":
            fits = any(not self.problem(writer, branch) for branch in reader)
            return "" if fits else f"{_full_name(writer)} is in no branch of a union"
        if _kind(writer) != _kind(reader):
            promoted = _kind(reader) in _PROMOTIONS.get(_kind(writer), ())
            return "" if promoted else f"{_kind(writer)} can't be read as {_kind(reader)}"
        return self._of_a_kind(writer, reader)

    def _of_a_kind(self, writer: Avro, reader: Avro) -> str:
        reason = ""
        match _kind(writer):
            case "record":
                reason = self._records(writer, reader)
            case "array":
                reason = self.problem(writer["items"], reader["items"])
            case "map":
                reason = self.problem(writer["values"], reader["values"])
            case "enum" if "default" not in reader:
                missing = sorted(set(writer["symbols"]) - set(reader["symbols"]))
                reason = f"symbols {missing} are not in both" if missing else ""
            case "fixed" if writer["size"] != reader["size"]:
                reason = f"{_full_name(writer)} has another size"
        return reason

    def _records(self, writer: Avro, reader: Avro) -> str:
        pair = (_full_name(writer), _full_name(reader))
        if pair in self._seen:
            return ""
        self._seen.add(pair)
        if pair[0].rpartition(".")[2] != pair[1].rpartition(".")[2]:
            return f"record {pair[0]} is called {pair[1]}"
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            name = field["name"]
            if name in written:
                reason = self.problem(written[name]["type"], field["type"])
                if reason:
                    return f"field {name}: {reason}"
            elif "default" not in field:
                return f"field {name} is not in both and has no default"
        return ""
