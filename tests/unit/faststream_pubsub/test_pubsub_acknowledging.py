"""The answers of an exactly-once subscription, as the service gives them."""

import asyncio
import math
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyProto
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from faststream_pubsub import AcknowledgeError
from faststream_pubsub.acknowledging import Acknowledger, failed_ack_ids
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.wire import PubsubMessage


def refusal(code=grpc.StatusCode.FAILED_PRECONDITION, **reasons):
    detail = AnyProto()
    detail.Pack(ErrorInfo(reason="PARTIAL", metadata=reasons))
    status = Status(code=9, details=[detail] if reasons else [])
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    return grpc.aio.AioRpcError(code, (), metadata, details="no")


def delivery(ack_id, *, lease_until=math.inf):
    made = Delivery(
        PubsubMessage(message_id=f"m-{ack_id}"),
        ack_id=ack_id,
        attempt=0,
        subscription="projects/p/subscriptions/s",
        settler=None,
    )
    made.lease_until = lease_until
    return made


class Answers:
    """An RPC that gives prepared answers, one per call."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def __call__(self, request, **_):
        self.asked.append(sorted(request.ack_ids))
        if isinstance(answer := self.answers.pop(0), Exception):
            raise answer
        return answer


class Told:
    def __init__(self, *, acks=(), deadlines=()):
        self.acks, self.deadlines = Answers(*acks), Answers(*deadlines)
        self.lost, self.errors, self.late = [], [], []
        rpcs = SimpleNamespace(acknowledge=self.acks, modify_ack_deadline=self.deadlines)
        self.acknowledger = Acknowledger(
            SimpleNamespace(rpcs=rpcs),
            "projects/p/subscriptions/s",
            on_lost=self.lost.extend,
            on_error=lambda text, error: self.errors.append((text, error)),
            on_late=self.late.append,
        )


def test_failed_ids_are_read_from_the_details():
    reasons = {"a": "PERMANENT_FAILURE_INVALID_ACK_ID", "b": "TRANSIENT_FAILURE_INVALID_ACK_ID"}
    assert failed_ack_ids(refusal(**reasons)) == reasons
    assert failed_ack_ids(refusal()) == {}


async def test_confirmed_ack_returns():
    told = Told(acks=[None])
    await told.acknowledger.ack_confirmed(delivery("a"))
    assert told.acks.asked == [["a"]]


async def test_permanent_failure_of_one_does_not_touch_the_others():
    told = Told(acks=[refusal(a="PERMANENT_FAILURE_INVALID_ACK_ID")])
    told.acknowledger.ack(delivery("b"))
    with pytest.raises(AcknowledgeError, match=r"m-a.*PERMANENT_FAILURE") as caught:
        await told.acknowledger.ack_confirmed(delivery("a"))
    assert caught.value.message_id == "m-a"
    assert told.acks.asked == [["a", "b"]]
    assert told.errors == []


async def test_transient_failure_is_sent_again():
    told = Told(acks=[refusal(a="TRANSIENT_FAILURE_INVALID_ACK_ID"), None])
    await told.acknowledger.ack_confirmed(delivery("a"))
    assert told.acks.asked == [["a"], ["a"]]


async def test_refused_request_fails_all_and_is_reported():
    told = Told(acks=[refusal(grpc.StatusCode.PERMISSION_DENIED)])
    with pytest.raises(AcknowledgeError, match="PERMISSION_DENIED"):
        await told.acknowledger.ack_confirmed(delivery("a"))
    assert [text for text, _ in told.errors] == ["1 messages could not be acknowledged"]


async def test_unavailable_service_is_asked_again():
    told = Told(acks=[refusal(grpc.StatusCode.UNAVAILABLE), None])
    await told.acknowledger.ack_confirmed(delivery("a"))
    assert told.acks.asked == [["a"], ["a"]]


async def test_lease_that_the_service_has_given_up_is_told():
    told = Told(deadlines=[refusal(a="PERMANENT_FAILURE_INVALID_ACK_ID")])
    lost, kept = delivery("a"), delivery("b")
    told.acknowledger.set_deadline([lost, kept], 30)
    await told.acknowledger.close(5)
    assert told.lost == [lost]


async def test_deadlines_of_one_length_share_a_request():
    told = Told(deadlines=[None, None])
    told.acknowledger.set_deadline([delivery("a"), delivery("b")], 30)
    told.acknowledger.set_deadline([delivery("c")], 0)
    await told.acknowledger.close(5)
    assert told.deadlines.asked == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("code", "is_due"),
    [(grpc.StatusCode.UNAVAILABLE, True), (grpc.StatusCode.PERMISSION_DENIED, False)],
)
async def test_lease_that_could_not_be_extended_is_due_at_once(monkeypatch, code, is_due):
    monkeypatch.setattr("faststream_pubsub.acknowledging.EXTENSION_PATIENCE_SECONDS", -1)
    told = Told(deadlines=[refusal(code)])
    held = delivery("a")
    held.extend_at = 100.0
    told.acknowledger.set_deadline([held], 30)
    await told.acknowledger.close(5)
    assert (held.extend_at == 0.0) is is_due
    assert [text for text, _ in told.errors] == ["1 leases could not be set to 30 s"]


async def test_ack_after_the_end_of_its_lease_is_told_once():
    now = asyncio.get_running_loop().time()
    late, in_time = delivery("a", lease_until=now - 1), delivery("b", lease_until=now + 5)
    told = Told(acks=[refusal(a="TRANSIENT_FAILURE_INVALID_ACK_ID"), None])
    told.acknowledger.ack_all([late, in_time])
    await told.acknowledger.close(5)
    assert told.acks.asked == [["a", "b"], ["a"]]
    assert told.late == [[late]]


async def test_nobody_waits_for_ever_for_a_call_that_broke():
    told = Told(acks=[RuntimeError("odd")], deadlines=[RuntimeError("odd"), None])
    with pytest.raises(AcknowledgeError, match="odd"):
        await asyncio.wait_for(told.acknowledger.ack_confirmed(delivery("a")), timeout=5)
    told.acknowledger.set_deadline([delivery("a")], 30)
    told.acknowledger.set_deadline([delivery("b")], 60)
    await told.acknowledger.close(5)
    assert told.deadlines.asked == [["a"], ["b"]]
    assert [text for text, _ in told.errors] == [
        "1 messages could not be acknowledged",
        "1 leases could not be set to 30 s",
    ]


async def test_acks_that_a_dead_server_does_not_take_are_told():
    told = Told(acks=[refusal(grpc.StatusCode.UNAVAILABLE)] * 100)
    waiting = asyncio.create_task(told.acknowledger.ack_confirmed(delivery("a")))
    await asyncio.sleep(0.01)
    await told.acknowledger.close(0.05)
    with pytest.raises(AcknowledgeError, match="stopped"):
        await waiting
    ((text, error),) = told.errors
    assert "delivered again" in text
    assert error is None
