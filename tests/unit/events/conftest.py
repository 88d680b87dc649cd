"""Events of every type, drawn from their own models."""

import types
from datetime import UTC
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from events.catalogue import EVENTS
from events.model import Corpus, Family, Parameters

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,62}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


@st.composite
def families(draw):
    items = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    reverse = draw(st.lists(st.sampled_from(items), unique=True))
    return Family(family=draw(NAMES), items=tuple(items), reversed=tuple(reverse))


@st.composite
def parameters(draw):
    corpus = draw(of_model(Corpus))
    known = {name: of_field(field) for name, field in Parameters.model_fields.items()}
    known["corpus"] = st.just(corpus)
    known["shards"] = st.integers(1, min(corpus.talks, 100_000))
    known["families"] = st.lists(
        families(), min_size=1, max_size=3, unique_by=lambda family: family.family
    ).map(tuple)
    return Parameters(**draw(st.fixed_dictionaries(known)))


def of_model(model):
    if model is Family:
        return families()
    if model is Parameters:
        return parameters()
    fields = {name: of_field(field) for name, field in model.model_fields.items()}
    return st.fixed_dictionaries(fields).map(lambda values: model(**values))


def of_field(field: FieldInfo):
    return of_type(field.annotation, limits(field.metadata))


def limits(metadata):
    found = {}
    for entry in metadata:
        inner = entry.metadata if isinstance(entry, FieldInfo) else [entry]
        for limit in inner:
            for name in ("ge", "le", "lt", "min_length", "max_length", "pattern"):
                if getattr(limit, name, None) is not None:
                    found[name] = getattr(limit, name)
    return found


def of_type(kind, limit):  # noqa: PLR0911 - one line for each kind of type
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return of_type(args[0], limits(args[1:]))
    if origin is Literal:
        return st.sampled_from(args)
    if origin in {Union, types.UnionType}:
        return st.one_of(*(of_type(arg, limit) for arg in args))
    if origin is tuple:
        return st.lists(of_type(args[0], {}), min_size=limit.get("min_length", 0), max_size=3).map(
            tuple
        )
    if kind is AwareDatetime:
        return st.datetimes(timezones=st.just(UTC))
    if kind is type(None):
        return st.none()
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return of_model(kind)
    return _scalar(kind, limit)


def _scalar(kind, limit):
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(limit.get("ge"), limit.get("le"))
    if kind is float:
        high = limit.get("lt", limit.get("le"))
        return st.floats(
            limit.get("ge"), high, exclude_max="lt" in limit, allow_nan=False, allow_infinity=False
        )
    assert kind is str, f"no strategy for {kind}"
    if "pattern" in limit:
        return st.from_regex(limit["pattern"].rstrip("$"), fullmatch=True)
    return TEXTS.filter(lambda text: len(text) >= limit.get("min_length", 0))


@pytest.fixture(scope="session")
def of_event():
    """A strategy of any event of a type, by its model."""
    return {event: of_model(event) for event in EVENTS}
