"""The calls of the parity probe: what is sent to both servers, and what is set up before.

In a request, `{p}` is `projects/` and a project that nobody else uses; `$name` is what an earlier
step of the same probe was answered (see `tests.support.parity`).
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

Request = dict[str, Any]
Step = tuple[str, Request]

TOPIC, SUBSCRIPTION = "{p}/topics/topic", "{p}/subscriptions/subscription"
SNAPSHOT, SCHEMA = "{p}/snapshots/snapshot", "{p}/schemas/schema"
AVRO = '{"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}'
AVRO_OPTIONAL = AVRO[:-2] + ', {"name": "y", "type": "int", "default": 1}]}'
PROTO = 'syntax = "proto3"; message M { int32 x = 1; }'


class Probe(NamedTuple):
    """One call, and the calls that make its world; the last step's answer is what is compared.

    `whole`: with the fields that are the same in every answer, which are otherwise left out.
    """

    name: str
    steps: list[Step]
    whole: bool = False


def create_topic(name: str = TOPIC, **settings: Any) -> Step:
    return "Publisher.CreateTopic", {"name": name, **settings}


def create_subscription(name: str = SUBSCRIPTION, topic: str = TOPIC, **settings: Any) -> Step:
    return "Subscriber.CreateSubscription", {"name": name, "topic": topic, **settings}


def publish(*messages: Request, topic: str = TOPIC) -> Step:
    return "Publisher.Publish", {"topic": topic, "messages": list(messages or [{"data": "eA=="}])}


def pull(count: int = 10, subscription: str = SUBSCRIPTION) -> Step:
    request = {"subscription": subscription, "maxMessages": count, "returnImmediately": True}
    return "Subscriber.Pull", request


def create_schema(definition: str = AVRO, kind: str = "AVRO", id_: str = "schema") -> Step:
    schema = {"type": kind, "definition": definition}
    return "SchemaService.CreateSchema", {"parent": "{p}", "schemaId": id_, "schema": schema}


class HttpProbe(NamedTuple):
    """A request as it goes over the wire, and the calls that make its world."""

    name: str
    steps: list[Step]
    verb: str
    path: str
    body: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    whole: bool = False


WORLD = [create_topic(), create_subscription()]
DELIVERED = [*WORLD, publish(), pull()]


def probes() -> list[Probe]:
    """Give all probes; their names are unique."""
    groups = (
        _names(), _topics(), _subscriptions(), _filters(), _destinations(), _publishing(),
        _delivery(), _seeking(), _lists(), _updates(), _deletions(), _schemas(), _policies(),
    )  # fmt: skip
    return [probe for group in groups for probe in group]


IDS = {
    "ordinary": "an-id", "three": "abc", "two": "ab", "one": "a", "empty": "", "255": "a" * 255,
    "256": "a" * 256, "starts with a digit": "1abc", "starts with a dash": "-abc",
    "starts with goog": "google", "Goog": "Google", "goo": "gooxyz", "a space": "a bc",
    "a slash": "ab/c", "percent": "a%20c", "tilde and plus": "a~b+c", "dots": "a..b",
    "underscore": "a_b_c", "not ASCII": "äbc", "a colon": "ab:c", "an asterisk": "ab*",
    "a question mark": "ab?",
}  # fmt: skip
PLAIN_NAMES = {
    "nothing": "", "an id alone": "topic", "no project": "projects//topics/topic",
    "another collection": "{p}/things/topic", "too deep": "{p}/topics/topic/more",
    "a trailing slash": "{p}/topics/topic/", "two slashes": "{p}//topics/topic",
    "the deleted topic": "_deleted-topic_",
}  # fmt: skip


def _names() -> Iterator[Probe]:
    for label, id_ in IDS.items():
        yield Probe(f"topic id: {label}", [create_topic("{p}/topics/" + id_)])
        name = "{p}/subscriptions/" + id_
        yield Probe(f"subscription id: {label}", [create_topic(), create_subscription(name)])
    for label in ("two", "starts with goog", "a space", "ordinary"):
        name = "{p}/snapshots/" + IDS[label]
        request = {"name": name, "subscription": SUBSCRIPTION}
        yield Probe(f"snapshot id: {label}", [*WORLD, ("Subscriber.CreateSnapshot", request)])
        yield Probe(f"schema id: {label}", [create_schema(id_=IDS[label])])
    for label, name in PLAIN_NAMES.items():
        yield Probe(f"topic name: {label}", [create_topic(name)])
        yield Probe(f"get topic: {label}", [("Publisher.GetTopic", {"topic": name})])
        other = name.replace("topic", "subscription")
        request = {"subscription": other}
        yield Probe(f"get subscription: {label}", [("Subscriber.GetSubscription", request)])


RETENTIONS = ["0s", "1s", "599s", "600s", "604800s", "604801s", "2678400s", "2678401s", "-1s"]
LABELS = {
    "ordinary": {"a": "b"}, "an empty value": {"a": ""}, "upper case": {"A": "b"},
    "64 in all": {f"k{n}": "v" for n in range(64)}, "65 in all": {f"k{n}": "v" for n in range(65)},
    "a long key": {"k" * 64: "v"}, "a long value": {"k": "v" * 64}, "a space": {"a b": "c"},
    "starts with a digit": {"1a": "b"}, "an empty key": {"": "b"}, "not ASCII": {"ä": "ö"},
}  # fmt: skip


def _topics() -> Iterator[Probe]:
    yield Probe("the fields of a topic", [create_topic()], whole=True)
    yield Probe("topic twice", [create_topic(), create_topic()])
    for seconds in RETENTIONS:
        step = create_topic(messageRetentionDuration=seconds)
        yield Probe(f"topic retention {seconds}", [step])
    for label, labels in LABELS.items():
        yield Probe(f"topic labels: {label}", [create_topic(labels=labels)])
    yield Probe("topic with a key", [create_topic(kmsKeyName="a/b")])
    regions = {"allowedPersistenceRegions": ["europe-west1"]}
    yield Probe("topic with regions", [create_topic(messageStoragePolicy=regions)])
    yield Probe("topic with state", [create_topic(state="INGESTION_RESOURCE_ERROR")])
    yield Probe("topic with ingestion of nothing", [create_topic(ingestionDataSourceSettings={})])
    kinesis = {
        "streamArn": "arn:aws:kinesis:us-west-2:1:stream/s", "consumerArn": "arn:c",
        "awsRoleArn": "arn:r", "gcpServiceAccount": "a@b.iam.gserviceaccount.com",
    }  # fmt: skip
    settings = {"awsKinesis": kinesis}
    yield Probe("topic with ingestion", [create_topic(ingestionDataSourceSettings=settings)])


def _subscriptions() -> Iterator[Probe]:
    def probe(label: str, **settings: Any) -> Probe:
        return Probe(f"subscription {label}", [create_topic(), create_subscription(**settings)])

    yield Probe("the fields of a subscription", WORLD, whole=True)
    yield Probe("subscription twice", [*WORLD, create_subscription()])
    yield Probe("subscription to no topic", [create_subscription()])
    yield probe("to an empty topic name", topic="")
    yield probe("to the deleted topic", topic="_deleted-topic_")
    yield probe("to a bad topic name", topic="topic")
    for seconds in (-1, 0, 1, 9, 10, 600, 601, 2**31 - 1):
        yield probe(f"ack deadline {seconds}", ackDeadlineSeconds=seconds)
    for seconds in RETENTIONS:
        yield probe(f"retention {seconds}", messageRetentionDuration=seconds)
    for label in ("ordinary", "65 in all", "upper case"):
        yield probe(f"labels: {label}", labels=LABELS[label])
    for ttl in ("0s", "1s", "86399s", "86400s", "31536000s", "-1s"):
        yield probe(f"expires after {ttl}", expirationPolicy={"ttl": ttl})
    yield probe("never expires", expirationPolicy={})
    for low, high in (("0s", "0s"), ("10s", "600s"), ("601s", "601s"), ("20s", "10s"),
                      ("-1s", "10s"), (None, "5s"), ("700s", None), ("1s", None)):  # fmt: skip
        policy = {"minimumBackoff": low, "maximumBackoff": high}
        policy = {name: value for name, value in policy.items() if value}
        yield probe(f"backoff {low} to {high}", retryPolicy=policy)
    yield probe("backoff by default", retryPolicy={})
    for attempts in (-1, 0, 1, 4, 5, 100, 101):
        policy = {"deadLetterTopic": TOPIC, "maxDeliveryAttempts": attempts}
        yield probe(f"dead letters after {attempts}", deadLetterPolicy=policy)
    for label, name in {
        "no such topic": "{p}/topics/none",
        "no topic": "",
        "a bad name": "x",
    }.items():
        yield probe(f"dead letters to {label}", deadLetterPolicy={"deadLetterTopic": name})
    yield probe("in order", enableMessageOrdering=True)
    yield probe("exactly once", enableExactlyOnceDelivery=True)
    yield probe("retaining", retainAckedMessages=True)
    yield probe("detached", detached=True)
    yield probe("with a state", state="RESOURCE_ERROR")


FILTERS = {
    "has": "attributes:k", "equals": 'attributes.k = "v"', "differs": 'attributes.k != "v"',
    "prefix": 'hasPrefix(attributes.k, "v")', "and": 'attributes:a AND attributes.b = "c"',
    "or": "attributes:a OR attributes:b", "not": "NOT attributes:a", "minus": "-attributes:a",
    "mixed": "attributes:a AND attributes:b OR attributes:c",
    "parentheses": "(attributes:a AND attributes:b) OR attributes:c",
    "quoted key": 'attributes:"a b"', "256 bytes": 'attributes.k = "' + "v" * 239 + '"',
    "257 bytes": 'attributes.k = "' + "v" * 240 + '"', "unquoted": "attributes.k = v",
    "single quotes": "attributes.k = 'v'", "lower case and": "attributes:a and attributes:b",
    "data": 'data = "x"', "word": "word", "space": " ", "unclosed": "(attributes:a",
    "no operator": "attributes.k", "greater": 'attributes.k > "v"',
    "empty string": 'attributes.k=""',
    "two": "attributes:a attributes:b", "not not": "NOT NOT attributes:a",
    "prefix of a key": 'hasPrefix(attributes:k, "v")', "dangling and": "attributes:a AND",
    "escape": 'attributes.k = "\\"v\\\\"',
    "not of parentheses": "NOT (attributes:a AND attributes:b)",
}  # fmt: skip


def _filters() -> Iterator[Probe]:
    for label, text in FILTERS.items():
        steps = [create_topic(), create_subscription(filter=text)]
        yield Probe(f"filter: {label}", steps)
    attributes = [{"attributes": {"k": value}} for value in ("v", "w", "vw")]
    for label in ("equals", "differs", "prefix", "has", "not"):
        steps = [
            create_topic(),
            create_subscription(filter=FILTERS[label]),
            publish(*attributes),
            pull(),
        ]
        yield Probe(f"filtered by {label}", steps)


DESTINATIONS = {
    "push": {"pushConfig": {"pushEndpoint": "https://example.com/push"}},
    "push over http": {"pushConfig": {"pushEndpoint": "http://127.0.0.1:9/push"}},
    "push over ftp": {"pushConfig": {"pushEndpoint": "ftp://example.com/"}},
    "push to no URL": {"pushConfig": {"pushEndpoint": "example"}},
    "push with no_wrapper": {
        "pushConfig": {"pushEndpoint": "https://example.com", "noWrapper": {"writeMetadata": True}}
    },
    "push with a token": {
        "pushConfig": {
            "pushEndpoint": "https://example.com",
            "oidcToken": {"serviceAccountEmail": "a@b.iam.gserviceaccount.com", "audience": "x"},
        }
    },
    "push with a token for nobody": {
        "pushConfig": {"pushEndpoint": "https://example.com", "oidcToken": {"audience": "x"}}
    },
    "push with a version": {
        "pushConfig": {"pushEndpoint": "https://e.com", "attributes": {"x-goog-version": "v1"}}
    },
    "push with a bad version": {
        "pushConfig": {"pushEndpoint": "https://e.com", "attributes": {"x-goog-version": "v9"}}
    },
    "push with an unknown attribute": {
        "pushConfig": {"pushEndpoint": "https://e.com", "attributes": {"other": "v1"}}
    },
    "BigQuery": {"bigqueryConfig": {"table": "project.dataset.table"}},
    "BigQuery without a table": {"bigqueryConfig": {"useTopicSchema": True}},
    "BigQuery with a bad table": {"bigqueryConfig": {"table": "table"}},
    "BigQuery with both schemas": {
        "bigqueryConfig": {"table": "p.d.t", "useTopicSchema": True, "useTableSchema": True}
    },
    "Cloud Storage": {"cloudStorageConfig": {"bucket": "a-bucket"}},
    "Cloud Storage with gs": {"cloudStorageConfig": {"bucket": "gs://a-bucket"}},
    "Cloud Storage with no bucket": {"cloudStorageConfig": {}},
    "Cloud Storage every 59 s": {"cloudStorageConfig": {"bucket": "abc", "maxDuration": "59s"}},
    "Cloud Storage every 601 s": {"cloudStorageConfig": {"bucket": "abc", "maxDuration": "601s"}},
    "Cloud Storage by 999 bytes": {"cloudStorageConfig": {"bucket": "abc", "maxBytes": "999"}},
    "Cloud Storage in Avro": {"cloudStorageConfig": {"bucket": "abc", "avroConfig": {}}},
    "push and BigQuery": {
        "pushConfig": {"pushEndpoint": "https://e.com"},
        "bigqueryConfig": {"table": "p.d.t"},
    },
}


def _destinations() -> Iterator[Probe]:
    for label, settings in DESTINATIONS.items():
        steps = [create_topic(), create_subscription(**settings)]
        yield Probe(f"destination: {label}", steps)
    for label, endpoint in {"push": "https://example.com", "pull": "", "ftp": "ftp://e"}.items():
        request = {"subscription": SUBSCRIPTION, "pushConfig": {"pushEndpoint": endpoint}}
        step = ("Subscriber.ModifyPushConfig", request)
        get = ("Subscriber.GetSubscription", {"subscription": SUBSCRIPTION})
        yield Probe(f"modify push config: {label}", [*WORLD, step])
        yield Probe(f"modified push config: {label}", [*WORLD, step, get])
    pushed = create_subscription(**DESTINATIONS["push"])
    yield Probe("pull from a pushed subscription", [create_topic(), pushed, pull()])


MESSAGES: dict[str, list[Request]] = {
    "data": [{"data": "eA=="}], "attributes": [{"attributes": {"k": "v"}}], "nothing": [{}],
    "an ordering key alone": [{"orderingKey": "k"}], "no message": [],
    "an empty key": [{"data": "eA==", "attributes": {"": "v"}}],
    "an empty value": [{"data": "eA==", "attributes": {"k": ""}}],
    "a key of 256 bytes": [{"attributes": {"k" * 256: "v"}}],
    "a key of 257 bytes": [{"attributes": {"k" * 257: "v"}}],
    "a value of 1024 bytes": [{"attributes": {"k": "v" * 1024}}],
    "a value of 1025 bytes": [{"attributes": {"k": "v" * 1025}}],
    "a key with goog": [{"attributes": {"goog-k": "v"}}],
    "a key with Goog": [{"attributes": {"Goog": "v"}}],
    "100 attributes": [{"attributes": {f"k{n}": "v" for n in range(100)}}],
    "101 attributes": [{"attributes": {f"k{n}": "v" for n in range(101)}}],
    "an ordering key": [{"data": "eA==", "orderingKey": "k"}],
    "an ordering key of 1024 bytes": [{"data": "eA==", "orderingKey": "k" * 1024}],
    "an ordering key of 1025 bytes": [{"data": "eA==", "orderingKey": "k" * 1025}],
    "two ordering keys": [{"data": "eA==", "orderingKey": k} for k in "ab"],
    "an id of its own": [{"data": "eA==", "messageId": "7"}],
    "a time of its own": [{"data": "eA==", "publishTime": "2020-01-01T00:00:00Z"}],
    "1000 messages": [{"data": "eA=="}] * 1000, "1001 messages": [{"data": "eA=="}] * 1001,
    "10 MB": [{"data": "eHh4" * 3_330_000}], "more than 10 MB": [{"data": "eHh4" * 3_340_000}],
    "one bad of two": [{"data": "eA=="}, {}],
}  # fmt: skip


def _publishing() -> Iterator[Probe]:
    for label, messages in MESSAGES.items():
        request = {"topic": TOPIC, "messages": messages}
        yield Probe(f"publish {label}", [*WORLD, ("Publisher.Publish", request)])
    small = {name: m for name, m in MESSAGES.items() if "MB" not in name and "100" not in name}
    for label, messages in small.items():
        step = ("Publisher.Publish", {"topic": TOPIC, "messages": messages})
        yield Probe(f"delivered {label}", [*WORLD, step, pull()])
    for label, name in {"no such": "{p}/topics/none", "an empty": "", "a bad": "x"}.items():
        yield Probe(f"publish to {label} topic", [publish(topic=name)])


def _delivery() -> Iterator[Probe]:
    for count in (-1, 0, 1, 2, 2**31 - 1):
        yield Probe(f"pull {count}", [*WORLD, publish({"data": "YQ=="}, {"data": "Yg=="}),
                                      pull(count)])  # fmt: skip
    for label, name in {"no such": "{p}/subscriptions/none", "an empty": "", "a bad": "x"}.items():
        yield Probe(f"pull from {label} subscription", [pull(subscription=name)])
        for method, extra in (
            ("Acknowledge", {}),
            ("ModifyAckDeadline", {"ackDeadlineSeconds": 10}),
        ):
            request = {"subscription": name, "ackIds": ["x"], **extra}
            yield Probe(f"{method} at {label} subscription", [(f"Subscriber.{method}", request)])
    for label, ids in {"good": ["$ack"], "none": [], "bad": ["bad"], "both": ["$ack", "bad"],
                       "twice": ["$ack", "$ack"], "empty": [""]}.items():  # fmt: skip
        request = {"subscription": SUBSCRIPTION, "ackIds": ids}
        ack = ("Subscriber.Acknowledge", request)
        yield Probe(f"acknowledge: {label}", [*DELIVERED, ack])
        yield Probe(f"acknowledged: {label}", [*DELIVERED, ack, pull()])
        once = [
            create_topic(),
            create_subscription(enableExactlyOnceDelivery=True),
            publish(),
            pull(),
        ]
        yield Probe(f"acknowledge exactly once: {label}", [*once, ack])
        if label == "good":
            yield Probe("acknowledge again", [*DELIVERED, ack, ack])
            yield Probe("acknowledge exactly once, again", [*once, ack, ack])
    for seconds in (-1, 0, 1, 9, 10, 600, 601):
        request = {"subscription": SUBSCRIPTION, "ackIds": ["$ack"], "ackDeadlineSeconds": seconds}
        step = ("Subscriber.ModifyAckDeadline", request)
        yield Probe(f"modify deadline to {seconds}", [*DELIVERED, step])
        yield Probe(f"modified deadline to {seconds}", [*DELIVERED, step, pull()])
    for label, ids in {"none": [], "bad": ["bad"]}.items():
        request = {"subscription": SUBSCRIPTION, "ackIds": ids, "ackDeadlineSeconds": 10}
        yield Probe(
            f"modify deadlines: {label}", [*DELIVERED, ("Subscriber.ModifyAckDeadline", request)]
        )
    policy = {"deadLetterTopic": TOPIC, "maxDeliveryAttempts": 5}
    dead = create_subscription(deadLetterPolicy=policy)
    yield Probe("delivery attempt", [create_topic(), dead, publish(), pull()])
    ordered = create_subscription(enableMessageOrdering=True)
    messages = [{"data": d, "orderingKey": "k"} for d in ("YQ==", "Yg==")]
    yield Probe("ordered", [create_topic(), ordered, publish(*messages), pull()])
    yield Probe("deleted topic, pull", [*WORLD, publish(), ("Publisher.DeleteTopic",
                {"topic": TOPIC}), pull()])  # fmt: skip
    detach = ("Publisher.DetachSubscription", {"subscription": SUBSCRIPTION})
    yield Probe("detach", [*WORLD, detach])
    yield Probe("detach twice", [*WORLD, detach, detach])
    yield Probe("detach no such", [detach])
    yield Probe("detached, pull", [*WORLD, publish(), detach, pull()])


def _seeking() -> Iterator[Probe]:
    snapshot = ("Subscriber.CreateSnapshot", {"name": SNAPSHOT, "subscription": SUBSCRIPTION})
    ack = ("Subscriber.Acknowledge", {"subscription": SUBSCRIPTION, "ackIds": ["$ack"]})

    def seek(**target: str) -> Step:
        return "Subscriber.Seek", {"subscription": SUBSCRIPTION, **target}

    yield Probe("snapshot", [*WORLD, snapshot])
    yield Probe("snapshot twice", [*WORLD, snapshot, snapshot])
    yield Probe("snapshot of no subscription", [snapshot])
    unnamed = ("Subscriber.CreateSnapshot", {"subscription": SUBSCRIPTION})
    yield Probe("snapshot without a name", [*WORLD, unnamed])
    labelled = {"name": SNAPSHOT, "subscription": SUBSCRIPTION, "labels": {"a": "b"}}
    yield Probe("snapshot with labels", [*WORLD, ("Subscriber.CreateSnapshot", labelled)])
    yield Probe("seek to nothing", [*WORLD, seek()])
    yield Probe("seek to a snapshot", [*WORLD, snapshot, seek(snapshot=SNAPSHOT)])
    yield Probe("seek to no such snapshot", [*WORLD, seek(snapshot=SNAPSHOT)])
    yield Probe("seek to a bad snapshot", [*WORLD, seek(snapshot="x")])
    yield Probe("seek of no subscription", [seek(time="2020-01-01T00:00:00Z")])
    for label, time in {"the past": "2020-01-01T00:00:00Z", "the future": "2100-01-01T00:00:00Z",
                        "the epoch": "1970-01-01T00:00:00Z"}.items():  # fmt: skip
        yield Probe(f"seek to {label}", [*DELIVERED, seek(time=time)])
        yield Probe(f"sought to {label}", [*DELIVERED, seek(time=time), pull()])
        yield Probe(f"acked, sought to {label}", [*DELIVERED, ack, seek(time=time), pull()])
    yield Probe("sought to a snapshot", [*WORLD, publish(), snapshot, pull(), ack,
                                         seek(snapshot=SNAPSHOT), pull()])  # fmt: skip
    get = ("Subscriber.GetSnapshot", {"snapshot": SNAPSHOT})
    yield Probe("get snapshot", [*WORLD, snapshot, get])
    yield Probe("get no such snapshot", [get])
    delete = ("Subscriber.DeleteSnapshot", {"snapshot": SNAPSHOT})
    yield Probe("delete snapshot", [*WORLD, snapshot, delete])
    yield Probe("delete no such snapshot", [delete])
    yield Probe("list a topic's snapshots", [*WORLD, snapshot, ("Publisher.ListTopicSnapshots",
                                                                {"topic": TOPIC})])  # fmt: skip


def _lists() -> Iterator[Probe]:
    many = [create_topic(f"{{p}}/topics/topic-{n}") for n in range(3)]
    for size in (-1, 0, 1, 2, 3, 1001):
        request = {"project": "{p}", "pageSize": size}
        yield Probe(f"list topics, {size} a page", [*many, ("Publisher.ListTopics", request)])
    first = ("Publisher.ListTopics", {"project": "{p}", "pageSize": 2})
    second = {"project": "{p}", "pageSize": 2, "pageToken": "$page"}
    yield Probe("list topics, second page", [*many, first, ("Publisher.ListTopics", second)])
    bad = {"project": "{p}", "pageToken": "bad"}
    yield Probe("list topics, bad token", [*many, ("Publisher.ListTopics", bad)])
    for label, project in {"empty": "", "id alone": "p", "no id": "projects/"}.items():
        for method in ("Publisher.ListTopics", "Subscriber.ListSubscriptions",
                       "Subscriber.ListSnapshots"):  # fmt: skip
            yield Probe(f"{method}, project {label}", [(method, {"project": project})])
    for method in ("Subscriber.ListSubscriptions", "Subscriber.ListSnapshots"):
        yield Probe(f"{method}", [*WORLD, (method, {"project": "{p}"})])
    request = {"topic": TOPIC}
    for method in ("ListTopicSubscriptions", "ListTopicSnapshots"):
        yield Probe(f"{method}", [*WORLD, (f"Publisher.{method}", request)])
        yield Probe(f"{method} of no topic", [(f"Publisher.{method}", request)])


def _updates() -> Iterator[Probe]:
    def topic(label: str, mask: str, **settings: Any) -> Probe:
        request = {"topic": {"name": TOPIC, **settings}, "updateMask": mask}
        steps = [create_topic(labels={"a": "b"}), ("Publisher.UpdateTopic", request)]
        return Probe(f"update topic: {label}", steps)

    yield topic("labels", "labels", labels={"c": "d"})
    yield topic("retention", "messageRetentionDuration", messageRetentionDuration="1200s")
    yield topic("bad retention", "messageRetentionDuration", messageRetentionDuration="1s")
    yield topic("no mask", "")
    yield topic("name", "name")
    yield topic("unknown field", "noSuch")
    yield topic("key", "kmsKeyName", kmsKeyName="k")
    settings = {"schema": SCHEMA, "encoding": "JSON"}
    yield topic("schema that is not there", "schemaSettings", schemaSettings=settings)
    missing = {"topic": {"name": TOPIC}, "updateMask": "labels"}
    yield Probe("update no such topic", [("Publisher.UpdateTopic", missing)])

    def subscription(label: str, mask: str, **settings: Any) -> Probe:
        request = {"subscription": {"name": SUBSCRIPTION, **settings}, "updateMask": mask}
        return Probe(
            f"update subscription: {label}", [*WORLD, ("Subscriber.UpdateSubscription", request)]
        )

    yield subscription("deadline", "ackDeadlineSeconds", ackDeadlineSeconds=20)
    yield subscription("bad deadline", "ackDeadlineSeconds", ackDeadlineSeconds=601)
    yield subscription("deadline to none", "ackDeadlineSeconds")
    yield subscription("labels", "labels", labels={"c": "d"})
    yield subscription("retaining", "retainAckedMessages", retainAckedMessages=True)
    yield subscription("exactly once", "enableExactlyOnceDelivery", enableExactlyOnceDelivery=True)
    yield subscription("retention", "messageRetentionDuration", messageRetentionDuration="1200s")
    yield subscription("expiration to none", "expirationPolicy")
    yield subscription("retry", "retryPolicy", retryPolicy={"minimumBackoff": "1s"})
    yield subscription("push", "pushConfig", pushConfig={"pushEndpoint": "https://example.com"})
    for field in ("topic", "filter", "enableMessageOrdering", "name", "detached", "noSuch", ""):
        yield subscription(f"mask {field!r}", field)
    yield subscription(
        "dead letters", "deadLetterPolicy", deadLetterPolicy={"deadLetterTopic": TOPIC}
    )
    missing = {"subscription": {"name": SUBSCRIPTION}, "updateMask": "labels"}
    yield Probe("update no such subscription", [("Subscriber.UpdateSubscription", missing)])
    make = ("Subscriber.CreateSnapshot", {"name": SNAPSHOT, "subscription": SUBSCRIPTION})
    for mask in ("labels", "expireTime", "topic", ""):
        request = {"snapshot": {"name": SNAPSHOT, "labels": {"a": "b"}}, "updateMask": mask}
        yield Probe(
            f"update snapshot: {mask!r}", [*WORLD, make, ("Subscriber.UpdateSnapshot", request)]
        )


def _deletions() -> Iterator[Probe]:
    topic = ("Publisher.DeleteTopic", {"topic": TOPIC})
    subscription = ("Subscriber.DeleteSubscription", {"subscription": SUBSCRIPTION})
    get = ("Subscriber.GetSubscription", {"subscription": SUBSCRIPTION})
    yield Probe("delete topic", [*WORLD, topic])
    yield Probe("delete topic twice", [*WORLD, topic, topic])
    yield Probe("subscription of a deleted topic", [*WORLD, topic, get])
    yield Probe("publish to a deleted topic", [*WORLD, topic, publish()])
    yield Probe("topic made again", [*WORLD, topic, create_topic(), get])
    yield Probe("topic made again, delivered", [*WORLD, topic, create_topic(), publish(), pull()])
    yield Probe("delete subscription", [*WORLD, subscription])
    yield Probe("delete subscription twice", [*WORLD, subscription, subscription])
    yield Probe("pull from a deleted subscription", [*WORLD, subscription, pull()])
    listed = ("Publisher.ListTopicSubscriptions", {"topic": TOPIC})
    yield Probe("deleted subscription is not listed", [*WORLD, subscription, listed])


def _schemas() -> Iterator[Probe]:
    definitions = {
        "Avro": (AVRO, "AVRO"), "Protocol Buffers": (PROTO, "PROTOCOL_BUFFER"),
        "bad Avro": ("{", "AVRO"), "bad proto": ("message", "PROTOCOL_BUFFER"),
        "empty": ("", "AVRO"), "no type": (AVRO, "TYPE_UNSPECIFIED"),
        "Avro that is no record": ('"int"', "AVRO"),
        "two messages": (PROTO + " message N {}", "PROTOCOL_BUFFER"),
        "an import": ('syntax = "proto3"; import "a.proto"; message M {}', "PROTOCOL_BUFFER"),
    }  # fmt: skip
    for label, (definition, kind) in definitions.items():
        yield Probe(f"schema: {label}", [create_schema(definition, kind)])
        schema = {"type": kind, "definition": definition}
        request = {"parent": "{p}", "schema": schema}
        yield Probe(f"validate schema: {label}", [("SchemaService.ValidateSchema", request)])
    yield Probe("schema twice", [create_schema(), create_schema()])
    name = {"name": SCHEMA}
    for view in ("BASIC", "FULL", "SCHEMA_VIEW_UNSPECIFIED"):
        request = {**name, "view": view}
        yield Probe(f"get schema: {view}", [create_schema(), ("SchemaService.GetSchema", request)])
        request = {"parent": "{p}", "view": view}
        yield Probe(
            f"list schemas: {view}", [create_schema(), ("SchemaService.ListSchemas", request)]
        )
    delete = ("SchemaService.DeleteSchema", name)
    yield Probe("get no such schema", [("SchemaService.GetSchema", name)])
    yield Probe("delete schema", [create_schema(), delete])
    yield Probe("delete no such schema", [delete])
    commits = {
        "the same": (AVRO, "AVRO"), "an optional field": (AVRO_OPTIONAL, "AVRO"),
        "another type": (PROTO, "PROTOCOL_BUFFER"), "a bad one": ("{", "AVRO"),
    }  # fmt: skip
    for label, (definition, kind) in commits.items():
        request = {**name, "schema": {"name": SCHEMA, "type": kind, "definition": definition}}
        commit = ("SchemaService.CommitSchema", request)
        yield Probe(f"commit {label}", [create_schema(), commit])
    schema = {"name": SCHEMA, "type": "AVRO", "definition": AVRO_OPTIONAL}
    revised = ("SchemaService.CommitSchema", {**name, "schema": schema})
    history = [create_schema(), revised]
    yield Probe("list revisions", [*history, ("SchemaService.ListSchemaRevisions", name)])
    for method in ("RollbackSchema", "DeleteSchemaRevision"):
        for label, revision in {"first": "$revision", "none": "", "unknown": "deadbeef"}.items():
            request = {"name": SCHEMA, "revisionId": revision}
            yield Probe(f"{method}: {label}", [*history, (f"SchemaService.{method}", request)])
    only = {"name": SCHEMA + "@$revision"}
    yield Probe(
        "delete the only revision", [create_schema(), ("SchemaService.DeleteSchemaRevision", only)]
    )
    bodies = {"good JSON": ("eyJ4IjogMX0=", "JSON"), "bad JSON": ("e30=", "JSON"),
              "good binary": ("Ag==", "BINARY"), "no binary": ("", "BINARY"),
              "no encoding": ("Ag==", "ENCODING_UNSPECIFIED")}  # fmt: skip
    for label, (body, encoding) in bodies.items():
        request = {"parent": "{p}", "name": SCHEMA, "message": body, "encoding": encoding}
        validate = ("SchemaService.ValidateMessage", request)
        yield Probe(f"validate message: {label}", [create_schema(), validate])
        settings = {"schema": SCHEMA, "encoding": encoding}
        topic = create_topic(schemaSettings=settings)
        yield Probe(f"topic with a schema: {label}", [create_schema(), topic])
        steps = [create_schema(), topic, create_subscription()]
        message = {"data": body, "attributes": {"k": "v"}}
        yield Probe(f"publish of a schema: {label}", [*steps, publish(message)])
        yield Probe(f"delivered of a schema: {label}", [*steps, publish(message), pull()])
    topic = create_topic(schemaSettings={"schema": SCHEMA, "encoding": "JSON"})
    yield Probe("topic of no such schema", [topic])
    get = ("Publisher.GetTopic", {"topic": TOPIC})
    yield Probe("topic of a deleted schema", [create_schema(), topic, delete, get])


def _policies() -> Iterator[Probe]:
    policy = {"bindings": [{"role": "roles/viewer", "members": ["user:a@b.c"]}]}
    for label, resource in {"topic": TOPIC, "subscription": SUBSCRIPTION, "none": TOPIC + "-none",
                            "no name": "", "a bad name": "x"}.items():  # fmt: skip
        get = {"resource": resource}
        yield Probe(f"get policy: {label}", [*WORLD, ("IAMPolicy.GetIamPolicy", get)])
        request = {"resource": resource, "policy": policy}
        yield Probe(f"set policy: {label}", [*WORLD, ("IAMPolicy.SetIamPolicy", request)])
        request = {"resource": resource, "permissions": ["pubsub.topics.get"]}
        yield Probe(
            f"test permissions: {label}", [*WORLD, ("IAMPolicy.TestIamPermissions", request)]
        )


BODIES = {
    "an empty body": "", "an empty object": "{}", "no JSON": "{bad", "a list": "[]", "null": "null",
    "a string": '"x"', "an unknown field": '{"colour": "red"}',
    "an unknown field deep down": '{"messageStoragePolicy": {"colour": "red"}}',
    "snake case": '{"message_retention_duration": "700s"}',
    "a number for a string": '{"labels": {"a": 3}}', "a null field": '{"labels": null}',
    "a list for an object": '{"labels": []}', "a string for an object": '{"labels": "a"}',
    "a duration with a fraction": '{"messageRetentionDuration": "700.5s"}',
    "a duration without its unit": '{"messageRetentionDuration": "700"}',
    "a name as well": '{"name": "projects/other/topics/other"}',
    "a field twice": '{"labels": {"a": "b"}, "labels": {"a": "c"}}',
}  # fmt: skip
PUBLISHED = {
    "base64": "_-8=", "standard base64": "/+8=", "base64 without padding": "_-8",
    "standard base64 without padding": "/+8", "no base64": "%%%", "plain text": "hello, world",
    "base64 with a newline": "eA==\\n",
}  # fmt: skip
NUMBERS = {
    "a number": "30", "a number in quotes": '"30"', "a whole fraction": "30.0",
    "a fraction": "30.5", "true": "true", "beyond 32 bits": "3000000000",
}  # fmt: skip
ENUMS = {
    "a name": '"AVRO"', "a number": "2", "lower case": '"avro"', "an unknown name": '"THRIFT"',
    "an unknown number": "77",
}  # fmt: skip
QUERIES = {
    "pageSize": "pageSize=1", "page_size": "page_size=1", "a page size of letters": "pageSize=x",
    "an empty page size": "pageSize=", "an unknown parameter": "colour=red",
    "system parameters": "alt=json&prettyPrint=false&key=k&$.xgafv=2&fields=topics",
    "pageSize twice": "pageSize=1&pageSize=2",
}  # fmt: skip
PATHS = {
    "percent-encoded id": ("GET", "/v1/{p}/topics/to%70ic"),
    "encoded slash": ("GET", "/v1/{p}/topics%2Ftopic"),
    "encoded verb": ("POST", "/v1/{p}/topics/topic%3Apublish"),
    "trailing slash": ("GET", "/v1/{p}/topics/topic/"), "two slashes": ("GET", "/v1//{p}/topics"),
    "unknown verb": ("POST", "/v1/{p}/topics/topic:polish"),
    "unknown collection": ("GET", "/v1/{p}/things"), "another version": ("GET", "/v2/{p}/topics"),
    "another method": ("DELETE", "/v1/{p}/topics"), "HEAD": ("HEAD", "/v1/{p}/topics/topic"),
    "an encoded project": ("GET", "/v1/projects%2Fx/topics"),
    "a doubly encoded percent": ("PUT", "/v1/{p}/topics/a%2520c"),
    "a space": ("PUT", "/v1/{p}/topics/a%20bc"), "plus": ("PUT", "/v1/{p}/topics/a+bc"),
    "tilde": ("PUT", "/v1/{p}/topics/a~bc"),
}  # fmt: skip
MASKS = {
    "camel case": '"ackDeadlineSeconds"', "snake case": '"ack_deadline_seconds"',
    "two paths": '"ackDeadlineSeconds,retryPolicy"', "an unknown path": '"colour"',
    "an empty mask": '""', "an object": '{"paths": ["ack_deadline_seconds"]}',
}  # fmt: skip


def http_probes() -> list[HttpProbe]:
    """Give the probes of what is not the same over gRPC; their names are unique."""
    return [*_bodies(), *_queries_and_paths(), *_headers()]


def _bodies() -> Iterator[HttpProbe]:
    for label, body in BODIES.items():
        yield HttpProbe(f"body: {label}", [], "PUT", f"/v1/{TOPIC}", body)
    for label, data in PUBLISHED.items():
        body = f'{{"messages": [{{"data": "{data}"}}]}}'
        yield HttpProbe(f"bytes: {label}", WORLD, "POST", f"/v1/{TOPIC}:publish", body)
    step = ("Publisher.Publish", {"topic": TOPIC, "messages": [{"data": "/+8="}]})
    pulled = '{"maxMessages": 1, "returnImmediately": true}'
    yield HttpProbe("bytes, as they come", [*WORLD, step], "POST", f"/v1/{SUBSCRIPTION}:pull",
                    pulled)  # fmt: skip
    for label, number in NUMBERS.items():
        body = f'{{"topic": "{TOPIC}", "ackDeadlineSeconds": {number}}}'
        yield HttpProbe(f"integer: {label}", [create_topic()], "PUT", f"/v1/{SUBSCRIPTION}", body)
    for label, kind in ENUMS.items():
        body = f'{{"type": {kind}, "definition": {json.dumps(AVRO)}}}'
        yield HttpProbe(f"enum: {label}", [], "POST", "/v1/{p}/schemas?schemaId=schema", body)
    for label, mask in MASKS.items():
        body = f'{{"subscription": {{"ackDeadlineSeconds": 99}}, "updateMask": {mask}}}'
        yield HttpProbe(f"mask: {label}", WORLD, "PATCH", f"/v1/{SUBSCRIPTION}", body)


def _queries_and_paths() -> Iterator[HttpProbe]:
    two = [create_topic("{p}/topics/one"), create_topic("{p}/topics/two")]
    for label, query in QUERIES.items():
        yield HttpProbe(f"query: {label}", two, "GET", f"/v1/{{p}}/topics?{query}")
    for label, (verb, path) in PATHS.items():
        body = "{}" if verb in {"PUT", "POST"} else None
        yield HttpProbe(f"path: {label}", WORLD, verb, path, body)


def _headers() -> Iterator[HttpProbe]:
    body = '{"subscription": {"ackDeadlineSeconds": 99}, "updateMask": "ackDeadlineSeconds"}'
    override = (("X-HTTP-Method-Override", "PATCH"),)
    yield HttpProbe("header: another method", WORLD, "POST", f"/v1/{SUBSCRIPTION}", body, override)
    for label, kind in {"a form": "application/x-www-form-urlencoded", "text": "text/plain",
                        "with a charset": "application/json; charset=utf-8"}.items():  # fmt: skip
        headers = (("Content-Type", kind),)
        yield HttpProbe(f"header: {label}", [], "PUT", f"/v1/{TOPIC}", "{}", headers)
    headers = (("Authorization", "Bearer nobody"),)
    yield HttpProbe("header: a token", [], "PUT", f"/v1/{TOPIC}", "{}", headers)
