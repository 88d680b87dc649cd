"""Read the text of a .proto file into a `FileDescriptorProto`, without protoc.

Source: protobuf language specification, proto2 and proto3. Served is what a schema of Pub/Sub can
hold: messages, enums, fields, maps, oneofs. Options are read over, but for `default`,
`json_name` and `packed`. Services, groups, extensions and editions are refused.
"""

import re
from ast import literal_eval
from typing import NamedTuple, NoReturn

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from embedded_pubsub.errors import InvalidArgumentError

_TOKEN = re.compile(
    r"""(?:\s|//[^\n]*|/\*.*?\*/)*(?:
        (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
      | (?P<word>\.?[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
      | (?P<symbol>[{}\[\]()<>=;:,+-])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_SCALARS = {
    name: FieldDescriptorProto.Type.Value(f"TYPE_{name.upper()}")
    for name in (
        "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32",
        "fixed64", "sfixed32", "sfixed64", "bool", "string", "bytes",
    )
}  # fmt: skip
_LABELS = {
    name: FieldDescriptorProto.Label.Value(f"LABEL_{name.upper()}")
    for name in ("optional", "required", "repeated")
}
_OPENING = {"{": "}", "[": "]"}
_NOT_SERVED = frozenset({"service", "extend", "extensions", "group", "edition"})
MAX_DEPTH = 32


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def parse_proto(text: str) -> FileDescriptorProto:
    """Read a .proto file.

    Args:
        text: Its text.

    Returns:
        The file, its types not yet resolved.

    Raises:
        InvalidArgumentError: The text is not a .proto file, or holds what is not served.
    """
    return _Parser(_tokens(text)).file()


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, position)
        line = text.count("\n", 0, match.end() if match else position) + 1
        if match is None:
            raise InvalidArgumentError(f"definition: line {line}: not of the proto language.")
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match.group(kind), line))
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent over the tokens of one file."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        self._file = FileDescriptorProto(syntax="proto2")

    def file(self) -> FileDescriptorProto:
        while self._peek().kind != "end":
            token = self._take()
            match token.text:
                case "syntax":
                    self._syntax()
                case "package":
                    self._file.package = self._word()
                    self._expect(";")
                case "import":
                    self._import()
                case "message":
                    self._message(self._file.message_type.add())
                case "enum":
                    self._enum(self._file.enum_type.add())
                case "option":
                    self._skip_statement()
                case ";":
                    pass
                case _:
                    self._refuse(token, "message, enum, package, import or option")
        return self._file

    def _syntax(self) -> None:
        self._expect("=")
        token = self._take()
        self._file.syntax = token.text[1:-1]
        if self._file.syntax not in {"proto2", "proto3"}:
            self._refuse(token, '"proto2" or "proto3"')
        self._expect(";")

    def _import(self) -> None:
        if self._peek().text in {"public", "weak"}:
            self._take()
        token = self._take()
        name = token.text[1:-1]
        if not re.fullmatch(r"google/protobuf/[a-z_]+\.proto", name):
            self._refuse(token, "google/protobuf/..., all that a schema can import")
        self._file.dependency.append(name)
        self._expect(";")

    def _message(self, message: DescriptorProto) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(self._peek(), f"at most {MAX_DEPTH} messages inside each other")
        message.name = self._word()
        self._expect("{")
        while (token := self._take()).text != "}":
            self._member(message, token)
        self._depth -= 1
        for field in message.field:
            if field.proto3_optional:
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field.name}")

    def _member(self, message: DescriptorProto, token: _Token) -> None:
        match token.text:
            case "message":
                self._message(message.nested_type.add())
            case "enum":
                self._enum(message.enum_type.add())
            case "oneof":
                self._oneof(message)
            case "option" | "reserved":
                self._skip_statement()
            case ";":
                pass
            case "map" if self._peek().text == "<":
                self._map(message)
            case label if label in _LABELS:
                field = self._field(message, self._take(), _LABELS[label])
                field.proto3_optional = label == "optional" and self._file.syntax == "proto3"
            case _:
                self._field(message, token, _LABELS["optional"])

    def _field(self, message: DescriptorProto, kind: _Token, label: int) -> FieldDescriptorProto:
        if kind.kind != "word" or kind.text in _NOT_SERVED:
            self._refuse(kind, "a field")
        field = message.field.add(name=self._word(), label=label)
        if kind.text in _SCALARS:
            field.type = _SCALARS[kind.text]
        else:
            field.type_name = kind.text
        self._number(field)
        return field

    def _number(self, field: FieldDescriptorProto) -> None:
        self._expect("=")
        field.number = self._integer(1, 2**29 - 1)
        if self._peek().text == "[":
            self._field_options(field)
        self._expect(";")

    def _field_options(self, field: FieldDescriptorProto) -> None:
        self._expect("[")
        while True:
            name = "".join(iter(lambda: self._take_until("="), ""))
            negative = self._peek().text == "-" and bool(self._take())
            value = self._take()
            if value.text == "{":
                self._skip_to("}")
            text = self._string(value) if value.kind == "string" else value.text
            match name:
                case "default":
                    field.default_value = "-" * negative + text
                case "json_name":
                    field.json_name = text
                case "packed":
                    field.options.packed = text == "true"
            if self._expect(",", "]") == "]":
                return

    def _take_until(self, stop: str) -> str:
        token = self._take()
        if token.kind == "end":
            self._refuse(token, stop)
        return "" if token.text == stop else token.text

    def _oneof(self, message: DescriptorProto) -> None:
        index = len(message.oneof_decl)
        message.oneof_decl.add(name=self._word())
        self._expect("{")
        while (token := self._take()).text != "}":
            if token.text == "option":
                self._skip_statement()
            elif token.text != ";":
                self._field(message, token, _LABELS["optional"]).oneof_index = index

    def _map(self, message: DescriptorProto) -> None:
        self._expect("<")
        key = self._take()
        self._expect(",")
        value = self._take()
        self._expect(">")
        name = self._word()
        entry_name = "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        for number, (part, kind) in enumerate((("key", key), ("value", value)), start=1):
            field = entry.field.add(name=part, number=number, label=_LABELS["optional"])
            if kind.text in _SCALARS:
                field.type = _SCALARS[kind.text]
            else:
                field.type_name = kind.text
        repeated = _LABELS["repeated"]
        self._number(message.field.add(name=name, label=repeated, type_name=entry_name))

    def _enum(self, enum: EnumDescriptorProto) -> None:
        enum.name = self._word()
        self._expect("{")
        while (token := self._take()).text != "}":
            if token.text == "option" and self._peek().text == "allow_alias":
                self._take()
                self._expect("=")
                enum.options.allow_alias = self._take().text == "true"
                self._expect(";")
            elif token.text in {"option", "reserved"}:
                self._skip_statement()
            elif token.text != ";":
                self._enum_value(enum, token)

    def _enum_value(self, enum: EnumDescriptorProto, name: _Token) -> None:
        if name.kind != "word":
            self._refuse(name, "a name")
        self._expect("=")
        sign = -1 if self._peek().text == "-" and self._take() else 1
        enum.value.add(name=name.text, number=sign * self._integer(0, 2**31 - (sign > 0)))
        self._skip_statement()

    def _skip_statement(self) -> None:
        self._skip_to(";")

    def _skip_to(self, stop: str) -> None:
        while (token := self._take()).text != stop:
            if token.kind == "end":
                self._refuse(token, stop)
            if token.text in _OPENING:
                self._skip_to(_OPENING[token.text])

    def _integer(self, low: int, high: int) -> int:
        token = self._take()
        digits = token.text if token.kind == "number" else ""
        if not re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}", digits):
            self._refuse(token, "a whole number")
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
        if octal and not re.fullmatch("[0-7]+", digits):
            self._refuse(token, "a whole number")
        value = int(digits, 8) if octal else int(digits, 0)
        if not low <= value <= high:
            self._refuse(token, f"a number from {low} to {high}")
        return value

    def _string(self, token: _Token) -> str:
        try:
            return str(literal_eval(token.text))
        except (SyntaxError, ValueError):
            self._refuse(token, "a string with known escapes")

    def _word(self) -> str:
        token = self._take()
        if token.kind != "word":
            self._refuse(token, "a name")
        return token.text

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _expect(self, *texts: str) -> str:
        token = self._take()
        if token.text not in texts or token.kind != "symbol":
            self._refuse(token, " or ".join(texts))
        return token.text

    @staticmethod
    def _refuse(token: _Token, expected: str) -> NoReturn:
        found = "the end" if token.kind == "end" else repr(token.text)
        raise InvalidArgumentError(
            f"definition: line {token.line}: expected {expected}, found {found}."
        )
