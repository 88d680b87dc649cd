import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from events.catalogue import BY_TYPE, EVENTS, IterationFailed, ShardFailed, ShardMerged
from events.cloudevents import (
    REQUIRED_ATTRIBUTES,
    InvalidEventError,
    decode,
    derived_id,
    encode,
)

TIME = datetime(2026, 11, 21, 3, 4, 5, 123_456, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
MERGED = ShardMerged(iteration=3, shard_index=2, rows=60, digest=DIGEST)


def wire(event=MERGED, **changes):
    data, attributes = encode(event, id="id-1", source="/nexus/merge", time=TIME)
    return data, {**attributes, **changes}


def payload(**changes):
    return json.dumps({**json.loads(wire()[0]), **changes}).encode()


def refused(data, attributes, expected=ShardMerged):
    with pytest.raises(InvalidEventError) as caught:
        decode(data, attributes, expected)
    error = caught.value
    assert str(error) == f"{error.field}={error.value!r}: {error.reason}"
    return error


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_every_event_comes_back_as_it_was_sent(of_event, kind, data):
    event = data.draw(of_event[kind])
    offset = timezone(timedelta(minutes=data.draw(st.integers(-1439, 1439))))
    time = data.draw(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001
    body, attributes = encode(
        event, id="an-id", source="/here", time=time.replace(tzinfo=offset), traceparent="00-a-b-01"
    )
    assert all(isinstance(value, str) and value for value in attributes.values())
    envelope = decode(body, attributes, kind)
    assert envelope.event == event
    assert type(envelope.event) is kind
    assert envelope.time == time.replace(tzinfo=offset)
    assert (envelope.id, envelope.source, envelope.type) == ("an-id", "/here", kind.type)
    assert (envelope.subject, envelope.traceparent) == (event.subject, "00-a-b-01")


def test_the_wire_form_is_the_binary_mode_of_cloudevents():
    data, attributes = wire()
    assert attributes == {
        "ce-specversion": "1.0",
        "ce-id": "id-1",
        "ce-source": "/nexus/merge",
        "ce-type": "nexus.shard.merged.v1",
        "ce-subject": "smoke/3/shard/2",
        "ce-time": "2026-11-21T03:04:05.123456Z",
        "content-type": "application/json",
    }
    assert json.loads(data) == {
        "iteration": 3, "shard_index": 2, "rows": 60, "digest": DIGEST,
    }  # fmt: skip


@pytest.mark.parametrize("name", REQUIRED_ATTRIBUTES)
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_a_missing_attribute_is_named(name, how):
    data, attributes = wire()
    attributes.pop(name)
    if how == "empty":
        attributes[name] = ""
    error = refused(data, attributes)
    assert (error.field, error.value) == (name, "")
    assert "missing" in error.reason


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("ce-specversion", "0.3", "only '1.0' is read here"),
        ("ce-type", "nexus.shard.eaten.v1", "unknown type; 'nexus.shard.merged.v1' is read here"),
        ("ce-type", "nexus.shard.merged.v2", "unknown version; 'nexus.shard.merged.v1' is read"),
        ("ce-type", "nexus.shard.failed.v1", "travels on topic 'shard-failed'; here 'nexus.shard"),
        ("ce-type", "x", "unknown type"),
        ("ce-time", "yesterday", "not an RFC 3339 time"),
        ("ce-time", "2026-11-21T03:04:05", "the time zone is missing"),
        ("ce-time", "2026-13-21T03:04:05Z", "not an RFC 3339 time"),
        ("ce-time", "0001-01-01T00:00:00+23:59", "not between the years 1 and 9999"),
        ("content-type", "text/plain", "only 'application/json' is read here"),
    ],
)
def test_a_bad_attribute_is_named_with_its_value(attribute, value, reason):
    error = refused(*wire(**{attribute: value}))
    assert (error.field, error.value) == (attribute, value)
    assert reason in error.reason


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", None])
def test_a_content_type_may_have_parameters_or_be_absent(content_type):
    data, attributes = wire()
    attributes.pop("content-type")
    if content_type:
        attributes["content-type"] = content_type
    assert decode(data, attributes, ShardMerged).event == MERGED


