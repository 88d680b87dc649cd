"""Kills at random moments under load: what was answered holds, and nothing is half there.

`PUBSUB_KILL_ROUNDS` (3) kills follow each other on one folder, with the seed `PUBSUB_KILL_SEED`.
"""

import json
import os
import random
import threading
from itertools import count

import grpc
import pytest
from google.iam.v1 import iam_policy_pb2, policy_pb2

from embedded_pubsub import protos
from tests.support.pubsub_process import SUBSCRIPTION, TOPIC, Raw, process, ready

ROUNDS = int(os.environ.get("PUBSUB_KILL_ROUNDS", "3"))
SEED = int(os.environ.get("PUBSUB_KILL_SEED", "1"))
WITNESS = "projects/p/subscriptions/witness"
FIELDS = [{"name": f"f{n}", "type": "int", "default": 0} for n in range(2)]
DEFINITIONS = [
    json.dumps({"type": "record", "name": "R", "fields": FIELDS[:count]}) for count in range(3)
]


class History:
    """What was asked of the servers, and what of it was answered."""

    def __init__(self):
        self.published = set()
        self.asked_to_publish = set()
        self.acked = set()
        self.asked_to_ack = set()
        self.resources = {}
        self.unsure = set()
        self.numbers = count()
        self.answers = 0

    def change(self, name, value, *calls):
        """Make the calls that bring a resource to a value; it is unsure until all are answered."""
        self.unsure.add(name)
        for call, *arguments in calls:
            call(*arguments)
            self.answers += 1
        self.resources[name] = value
        self.unsure.discard(name)


def publish(call, history):
    bodies = [f"{next(history.numbers)}" for _ in range(5)]
    history.asked_to_publish.update(bodies)
    call.publish(*bodies)
    history.published.update(bodies)
    history.answers += 1


def consume(call, history):
    received = call.pull(7)
    bodies = {each.message.data.decode() for each in received}
    assert not bodies & history.acked
    history.asked_to_ack |= bodies
    if received:
        call.ack(received)
        history.acked |= bodies
        history.answers += 1


def administer(call, history):
    """Make a topic with a subscription, a policy, a schema and a snapshot, and delete old ones."""
    number = next(history.numbers)
    topic, subscription, snapshot, schema = (
        f"projects/p/{kind}/made-{number}"
        for kind in ("topics", "subscriptions", "snapshots", "schemas")
    )
    labels = {"number": str(number)}
    history.change(topic, labels, (call, "Publisher/CreateTopic",
                   protos.Topic(name=topic, labels=labels)))  # fmt: skip
    made = protos.Subscription(name=subscription, topic=topic, labels=labels)
    history.change(subscription, labels, (call, "Subscriber/CreateSubscription", made))
    request = protos.CreateSnapshotRequest(name=snapshot, subscription=WITNESS, labels=labels)
    history.change(snapshot, labels, (call, "Subscriber/CreateSnapshot", request))
    revisions = [protos.Schema(type_=protos.AVRO, definition=text) for text in DEFINITIONS]
    history.change(
        schema,
        len(revisions),
        (call, "SchemaService/CreateSchema", protos.CreateSchemaRequest(
            parent="projects/p", schema_id=f"made-{number}", schema=revisions[0])),
        *((call, "SchemaService/CommitSchema", protos.CommitSchemaRequest(
            name=schema, schema=each)) for each in revisions[1:]),
    )  # fmt: skip
    members = [f"user:{number}@example.com"]
    policy = policy_pb2.Policy(bindings=[policy_pb2.Binding(role="roles/viewer", members=members)])
    request = iam_policy_pb2.SetIamPolicyRequest(resource=topic, policy=policy)
    history.change(f"policy of {topic}", members, (call.iam, "SetIamPolicy", request))
    if number % 3 == 0:
        drop(call, history, topic, subscription, snapshot, schema)


