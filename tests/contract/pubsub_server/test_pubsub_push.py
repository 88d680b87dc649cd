"""Push delivery to an endpoint in this process; export and ingestion, accepted but not run."""

import base64
import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from google.api_core import exceptions


class Endpoint:
    """Keeps what is posted to it, and answers with `status`, or what `answers` holds first."""

    def __init__(self):
        self.posts = queue.Queue()
        self.answers = []
        self.status = 204
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.posts.put((self.path, dict(self.headers), body))
                status = endpoint.answers.pop(0) if endpoint.answers else endpoint.status
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/push?token=t"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def next(self):
        return self.posts.get(timeout=30)

    def bodies(self, count):
        posts = (json.loads(self.next()[2]) for _ in range(count))
        return [base64.b64decode(post["message"]["data"]).decode() for post in posts]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def kind():
    return "memory"


@pytest.fixture
def endpoint():
    running = Endpoint()
    yield running
    running.close()


def settled(pubsub):
    """Make it a pull subscription; gives what it still owes."""
    pubsub.subscriber.modify_push_config(
        request={"subscription": pubsub.subscription, "push_config": {}}
    )
    return pubsub.pull(now=True)


def test_wrapped_message_is_posted_and_acked(pubsub, endpoint):
    pubsub.create(push_config={"push_endpoint": endpoint.url})
    (message_id,) = pubsub.publish("hello", k="v")
    path, headers, body = endpoint.next()
    document = json.loads(body)
    assert path == "/push?token=t"
    assert headers["Content-Type"] == "application/json"
    assert document["subscription"] == pubsub.subscription
    message = document["message"]
    assert base64.b64decode(message["data"]) == b"hello"
    assert message["attributes"] == {"k": "v"}
    assert message["messageId"] == message["message_id"] == message_id
    assert message["publishTime"] == message["publish_time"]
    assert "deliveryAttempt" not in document
    pubsub.publish("next")
    assert endpoint.bodies(1) == ["next"]
    assert endpoint.posts.empty()


def test_unwrapped_message_is_its_data_with_metadata_in_headers(pubsub, endpoint):
    config = {"push_endpoint": endpoint.url, "no_wrapper": {"write_metadata": True}}
    pubsub.create(push_config=config, enable_message_ordering=True)
    (message_id,) = pubsub.publish("raw", key="key", city="Zürich\r\nInjected: 1")
    _, headers, body = endpoint.next()
    assert body == b"raw"
    assert headers["x-goog-pubsub-message-id"] == message_id
    assert headers["x-goog-pubsub-subscription-name"] == pubsub.subscription
    assert headers["x-goog-pubsub-ordering-key"] == "key"
    assert headers["city"].encode("latin-1").decode() == "Zürich  Injected: 1"
    assert "Injected" not in headers


def test_unwrapped_message_without_metadata_is_data_alone(pubsub, endpoint):
    pubsub.create(push_config={"push_endpoint": endpoint.url, "no_wrapper": {}})
    pubsub.publish("raw", k="v")
    _, headers, body = endpoint.next()
    assert body == b"raw"
    assert not {"k", "x-goog-pubsub-message-id"} & headers.keys()


@pytest.mark.parametrize("status", [500, 400, 301, 206])
def test_other_answers_bring_the_message_again(pubsub, endpoint, status):
    endpoint.answers = [status, status]
    pubsub.create(push_config={"push_endpoint": endpoint.url})
    pubsub.publish("again")
    assert endpoint.bodies(3) == ["again"] * 3


def test_endpoint_that_is_not_there_keeps_the_message(pubsub, endpoint):
    gone = Endpoint()
    gone.close()
    pubsub.create(push_config={"push_endpoint": gone.url})
    pubsub.publish("kept")
    request = {"subscription": pubsub.subscription, "push_config": {"push_endpoint": endpoint.url}}
    pubsub.subscriber.modify_push_config(request=request)
    assert endpoint.bodies(1) == ["kept"]


def test_failing_pushes_end_in_the_dead_letters(pubsub, endpoint):
    endpoint.status = 500
    dead = pubsub.name("topics", "dead")
    pubsub.publisher.create_topic(name=dead)
    pubsub.subscribe(pubsub.name("subscriptions", "dead"), topic=dead)
    policy = {"dead_letter_topic": dead, "max_delivery_attempts": 5}
    pubsub.create(push_config={"push_endpoint": endpoint.url}, dead_letter_policy=policy)
    pubsub.publish("poison")
    attempts = [json.loads(endpoint.next()[2])["deliveryAttempt"] for _ in range(5)]
    assert attempts == [1, 2, 3, 4, 5]
    (letter,) = pubsub.pull(1, subscription=pubsub.name("subscriptions", "dead"))
    assert letter.message.data == b"poison"