@pytest.mark.parametrize(
    ("data", "field", "value", "reason"),
    [
        (b"", "data", "", "Invalid JSON"),
        (b"{not json", "data", "{not json", "Invalid JSON"),
        (b"\xff\xfe", "data", "\ufffd\ufffd", "Invalid JSON"),
        (b"[1]", "data", "[1]", "object"),
        (payload(rows=-1), "rows", "-1", "greater than or equal to 0"),
        (payload(iteration=1_000_000), "iteration", "1000000", "less than or equal to 999999"),
        (payload(rows="many"), "rows", "'many'", "valid integer"),
        (payload(digest="sha256:x"), "digest", "'sha256:x'", "match pattern"),
        (payload(colour="red"), "colour", "'red'", "Extra inputs are not permitted"),
        (b'{"iteration": 3}', "shard_index", "{'iteration': 3}", "Field required"),
    ],
)
def test_a_bad_payload_is_named_with_its_value(data, field, value, reason):
    error = refused(data, wire()[1])
    assert (error.field, error.value) == (field, value)
    assert reason in error.reason


def test_a_long_value_is_shown_by_its_start():
    error = refused(b"x" * 10_000, wire()[1])
    assert error.value == "x" * 100
    assert len(refused(payload(digest="d" * 10_000), wire()[1]).value) <= 200


@settings(max_examples=300)
@given(
    data=st.binary(max_size=60),
    attributes=st.dictionaries(
        st.sampled_from([*REQUIRED_ATTRIBUTES, "content-type", "traceparent"]),
        st.one_of(st.text(max_size=30), st.sampled_from(sorted(BY_TYPE)), st.just("1.0")),
    ),
)
def test_whatever_comes_is_an_event_or_invalid(data, attributes):
    for payload_bytes, with_attributes in ((data, attributes), (data, wire(**attributes)[1])):
        try:
            decode(payload_bytes, with_attributes, ShardMerged)
        except InvalidEventError as error:
            assert error.field  # noqa: PT017 - both ends are right
            assert error.reason  # noqa: PT017


@settings(max_examples=300)
@given(
    time=st.from_regex(
        r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](Z|[+-][0-2][0-9]:[0-5][0-9])",
        fullmatch=True,
    )
)
def test_whatever_time_comes_is_utc_or_invalid(time):
    try:
        envelope = decode(*wire(**{"ce-time": time}), ShardMerged)
    except InvalidEventError as error:
        assert error.field == "ce-time"  # noqa: PT017 - both ends are right
    else:
        assert envelope.time.tzinfo is UTC


# --- ids -----------------------------------------------------------------------------------


def test_derived_ids_stay_what_they_are():
    """Ids that are in use: a change would let the same event be handled twice."""
    assert derived_id("smoke/3/shard/2/merge", MERGED) == "682a2b4c-6f5b-557d-a149-f3d38a8b5d98"
    assert (
        derived_id("saga/iteration/smoke/3", IterationFailed(iteration=3, reason=""))
        == "27abbdba-9b8a-5e7d-8ea4-36951af1ceb3"
    )


def test_derived_ids_differ_by_cause_type_and_subject_only():
    failed = ShardFailed(iteration=3, shard_index=2, step="merge", reason="a")
    different = [
        derived_id("cause", MERGED),
        derived_id("another", MERGED),
        derived_id("cause", failed),
        derived_id("cause", MERGED.model_copy(update={"shard_index": 3})),
        derived_id("cause", MERGED.model_copy(update={"iteration": 13})),
    ]
    assert len(set(different)) == len(different)
    again = failed.model_copy(update={"reason": "b"})
    assert derived_id("cause", again) == derived_id("cause", failed)


# --- models --------------------------------------------------------------------------------


def test_topics_follow_from_types():
    assert [event.topic() for event in EVENTS] == [
        event.type.removeprefix("nexus.").removesuffix(".v1").replace(".", "-") for event in EVENTS
    ]
    assert ShardMerged.topic() == "shard-merged"
    assert len({event.topic() for event in EVENTS}) == len(EVENTS) == len(BY_TYPE)


@pytest.mark.parametrize("bad", ["shard.merged.v1", "nexus.shard.merged", "nexus.Shard.v1"])
def test_a_type_of_another_shape_has_no_topic(bad):
    class Odd(ShardMerged):
        type = bad

    with pytest.raises(ValueError, match=r"Odd\.type is"):
        Odd.topic()


def test_events_are_frozen_and_closed():
    with pytest.raises(ValidationError, match="frozen"):
        MERGED.rows = 61
    with pytest.raises(ValidationError, match="Extra inputs"):
        ShardMerged(**MERGED.model_dump(), colour="red")


@pytest.mark.parametrize(
    ("iteration", "namespace"), [(0, "smoke"), (9, "smoke"), (10, "production")]
)
def test_an_iteration_has_its_namespace_in_every_subject(iteration, namespace):
    event = IterationFailed(iteration=iteration, reason="")
    assert (event.namespace, event.subject) == (namespace, f"{namespace}/{iteration}")
    shard = MERGED.model_copy(update={"iteration": iteration})
    assert shard.subject == f"{namespace}/{iteration}/shard/2"
