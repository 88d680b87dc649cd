import pytest
from faststream.exceptions import SetupError

from faststream_pubsub import FlowControlError, PublishFlow
from faststream_pubsub.flow import FlowGate, PublishBatching


def gate(begun=None, **limits):
    def begin(item):
        begun.append(item)
        return item != "gave up"

    return FlowGate(PublishFlow(**limits), begin)


def test_room_is_given_in_the_order_of_asking():
    begun = []
    flow = gate(begun, max_messages=1)
    assert flow.enter(1)
    for item in range(3):
        assert not flow.enter(1)
        flow.wait(1, item)
    for told in range(3):
        assert begun == list(range(told))
        flow.leave(1, 1)
    assert begun == [0, 1, 2]
    assert not flow.enter(1)
    flow.leave(1, 1)
    assert flow.enter(1)


def test_who_gives_up_waiting_takes_no_room():
    begun = []
    flow = gate(begun, max_messages=1)
    flow.enter(1)
    flow.wait(1, "gave up")
    flow.wait(1, "late")
    flow.leave(1, 1)
    assert begun == ["gave up", "late"]
    flow.leave(1, 1)
    assert flow.enter(1)


def test_what_waits_can_be_taken_back():
    begun = []
    flow = gate(begun, max_messages=1)
    flow.enter(1)
    flow.wait(1, "a")
    flow.wait(1, "b")
    assert flow.take_waiting() == ["a", "b"]
    flow.leave(1, 1)
    assert begun == []
    assert flow.enter(1)


def test_bytes_are_limited_but_a_big_message_goes_alone():
    flow = gate(max_bytes=10)
    assert flow.enter(50)
    assert not flow.enter(1)
    flow.leave(1, 50)
    assert flow.enter(6)
    assert not flow.enter(5)


def test_full_gate_raises_or_ignores():
    raising, ignoring = (gate(max_messages=1, when_full=w) for w in ("raise", "ignore"))
    assert raising.enter(7)
    with pytest.raises(FlowControlError, match=r"8 bytes.*max_messages=1,.*when_full='block'"):
        raising.enter(8)
    assert all(ignoring.enter(1) for _ in range(10))


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"max_messages": 0}, "max_messages=0"),
        ({"max_bytes": -1}, "max_bytes=-1"),
        ({"when_full": "drop"}, "'drop' is unknown.*'block', 'raise'"),
    ],
)
def test_wrong_limit_is_an_error(limits, told):
    with pytest.raises(SetupError, match=told):
        PublishFlow(**limits)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_messages": 1_001}, "max_messages=1001.*1 to 1000"),
        ({"max_bytes": 0}, "max_bytes=0.*1 to"),
        ({"max_latency_seconds": 61}, "max_latency_seconds=61.*0 to 60"),
    ],
)
def test_wrong_batching_is_an_error_at_declaration(settings, told):
    with pytest.raises(SetupError, match=rf"publish_batching\.{told}"):
        PublishBatching(**settings)
