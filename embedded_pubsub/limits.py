"""The documented limits: names, sizes and ranges.

Source: Cloud Pub/Sub documentation, "Quotas and limits" and "Resource names".
Each function returns quietly or raises `InvalidArgumentError` with the field, the value and the
rule.
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from embedded_pubsub.errors import InvalidArgumentError, OutOfRangeError, UnimplementedError
from embedded_pubsub.protos import Proto

MAX_MESSAGES_PER_REQUEST = 1000
MAX_REQUEST_BYTES = 10_000_000
MAX_ATTRIBUTES = 100
MAX_ATTRIBUTE_KEY_BYTES = 256
MAX_ATTRIBUTE_VALUE_BYTES = 1024
MAX_ORDERING_KEY_BYTES = 1024
MIN_ACK_DEADLINE_SECONDS = 10
MAX_ACK_DEADLINE_SECONDS = 600
MIN_RETENTION_SECONDS = 600
MAX_SUBSCRIPTION_RETENTION_SECONDS = 31 * 86_400
MAX_TOPIC_RETENTION_SECONDS = 31 * 86_400
MAX_BACKOFF_SECONDS = 600
MIN_DELIVERY_ATTEMPTS = 5
MAX_DELIVERY_ATTEMPTS = 100
MIN_EXPIRATION_SECONDS = 86_400
MAX_SCHEMA_BYTES = 300_000
MAX_SCHEMA_REVISIONS = 20
MAX_TRANSFORMS = 5
MAX_LABELS = 64
MAX_LABEL_CHARACTERS = 63
MAX_UDF_BYTES = 20_000

_NAME = re.compile(
    r"projects/([^/]+)/(topics|subscriptions|snapshots|schemas)/([A-Za-z][A-Za-z0-9\-_.~+%]{2,254})"
)
_TABLE = re.compile(r"[^.:\s]+(?::[^.:\s]+)?[.:][A-Za-z0-9_]+\.[^.\s]+")
_FUNCTION = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_PROJECT = re.compile(r"projects/[^/]+")


def check_name(field: str, name: str, collection: str) -> None:
    """Refuse what is not `projects/{project}/{collection}/{id}` with a well-formed id."""
    match = _NAME.fullmatch(name)
    if match is None or match[2] != collection or match[3].startswith("goog"):
        raise InvalidArgumentError(
            f"{field}: {name!r} is not a valid name. It must be "
            f"projects/{{project}}/{collection}/{{id}}; the id has 3 to 255 characters, starts "
            "with a letter, holds only letters, digits and -_.~+% and doesn't start with goog."
        )


def check_project(name: str) -> None:
    """Refuse what is not `projects/{project}`."""
    if not _PROJECT.fullmatch(name):
        raise InvalidArgumentError(f"project: {name!r} must be projects/{{project}}.")


def check_range(field: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high]."""
    if not low <= value <= high:
        raise InvalidArgumentError(f"{field}: {value:g} is not between {low:g} and {high:g}.")


def check_messages(request: Proto) -> None:
    """Refuse a publish request that breaks a limit, as a whole or by one of its messages."""
    check_publish(request, request.ByteSize())
    for message in request.messages:
        check_message(message)


def check_publish(request: Proto, size: int) -> None:
    """Refuse a publish request that breaks a limit as a whole; `size` is in bytes."""
    count = len(request.messages)
    if not 1 <= count <= MAX_MESSAGES_PER_REQUEST:
        raise InvalidArgumentError(
            f"messages: {count} messages; a request must hold 1 to {MAX_MESSAGES_PER_REQUEST}."
        )
    if size > MAX_REQUEST_BYTES:
        raise InvalidArgumentError(
            f"Request payload size exceeds the limit: {size} bytes, at most {MAX_REQUEST_BYTES} "
            "are allowed. Publish fewer or smaller messages in a request."
        )
    keys = {message.ordering_key for message in request.messages}
    if len(keys) > 1:
        raise InvalidArgumentError(
            "ordering_key: In a single publish request, all messages must have no ordering key "
            "or they must all have the same ordering key."
        )


def check_message(message: Proto) -> None:
    """Refuse a message that breaks a limit by itself."""
    attributes = message.attributes
    if not message.data and not attributes:
        raise InvalidArgumentError(
            "data: Some messages in the request are invalid: a message needs data or at least "
            "one attribute."
        )
    if len(message.ordering_key) > MAX_ORDERING_KEY_BYTES // 4:
        _check_bytes("ordering_key", message.ordering_key, MAX_ORDERING_KEY_BYTES)
    if attributes:
        _check_attributes(attributes)


