"""Batches whose messages have something for themselves, and middlewares that replace bodies."""

import pytest
from faststream.exceptions import SetupError
from faststream.response.publish_type import PublishType

from faststream_pubsub import PubSubPublishCommand, PubSubResponse


def keyed(*pairs):
    messages = [PubSubResponse(body, ordering_key=key) for body, key in pairs]
    return PubSubPublishCommand(*messages, topic="t", _publish_type=PublishType.PUBLISH)


def keys(command):
    return [own.ordering_key for own in command.own]


@pytest.mark.parametrize(
    ("replace", "bodies", "expected"),
    [
        (reversed, ["b", "b", "a"], ["2", "3", "1"]),
        (lambda bodies: bodies[1:], ["b", "b"], ["2", "3"]),
        (dict.fromkeys, ["a", "b"], ["1", "2"]),
        (lambda bodies: [str.upper(one) for one in bodies], ["A", "B", "B"], ["1", "2", "3"]),
        (
            lambda bodies: [*bodies, PubSubResponse("c", ordering_key="4")],
            ["a", "b", "b", "c"],
            ["1", "2", "3", "4"],
        ),
        (
            lambda bodies: [PubSubResponse(one, ordering_key="x") for one in bodies[:1]],
            ["a"],
            ["x"],
        ),
    ],
)
def test_what_is_a_messages_own_follows_its_body(replace, bodies, expected):
    command = keyed(("a", "1"), ("b", "2"), ("b", "3"))
    command.batch_bodies = tuple(replace(command.batch_bodies))
    assert list(command.batch_bodies) == bodies
    assert keys(command) == expected


def test_other_bodies_in_another_number_must_say_what_is_their_own():
    command = keyed(("a", "1"), ("b", "2"))
    with pytest.raises(SetupError, match=r"1 messages of 2 .* PubSubResponse elements"):
        command.batch_bodies = ("a and b",)


def test_bodies_without_anything_of_their_own_are_replaced_by_any():
    command = PubSubPublishCommand("a", "b", topic="t", _publish_type=PublishType.PUBLISH)
    command.batch_bodies = ("a and b",)
    assert (command.batch_bodies, command.own) == (("a and b",), ())


def test_a_single_message_is_what_it_says_of_itself():
    message = PubSubResponse("a", ordering_key="k", attributes={"shop": "north"})
    command = PubSubPublishCommand(
        message, topic="t", headers={"shop": "south", "to": "x"}, _publish_type=PublishType.PUBLISH
    )
    assert (command.body, command.ordering_key) == ("a", "k")
    assert command.headers == {"shop": "north", "to": "x"}
