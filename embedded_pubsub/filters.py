r"""The subscription filter language (Cloud Pub/Sub documentation, "Filter messages").

```
expression = term { "AND" term } | term { "OR" term }
term       = ( "NOT" | "-" ) term | "(" expression ")" | comparison
comparison = "attributes" ":" key
           | "attributes" "." key ( "=" | "!=" ) string
           | "hasPrefix" "(" "attributes" "." key "," string ")"
key        = word | string
```

AND and OR side by side need parentheses; operators are upper case; keys and values are
case-sensitive. A string is quoted with `"` and knows the escapes `\" \\ \n \r \t`, octal,
`\xHH`, `\uHHHH` and `\UHHHHHHHH`.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from embedded_pubsub.errors import InvalidArgumentError

Predicate = Callable[[Mapping[str, str]], bool]

MAX_FILTER_BYTES = 256

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<word>[A-Za-z0-9_][A-Za-z0-9_-]*)
      | (?P<symbol>!=|[=:.,()-])
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{1,3})|(.))"
)
_SIMPLE_ESCAPES = {
    '"': '"', "'": "'", "\\": "\\", "?": "?", "/": "/", "a": "\a", "b": "\b",
    "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
}  # fmt: skip
_RESERVED = frozenset({"AND", "OR", "NOT"})


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def compile_filter(text: str) -> Predicate:
    """Turn a filter into a test of a message's attributes.

    Args:
        text: The expression; empty means that every message matches.

    Returns:
        A function of the attributes.

    Raises:
        InvalidArgumentError: The expression is longer than 256 bytes or not of the language.
    """
    if not text:
        return _match_all
    if len(text.encode()) > MAX_FILTER_BYTES:
        raise InvalidArgumentError(
            f"filter: {len(text.encode())} bytes, at most {MAX_FILTER_BYTES} are allowed."
        )
    return _Parser(text).parse()


def _match_all(_: Mapping[str, str]) -> bool:
    return True


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._tokenize()
        self._next = 0

    def parse(self) -> Predicate:
        predicate = self._expression()
        if self._peek().kind != "end":
            raise self._refusal(self._peek(), "AND, OR or the end")
        return predicate

    def _tokenize(self) -> list[_Token]:
        text = self._text.rstrip()
        tokens: list[_Token] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._refusal(_Token("unknown", text[position:], position), "an expression")
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match.group(kind), match.start(kind)))
            position = match.end()
        return [*tokens, _Token("end", "", len(text))]

    def _expression(self) -> Predicate:
        terms = [self._term()]
        operator = self._peek().text
        while self._peek().kind == "word" and self._peek().text in {"AND", "OR"}:
            if self._peek().text != operator:
                raise self._refusal(
                    self._peek(), f"{operator} or parentheses, which AND with OR need"
                )
            self._take()
            terms.append(self._term())
        if len(terms) == 1:
            return terms[0]
        join = all if operator == "AND" else any
        return lambda attributes: join(term(attributes) for term in terms)

    def _term(self) -> Predicate:
        token = self._take()
        match token.kind, token.text:
            case ("word", "NOT") | ("symbol", "-"):
                term = self._term()
                return lambda attributes: not term(attributes)
            case ("symbol", "("):
                inner = self._expression()
                self._expect(")")
                return inner
            case ("word", "hasPrefix"):
                return self._has_prefix()
            case ("word", "attributes"):
                return self._comparison()
        raise self._refusal(token, "attributes, hasPrefix, NOT or (")

    def _has_prefix(self) -> Predicate:
        self._expect("(")
        self._expect("attributes")
        self._expect(".")
        key = self._key()
        self._expect(",")
        prefix = self._string()
        self._expect(")")
        return lambda attributes: key in attributes and attributes[key].startswith(prefix)

    def _comparison(self) -> Predicate:
        accessor = self._take()
        if accessor.text == ":" and accessor.kind == "symbol":
            key = self._key()
            return lambda attributes: key in attributes
        if accessor.text != "." or accessor.kind != "symbol":
            raise self._refusal(accessor, "a colon or a period")
        key = self._key()
        operator = self._take()
        if operator.kind != "symbol" or operator.text not in {"=", "!="}:
            raise self._refusal(operator, "= or !=")
        value = self._string()
        if operator.text == "=":
            return lambda attributes: attributes.get(key) == value
        return lambda attributes: key in attributes and attributes[key] != value

    def _key(self) -> str:
        token = self._take()
        if token.kind == "string":
            return self._unquote(token)
        if token.kind != "word" or token.text in _RESERVED:
            raise self._refusal(token, "an attribute key")
        return token.text

    def _string(self) -> str:
        token = self._take()
        if token.kind != "string":
            raise self._refusal(token, 'a string in double quotes (")')
        return self._unquote(token)

    def _unquote(self, token: _Token) -> str:
        def character(match: re.Match[str]) -> str:
            *hexadecimal, octal, simple = match.groups()
            digits = next((group for group in hexadecimal if group), None)
            if digits is None and octal is None and simple not in _SIMPLE_ESCAPES:
                raise self._refusal(token, "a string with known escapes")
            if simple:
                return _SIMPLE_ESCAPES[simple]
            code = int(digits, 16) if digits else int(octal, 8)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                raise self._refusal(token, "a string of Unicode characters")
            return chr(code)

        return _ESCAPE.sub(character, token.text[1:-1])

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _expect(self, text: str) -> None:
        token = self._take()
        if token.text != text or token.kind == "string":
            raise self._refusal(token, text)

    def _refusal(self, token: _Token, expected: str) -> InvalidArgumentError:
        found = "the end" if token.kind == "end" else repr(token.text)
        return InvalidArgumentError(
            f"filter: expected {expected}, found {found} at offset {token.position} of "
            f"{self._text!r}."
        )
