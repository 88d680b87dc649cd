"""Bad input goes to its dead-letter topic with the reason; no worker dies of it."""

import json

import pytest
from google.pubsub_v1 import PublisherClient

from tests.support.programs import until

TOPIC, SUBSCRIPTION = "shard-requested", "shards.shard-requested"
BODY = {
    "iteration": 4,
    "shard_index": 0,
    "first_talk": 0,
    "end_talk": 1,
    "corpus": {"personas": 1, "sessions": 1, "turns": 1},
    "families": [{"family": "f", "items": ["one", "two"]}],
    "evaluator": {"kind": "simulator", "seed": 1},
}
ATTRIBUTES = {
    "ce-specversion": "1.0",
    "ce-id": "bad-1",
    "ce-source": "/test",
    "ce-type": "nexus.shard.requested.v1",
    "ce-time": "2026-11-21T03:00:00Z",
    "content-type": "application/json",
}


def without(name):
    return {key: value for key, value in ATTRIBUTES.items() if key != name}


BAD = {
    "not JSON": (b"\x00 no json {", ATTRIBUTES, "data"),
    "unknown type": (None, ATTRIBUTES | {"ce-type": "nexus.shard.eaten.v1"}, "unknown type"),
    "unknown version": (
        None, ATTRIBUTES | {"ce-type": "nexus.shard.requested.v9"}, "unknown version",
    ),
    "missing attribute": (None, without("ce-id"), "ce-id"),
    "out of range": (
        json.dumps(BODY | {"shard_index": -1}).encode(), ATTRIBUTES, "shard_index='-1'",
    ),
    "unknown field": (json.dumps(BODY | {"colour": "red"}).encode(), ATTRIBUTES, "colour"),
    "bad time": (None, ATTRIBUTES | {"ce-time": "yesterday"}, "ce-time"),
}  # fmt: skip


@pytest.fixture(params=["nexus", "google"])
def there(request, project):
    if request.param == "google":
        found = {"PUBSUB_EMULATOR_HOST": request.getfixturevalue("google_target")}
    else:
        found = request.getfixturevalue("bus")
    return found | {"GOOGLE_CLOUD_PROJECT": project}


@pytest.fixture
def publish(there, monkeypatch):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", there["PUBSUB_EMULATOR_HOST"])
    client = PublisherClient()

    def send(topic, data, attributes):
        name = f"projects/{there['GOOGLE_CLOUD_PROJECT']}/topics/{topic}"
        client.publish(
            request={"topic": name, "messages": [{"data": data, "attributes": attributes}]}
        )

    yield send
    client.transport.close()


def test_bad_messages_are_kept_with_their_reasons(nexus, there, publish, request):
    worker = nexus.start("serve", "--json", **there)
    worker.ready_document()
    for data, attributes, _ in BAD.values():
        publish(TOPIC, data or json.dumps(BODY).encode(), attributes)
    publish("audit-logs", b'{"insertId": ""}', {})

    def letters():
        told = nexus.run("dlq", "list", "--json", **there).succeeded().document["dead_letters"]
        return told if len(told) == len(BAD) + 1 else None

    first = until(letters, "all dead letters")
    assert {letter["subscription"] for letter in first} == {SUBSCRIPTION, "audit.audit-logs"}
    for data, attributes, reason in BAD.values():
        wanted = (data or json.dumps(BODY).encode()).decode(errors="replace")
        (letter,) = [
            one for one in first
            if one["data"] == wanted and attributes.items() <= one["attributes"].items()
            and len(set(one["attributes"]) & set(ATTRIBUTES)) == len(attributes)
        ]  # fmt: skip
        assert reason in letter["reason"]
        assert letter["attributes"]["dead-letter-reason"] == letter["reason"]
    assert any("insertId" in letter["reason"] for letter in first)

    def key(letter):
        return letter["message_id"]

    second = nexus.run("dlq", "list", "--json", **there).succeeded().document["dead_letters"]
    assert sorted(second, key=key) == sorted(first, key=key)
    shown = nexus.run("dlq", "list", **there).succeeded().out
    assert SUBSCRIPTION in shown

    assert worker.process.poll() is None
    assert "Traceback" not in worker.err
    if "google" in request.node.name:
        return  # what follows takes its time and is the same there
    nexus.run("start", "0", "--method", "mml", **there).succeeded()
    done = nexus.run("status", "0", "--watch", "--json").succeeded().document
    assert done["status"] == "completed"
    assert "Traceback" not in worker.err