def test_messages_of_a_key_are_pushed_in_order(pubsub, endpoint):
    endpoint.answers = [204, 204, 500]
    pubsub.create(push_config={"push_endpoint": endpoint.url}, enable_message_ordering=True)
    sent = [str(n) for n in range(20)]
    pubsub.publish(*sent, key="key")
    posted = endpoint.bodies(21)
    assert posted == ["0", "1", "2", *sent[2:]]


def test_token_names_the_service_account(pubsub, endpoint):
    token = {"service_account_email": "push@example.com", "audience": "me"}
    pubsub.create(push_config={"push_endpoint": endpoint.url, "oidc_token": token})
    pubsub.publish("x")
    _, headers, _ = endpoint.next()
    kind, _, jwt = headers["Authorization"].partition(" ")
    claims = json.loads(base64.urlsafe_b64decode(jwt.split(".")[1] + "=="))
    assert kind == "Bearer"
    assert (claims["email"], claims["aud"]) == ("push@example.com", "me")


def test_pushed_subscription_is_not_pulled_from(pubsub, endpoint):
    pubsub.create(push_config={"push_endpoint": endpoint.url})
    with pytest.raises(exceptions.FailedPrecondition, match="can't be pulled"):
        pubsub.pull(1)
    pubsub.publish("pushed")
    endpoint.next()
    pubsub.publish("barrier")
    endpoint.next()
    assert {each.message.data for each in settled(pubsub)} <= {b"barrier"}


@pytest.mark.parametrize(
    "config",
    [
        {"push_endpoint": "ftp://example.com"},
        {"push_endpoint": "not a URL"},
        {"push_endpoint": "https://example.com", "attributes": {"k": "v"}},
        {"push_endpoint": "https://example.com", "oidc_token": {"audience": "me"}},
    ],
)
def test_bad_push_config_is_refused(pubsub, config):
    with pytest.raises(exceptions.InvalidArgument, match="push_config"):
        pubsub.create(push_config=config)


@pytest.mark.parametrize(
    "settings",
    [
        {"bigquery_config": {"table": "project.dataset.table", "write_metadata": True}},
        {"cloud_storage_config": {"bucket": "my-bucket", "max_messages": 1000}},
        {"bigtable_config": {"table": "projects/p/instances/i/tables/t"}},
    ],
)
def test_export_is_kept_and_says_that_it_is_not_run(pubsub, settings, caplog):
    pubsub.create(**settings)
    assert f"{pubsub.subscription}: export is kept but not run" in caplog.text
    pubsub.publish("waits")
    found = pubsub.subscriber.get_subscription(subscription=pubsub.subscription)
    ((name, given),) = settings.items()
    kept = getattr(found, name)
    assert kept.state.name == "ACTIVE"
    assert {field: getattr(kept, field) for field in given} == given
    with pytest.raises(exceptions.FailedPrecondition, match="export is not run"):
        pubsub.pull(1)
    update = {"subscription": {"name": pubsub.subscription}, "update_mask": {"paths": [name]}}
    pubsub.subscriber.update_subscription(request=update)
    assert [each.message.data for each in pubsub.pull(1)] == [b"waits"]


@pytest.mark.parametrize(
    "settings",
    [
        {"bigquery_config": {"table": "table"}},
        {"bigquery_config": {"table": "p.d.t", "drop_unknown_fields": True}},
        {
            "bigquery_config": {
                "table": "p.d.t",
                "use_topic_schema": True,
                "use_table_schema": True,
            }
        },
        {"cloud_storage_config": {"bucket": "gs://bucket"}},
        {"cloud_storage_config": {"bucket": "bucket", "max_duration": {"seconds": 59}}},
        {"cloud_storage_config": {"bucket": "bucket", "max_bytes": 999}},
        {"bigtable_config": {}},
        {
            "bigquery_config": {"table": "p.d.t"},
            "push_config": {"push_endpoint": "https://example.com"},
        },
    ],
)
def test_bad_export_is_refused(pubsub, settings):
    with pytest.raises(exceptions.InvalidArgument):
        pubsub.create(**settings)


def test_ingestion_is_kept_and_says_that_it_is_not_run(pubsub, caplog):
    source = {"cloud_storage": {"bucket": "bucket"}}
    created = pubsub.publisher.create_topic(
        request={"name": pubsub.topic, "ingestion_data_source_settings": source}
    )
    assert created.ingestion_data_source_settings.cloud_storage.bucket == "bucket"
    assert f"{pubsub.topic}: ingestion is kept but not run" in caplog.text
    with pytest.raises(exceptions.InvalidArgument, match="source"):
        pubsub.publisher.create_topic(
            request={"name": f"{pubsub.topic}-2", "ingestion_data_source_settings": {}}
        )