def _check_attributes(attributes: Proto) -> None:
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidArgumentError(
            f"attributes: {len(attributes)} attributes, at most {MAX_ATTRIBUTES} are allowed."
        )
    for key, value in attributes.items():
        if not key:
            raise InvalidArgumentError("attributes: a key must not be empty.")
        if key.startswith("goog"):
            raise InvalidArgumentError(f"attributes: key {key!r} must not start with goog.")
        _check_bytes("attributes: key", key, MAX_ATTRIBUTE_KEY_BYTES)
        _check_bytes(f"attributes: value of {key!r}", value, MAX_ATTRIBUTE_VALUE_BYTES)


def _check_bytes(field: str, text: str, limit: int) -> None:
    size = len(text.encode())
    if size > limit:
        raise InvalidArgumentError(f"{field}: {size} bytes, at most {limit} are allowed.")


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that break the rules of "Creating and managing labels"."""
    if len(labels) > MAX_LABELS:
        raise InvalidArgumentError(f"labels: {len(labels)}, at most {MAX_LABELS} are allowed.")
    for key, value in labels.items():
        if not _is_label(key) or not key or not (key[0].islower() or ord(key[0]) > 127):
            raise InvalidArgumentError(
                f"labels: key {key!r} must have 1 to {MAX_LABEL_CHARACTERS} characters, start with "
                "a lower case letter, and hold only lower case letters, digits, _ and -."
            )
        if not _is_label(value):
            raise InvalidArgumentError(
                f"labels: value {value!r} of {key!r} must have at most {MAX_LABEL_CHARACTERS} "
                "characters, all of them lower case letters, digits, _ and -."
            )


def _is_label(text: str) -> bool:
    known = all(c in "_-" or (c.isalnum() and not c.isupper()) for c in text)
    return known and len(text) <= MAX_LABEL_CHARACTERS


def check_topic(topic: Proto) -> None:
    """Refuse a topic whose settings are out of range or not served here."""
    check_labels(topic.labels)
    if topic.HasField("message_retention_duration"):
        check_range(
            "message_retention_duration",
            seconds_of(topic.message_retention_duration),
            MIN_RETENTION_SECONDS,
            MAX_TOPIC_RETENTION_SECONDS,
        )
    if topic.HasField("ingestion_data_source_settings"):
        source = topic.ingestion_data_source_settings.WhichOneof("source")
        if source is None:
            raise InvalidArgumentError("ingestion_data_source_settings.source: must be set.")
    check_transforms(topic.message_transforms)


def check_subscription(subscription: Proto) -> None:
    """Refuse a subscription whose settings are out of range or not served here."""
    check_labels(subscription.labels)
    check_range(
        "ack_deadline_seconds",
        subscription.ack_deadline_seconds,
        MIN_ACK_DEADLINE_SECONDS,
        MAX_ACK_DEADLINE_SECONDS,
    )
    check_range(
        "message_retention_duration",
        seconds_of(subscription.message_retention_duration),
        MIN_RETENTION_SECONDS,
        MAX_SUBSCRIPTION_RETENTION_SECONDS,
    )
    if subscription.HasField("retry_policy"):
        _check_retry_policy(subscription.retry_policy)
    if subscription.HasField("dead_letter_policy"):
        _check_dead_letter_policy(subscription.dead_letter_policy)
    if subscription.HasField("expiration_policy") and subscription.expiration_policy.HasField(
        "ttl"
    ):
        ttl = seconds_of(subscription.expiration_policy.ttl)
        check_range("expiration_policy.ttl", ttl, MIN_EXPIRATION_SECONDS, float("inf"))
    _check_destination(subscription)


def check_transforms(transforms: Sequence[Proto]) -> None:
    """Refuse transforms that are too many, are not named apart, or are not run here."""
    if len(transforms) > MAX_TRANSFORMS:
        raise InvalidArgumentError(
            f"message_transforms: {len(transforms)}, at most {MAX_TRANSFORMS} are allowed."
        )
    for transform in transforms:
        match transform.WhichOneof("transform"):
            case "javascript_udf":
                _check_udf(transform.javascript_udf)
            case "compression":
                _check_compression(transform.compression)
            case None:
                raise InvalidArgumentError("message_transforms: a transform must be set.")
            case kind:
                raise UnimplementedError(
                    f"message_transforms.{kind}: needs a service outside, and is not run by "
                    "embedded_pubsub."
                )
    names = [t.javascript_udf.function_name for t in transforms if t.HasField("javascript_udf")]
    if len(set(names)) < len(names):
        raise InvalidArgumentError(
            "message_transforms: each JavaScript UDF must have a function_name of its own."
        )


def _check_udf(udf: Proto) -> None:
    if not _FUNCTION.fullmatch(udf.function_name):
        raise InvalidArgumentError(
            f"javascript_udf.function_name: {udf.function_name!r} is not the name of a function."
        )
    size = len(udf.code.encode())
    if not 1 <= size <= MAX_UDF_BYTES:
        raise InvalidArgumentError(
            f"javascript_udf.code: {size} bytes, 1 to {MAX_UDF_BYTES} are allowed."
        )


def _check_compression(compression: Proto) -> None:
    kind = type(compression)
    if compression.compression_mode not in {kind.COMPRESS, kind.DECOMPRESS}:
        raise InvalidArgumentError("compression.compression_mode: must be set.")
    if compression.compression_algorithm == kind.ZSTD:
        raise UnimplementedError(
            "compression.compression_algorithm: ZSTD is not run by embedded_pubsub; ZLIB is."
        )
    if compression.compression_algorithm != kind.ZLIB:
        raise InvalidArgumentError("compression.compression_algorithm: must be set.")


def _check_retry_policy(policy: Proto) -> None:
    for field in ("minimum_backoff", "maximum_backoff"):
        if policy.HasField(field):
            seconds = seconds_of(getattr(policy, field))
            check_range(f"retry_policy.{field}", seconds, 0, MAX_BACKOFF_SECONDS)
    both = policy.HasField("minimum_backoff") and policy.HasField("maximum_backoff")
    if both and seconds_of(policy.minimum_backoff) > seconds_of(policy.maximum_backoff):
        raise InvalidArgumentError(
            "retry_policy: minimum_backoff must not be more than maximum_backoff."
        )


def _check_dead_letter_policy(policy: Proto) -> None:
    check_name("dead_letter_policy.dead_letter_topic", policy.dead_letter_topic, "topics")
    attempts = policy.max_delivery_attempts
    if attempts and not MIN_DELIVERY_ATTEMPTS <= attempts <= MAX_DELIVERY_ATTEMPTS:
        raise OutOfRangeError(
            f"dead_letter_policy.max_delivery_attempts: {attempts} is not between "
            f"{MIN_DELIVERY_ATTEMPTS} and {MAX_DELIVERY_ATTEMPTS}."
        )


def _check_destination(subscription: Proto) -> None:
    names = ("bigquery_config", "cloud_storage_config", "bigtable_config")
    given = [name for name in names if subscription.HasField(name)]
    if subscription.push_config.push_endpoint:
        given.append("push_config.push_endpoint")
        _check_push(subscription.push_config)
    if len(given) > 1:
        raise InvalidArgumentError(f"{' and '.join(given)}: a subscription has at most one.")
    if subscription.HasField("bigquery_config"):
        _check_bigquery(subscription.bigquery_config)
    if subscription.HasField("cloud_storage_config"):
        _check_cloud_storage(subscription.cloud_storage_config)
    if subscription.HasField("bigtable_config") and not subscription.bigtable_config.table:
        raise InvalidArgumentError("bigtable_config.table: must not be empty.")
    check_transforms(subscription.message_transforms)


def _check_push(push: Proto) -> None:
    url = urlsplit(push.push_endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise InvalidArgumentError(
            f"push_config.push_endpoint: {push.push_endpoint!r} must be an http or https URL."
        )
    if push.HasField("oidc_token") and not push.oidc_token.service_account_email:
        raise InvalidArgumentError(
            "push_config.oidc_token.service_account_email: must not be empty."
        )
    version = push.attributes.get("x-goog-version", "v1")
    if version not in {"v1", "v1beta1", "v1beta2"} or set(push.attributes) - {"x-goog-version"}:
        raise InvalidArgumentError("push_config.attributes: only x-goog-version, as v1, is known.")


def _check_bigquery(export: Proto) -> None:
    if not _TABLE.fullmatch(export.table):
        raise InvalidArgumentError(
            f"bigquery_config.table: {export.table!r} must be {{project}}.{{dataset}}.{{table}}."
        )
    if export.use_topic_schema and export.use_table_schema:
        raise InvalidArgumentError(
            "bigquery_config: use_topic_schema and use_table_schema exclude each other."
        )
    if export.drop_unknown_fields and not (export.use_topic_schema or export.use_table_schema):
        raise InvalidArgumentError(
            "bigquery_config.drop_unknown_fields: needs use_topic_schema or use_table_schema."
        )


def _check_cloud_storage(export: Proto) -> None:
    if not _BUCKET.fullmatch(export.bucket):
        raise InvalidArgumentError(
            f"cloud_storage_config.bucket: {export.bucket!r} is not the name of a bucket; give it "
            "without gs://."
        )
    if export.HasField("max_duration"):
        seconds = seconds_of(export.max_duration)
        check_range("cloud_storage_config.max_duration", seconds, 60, 600)
    if export.max_bytes:
        check_range("cloud_storage_config.max_bytes", export.max_bytes, 1000, 10 * 2**30)
    if export.max_messages:
        check_range("cloud_storage_config.max_messages", export.max_messages, 1000, 2**63)


def seconds_of(duration: Proto) -> float:
    """Convert a protobuf Duration or Timestamp to seconds."""
    return float(duration.seconds + duration.nanos / 1e9)
