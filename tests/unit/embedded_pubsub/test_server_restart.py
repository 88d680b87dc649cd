"""What schemas and policies are after a restart, and files of an earlier format."""

import sqlite3

import pytest
from google.iam.v1 import policy_pb2

from embedded_pubsub import protos
from embedded_pubsub.errors import FailedPreconditionError, NotFoundError
from embedded_pubsub.leases import Consumer
from embedded_pubsub.overview import overview
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.store import SqliteStore

SCHEMA = "projects/p/schemas/schema"
TOPIC = "projects/p/topics/topic"
FIRST = '{"type": "record", "name": "R", "fields": []}'
SECOND = '{"type": "record", "name": "R", "fields": [{"name": "x", "type": "int", "default": 0}]}'
POLICY = policy_pb2.Policy(bindings=[{"role": "roles/viewer", "members": ["allUsers"]}])


@pytest.fixture
def opened(tmp_path):
    async def run(*operations):
        runtime = Runtime(SqliteStore(tmp_path, fsync=False), lambda: 1e9)
        answers = [await runtime.call(lambda now, o=o: o(runtime.state, now)) for o in operations]
        await runtime.close()
        return answers

    return run


def create(state, now):
    schema = protos.Schema(type_=protos.AVRO, definition=FIRST)
    request = protos.CreateSchemaRequest(parent="projects/p", schema_id="schema", schema=schema)
    return state.schemas.create(request, now)


def commit(state, now):
    schema = protos.Schema(type_=protos.AVRO, definition=SECOND)
    return state.schemas.commit(protos.CommitSchemaRequest(name=SCHEMA, schema=schema), now)


def revisions(state, _):
    return [revision.config.revision_id for revision in state.schemas.revisions(SCHEMA)]


async def test_schemas_are_what_they_were(opened):
    first, second = await opened(create, commit)
    (found,) = await opened(revisions)
    assert found == [first.revision_id, second.revision_id]
    request = protos.DeleteSchemaRevisionRequest(name=f"{SCHEMA}@{first.revision_id}")
    await opened(lambda state, _: state.schemas.delete_revision(request))
    assert await opened(revisions, lambda state, _: state.schemas.get(SCHEMA).definition) == [
        [second.revision_id],
        SECOND,
    ]
    await opened(lambda state, _: state.delete_schema(SCHEMA))
    with pytest.raises(NotFoundError):
        await opened(revisions)


async def test_topic_of_a_deleted_schema_stays_stopped(opened):
    settings = {"schema": SCHEMA, "encoding": protos.JSON}
    topic = protos.Topic(name=TOPIC, schema_settings=settings)
    await opened(
        create,
        lambda state, _: state.create_topic(topic),
        lambda state, _: state.delete_schema(SCHEMA),
    )
    message = protos.PubsubMessage(data=b"{}")
    request = protos.PublishRequest(topic=TOPIC, messages=[message])
    with pytest.raises(FailedPreconditionError, match="deleted"):
        await opened(lambda state, now: state.prepare(request, now))


async def test_policies_are_what_they_were_and_go_with_their_resource(opened):
    (_, kept) = await opened(create, lambda state, _: state.policies.set(SCHEMA, POLICY))
    assert await opened(lambda state, _: state.policies.get(SCHEMA)) == [kept]
    await opened(lambda state, _: state.delete_schema(SCHEMA))
    (after,) = await opened(lambda state, _: state.policies.get(SCHEMA))
    assert not after.bindings


@pytest.mark.parametrize("version", [1, 2])
async def test_file_of_a_former_format_is_taken_over(tmp_path, former_store, version):
    former_store(tmp_path / "data", version)
    for _ in range(2):
        runtime = Runtime(SqliteStore(tmp_path / "data"), lambda: 100.0)
        (subscription,) = runtime.state.subscriptions.values()
        (lease,) = runtime.open(subscription, Consumer()).take()
        message = lease.entry.message
        assert (message.seq, message.publish_time, message.ordering_key) == (7, 42.5, "key")
        (body,) = runtime.bodies([lease])
        assert protos.PubsubMessage.FromString(body).data == b"old"
        assert overview(runtime)["schemas"] == []
        await runtime.close()


async def test_file_that_does_not_know_of_seeks_is_taken_over(opened, tmp_path):
    topic = protos.Topic(name=TOPIC)
    await opened(lambda state, _: state.create_topic(topic))
    with sqlite3.connect(tmp_path / "pubsub.sqlite3") as connection:
        connection.execute("DROP TABLE seeks")
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    assert await opened(lambda state, _: list(state.topics)) == [[TOPIC]]


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_clock_that_is_set_between_two_runs(tmp_path, step):
    """Ids and messages keep their order, times are the clock's, leases last as long as ever."""
    name = "projects/p/subscriptions/subscription"
    times = [1e9]

    async def opened():
        runtime = Runtime(SqliteStore(tmp_path, fsync=False), lambda: times[-1])
        if not runtime.state.topics:
            runtime.state.create_topic(protos.Topic(name=TOPIC))
            runtime.state.create_subscription(protos.Subscription(name=name, topic=TOPIC))
        request = protos.PublishRequest(topic=TOPIC, messages=[protos.PubsubMessage(data=b"x")])
        ids = await runtime.publish(request)
        return runtime, runtime.open(runtime.state.subscription(name), Consumer()), ids

    runtime, feed, before = await opened()
    assert len(feed.take()) == 1
    await runtime.close()
    times.append(1e9 + step)
    runtime, feed, after = await opened()
    runtime.state.expire(times[-1])
    messages = [lease.entry.message for lease in feed.take()]
    assert [str(message.seq) for message in messages] == before + after
    assert int(after[0]) > int(before[0])
    assert [message.publish_time for message in messages] == times
    for seconds, again in ((9.9, 0), (10, 2)):
        times.append(1e9 + step + seconds)
        runtime.state.tick(times[-1])
        assert len(feed.take()) == again
    await runtime.close()
    runtime, feed, last = await opened()
    assert [str(lease.entry.message.seq) for lease in feed.take()] == before + after + last
    await runtime.close()


async def test_backlog_is_read_from_the_store_after_a_restart(opened, tmp_path):
    def publish(state, now):
        messages = [protos.PubsubMessage(data=b"%d" % n) for n in range(700)]
        publication = state.prepare(protos.PublishRequest(topic=TOPIC, messages=messages), now)
        state.changes += publication.changes()
        state.deliver(publication)

    subscription = protos.Subscription(name="projects/p/subscriptions/subscription", topic=TOPIC)
    await opened(
        lambda state, _: state.create_topic(protos.Topic(name=TOPIC)),
        lambda state, _: state.create_subscription(subscription),
        publish,
    )
    runtime = Runtime(SqliteStore(tmp_path), lambda: 1e9)
    found = runtime.state.subscription(subscription.name)
    assert all(message.body is None for message in found.backlog.messages())
    leases = runtime.open(found, Consumer()).take(1000)
    bodies = [protos.PubsubMessage.FromString(body).data for body in runtime.bodies(leases)]
    assert bodies == [b"%d" % n for n in range(700)]
    await runtime.close()