def drop(call, history, topic, subscription, snapshot, schema):
    history.change(snapshot, None, (call, "Subscriber/DeleteSnapshot",
                   protos.DeleteSnapshotRequest(snapshot=snapshot)))  # fmt: skip
    history.change(subscription, None, (call, "Subscriber/DeleteSubscription",
                   protos.DeleteSubscriptionRequest(subscription=subscription)))  # fmt: skip
    history.change(schema, None, (call, "SchemaService/DeleteSchema",
                   protos.DeleteSchemaRequest(name=schema)))  # fmt: skip
    history.unsure.add(f"policy of {topic}")
    history.change(topic, None, (call, "Publisher/DeleteTopic",
                   protos.DeleteTopicRequest(topic=topic)))  # fmt: skip


def under_load(target, history, failures):
    """Start the load; each thread ends when the server is gone."""

    def run(work):
        with Raw(target, patient=False) as call:
            try:
                while True:
                    work(call, history)
            except grpc.RpcError as error:
                if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                    failures.append(error)
            except AssertionError as error:
                failures.append(error)

    works = [publish, publish, consume, administer]
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    return threads


def found(call, name):
    """Give what a resource is now, in the terms of the history; None where it is not."""
    p = protos
    try:
        match name.split("/")[-2]:
            case "topics" if name.startswith("policy of "):
                request = iam_policy_pb2.GetIamPolicyRequest(
                    resource=name.removeprefix("policy of ")
                )
                bindings = call.iam("GetIamPolicy", request).bindings
                return [member for binding in bindings for member in binding.members]
            case "topics":
                request = p.GetTopicRequest(topic=name)
                return dict(call("Publisher/GetTopic", request, p.Topic).labels)
            case "subscriptions":
                request = p.GetSubscriptionRequest(subscription=name)
                return dict(call("Subscriber/GetSubscription", request, p.Subscription).labels)
            case "snapshots":
                request = p.GetSnapshotRequest(snapshot=name)
                return dict(call("Subscriber/GetSnapshot", request, p.Snapshot).labels)
            case _:
                request = p.ListSchemaRevisionsRequest(name=name)
                method = "SchemaService/ListSchemaRevisions"
                return len(call(method, request, p.ListSchemaRevisionsResponse).schemas)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return None


def all_of(call, subscription):
    bodies = []
    while received := call.pull(1000, subscription):
        bodies += [each.message.data.decode() for each in received]
    return bodies


def check(call, history):
    witnessed = all_of(call, WITNESS)
    assert len(witnessed) == len(set(witnessed))
    assert history.published <= set(witnessed) <= history.asked_to_publish
    left = all_of(call, SUBSCRIPTION)
    assert len(left) == len(set(left))
    assert not history.acked & set(left)
    assert set(witnessed) - history.asked_to_ack <= set(left)
    for name, value in history.resources.items():
        if name not in history.unsure:
            assert (name, found(call, name)) == (name, value)
    for name in sorted(history.unsure - set(history.resources)):
        found(call, name)


@pytest.mark.parametrize("fsync", [True, False])
def test_kills_under_load_lose_nothing_that_was_answered(tmp_path, fsync):
    rng, history = random.Random(SEED), History()
    arguments = ["--data-dir", tmp_path, *([] if fsync else ["--no-fsync"])]
    for number in range(ROUNDS):
        failures = []
        with process(*arguments) as child:
            target = ready(child)
            with Raw(target) as call:
                if number == 0:
                    call.create(enable_exactly_once_delivery=True)
                    witness = protos.Subscription(name=WITNESS, topic=TOPIC)
                    call("Subscriber/CreateSubscription", witness, protos.Subscription)
            history.answers = 0
            threads = under_load(target, history, failures)
            deadly = rng.randint(20, 300)
            while history.answers < deadly and any(thread.is_alive() for thread in threads):
                threads[0].join(0.001)
            child.kill()
            for thread in threads:
                thread.join(60)
        assert not failures
        with process(*arguments) as child, Raw(ready(child)) as call:
            check(call, history)
            child.kill()
