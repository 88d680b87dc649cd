"""Subscription filters: read at declaration, and applied in memory as the service applies them.

Source: https://cloud.google.com/pubsub/docs/subscription-message-filter.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from faststream.exceptions import SetupError

Attributes: TypeAlias = Mapping[str, str]
Matches: TypeAlias = Callable[[Attributes], bool]

MAX_FILTER_BYTES: Final = 256
_TOKEN: Final = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[A-Za-z_][\w-]*|!=|[=:.,()-])', re.ASCII)
_WORDS: Final = frozenset({"AND", "OR", "NOT"})


def compile_filter(text: str) -> Matches:
    """Turn a filter into a test of a message's attributes; an empty one lets everything through.

    Raises:
        SetupError: It is too long or malformed; the text says where.
    """
    if not text.strip():
        return lambda _: True
    if len(text.encode()) > MAX_FILTER_BYTES:
        raise SetupError(
            f"filter has {len(text.encode())} bytes; Pub/Sub allows {MAX_FILTER_BYTES}.",
        )
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._current = ""
        self._next()

    def read(self) -> Matches:
        matches = self._expression()
        if self._current:
            raise self._wrong("AND, OR or the end")
        return matches

    def _expression(self) -> Matches:
        terms = [self._term()]
        operator = self._current
        while self._current in {"AND", "OR"}:
            if self._current != operator:
                raise self._wrong("parentheses where AND meets OR")
            self._next()
            terms.append(self._term())
        if len(terms) == 1:
            return terms[0]
        join = all if operator == "AND" else any
        return lambda attributes: join(term(attributes) for term in terms)

    def _term(self) -> Matches:
        match self._current:
            case "NOT" | "-":
                self._next()
                term = self._term()
                return lambda attributes: not term(attributes)
            case "(":
                self._next()
                inner = self._expression()
                self._skip(")")
                return inner
            case "hasPrefix":
                return self._prefix()
        return self._comparison()

    def _prefix(self) -> Matches:
        for token in ("hasPrefix", "(", "attributes", "."):
            self._skip(token)
        key = self._key()
        self._skip(",")
        prefix = self._string()
        self._skip(")")
        return lambda attributes: key in attributes and attributes[key].startswith(prefix)

    def _comparison(self) -> Matches:
        self._skip("attributes")
        if self._current == ":":
            self._next()
            present = self._key()
            return lambda attributes: present in attributes
        self._skip(".")
        key = self._key()
        operator = self._current
        if operator not in {"=", "!="}:
            raise self._wrong("= or !=")
        self._next()
        value = self._string()
        if operator == "=":
            return lambda attributes: attributes.get(key) == value
        return lambda attributes: key in attributes and attributes[key] != value

    def _key(self) -> str:
        if self._current.startswith('"'):
            return self._string()
        if not re.match(r"\w", self._current) or self._current in _WORDS:
            raise self._wrong("an attribute's key")
        return self._next()

    def _string(self) -> str:
        if not self._current.startswith('"'):
            raise self._wrong('a "quoted" value')
        try:
            return str(json.loads(self._current))
        except ValueError as error:
            raise self._wrong("a string with known escapes") from error
        finally:
            self._next()

    def _skip(self, token: str) -> None:
        if self._current != token:
            raise self._wrong(token)
        self._next()

    def _next(self) -> str:
        """Go to the next token and return the one before; the last is empty."""
        before = self._current
        found = _TOKEN.match(self._text, self._at)
        if found is None and self._text[self._at :].strip():
            raise self._wrong("a word, a string or an operator")
        self._current = found[1] if found else ""
        self._at = found.end() if found else len(self._text)
        return before

    def _wrong(self, wanted: str) -> SetupError:
        start = self._at - len(self._current)
        return SetupError(
            f"filter {self._text!r}: {wanted} is needed at character {start + 1}; "
            "see https://cloud.google.com/pubsub/docs/subscription-message-filter.",
        )
