"""Log entries as Cloud Logging's sinks publish them (LogEntry and AuditLog, JSON mapping)."""

import json
from datetime import UTC, datetime

import pytest

from events.audit import AuditLogEntry, decode_log_entry
from events.cloudevents import InvalidEventError

DELETE_SINK = {
    "protoPayload": {
        "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
        "status": {},
        "authenticationInfo": {
            "principalEmail": "mallory@example.org",
            "principalSubject": "user:mallory@example.org",
        },
        "requestMetadata": {"callerIp": "203.0.113.7", "callerSuppliedUserAgent": "gcloud"},
        "serviceName": "logging.googleapis.com",
        "methodName": "google.logging.v2.ConfigServiceV2.DeleteSink",
        "authorizationInfo": [
            {
                "resource": "projects/p/sinks/audit",
                "permission": "logging.sinks.delete",
                "granted": True,
            }
        ],
        "resourceName": "projects/p/sinks/audit",
        "request": {"sinkName": "projects/p/sinks/audit"},
    },
    "insertId": "1a2b3c4d",
    "resource": {"type": "logging_sink", "labels": {"project_id": "p", "name": "audit"}},
    "timestamp": "2026-11-21T03:04:05.123456789Z",
    "severity": "NOTICE",
    "logName": "projects/p/logs/cloudaudit.googleapis.com%2Factivity",
    "receiveTimestamp": "2026-11-21T03:04:06.5Z",
}
SET_IAM_POLICY = {
    **DELETE_SINK,
    "protoPayload": {
        "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
        "serviceName": "storage.googleapis.com",
        "methodName": "storage.setIamPermissions",
        "resourceName": "projects/_/buckets/corpus",
        "serviceData": {
            "@type": "type.googleapis.com/google.iam.v1.logging.AuditData",
            "policyDelta": {
                "bindingDeltas": [
                    {
                        "action": "ADD",
                        "role": "roles/storage.objectViewer",
                        "member": "allUsers",
                        "condition": None,
                    }
                ]
            },
        },
    },
    "insertId": "5e6f",
}


def read(document, attributes=None):
    return decode_log_entry(json.dumps(document).encode(), attributes or {})


def without(document, key):
    return {name: value for name, value in document.items() if name != key}


def test_a_sink_that_was_deleted():
    envelope = read(DELETE_SINK, {"traceparent": "00-1-2-01"})
    call = envelope.event.proto_payload
    assert call.method_name == "google.logging.v2.ConfigServiceV2.DeleteSink"
    assert call.authentication_info.principal_email == "mallory@example.org"
    assert (call.resource_name, call.status.code) == ("projects/p/sinks/audit", 0)
    assert envelope.time == datetime(2026, 11, 21, 3, 4, 5, 123_456, tzinfo=UTC)
    assert envelope.source == DELETE_SINK["logName"]
    assert envelope.type == AuditLogEntry.type
    assert envelope.traceparent == "00-1-2-01"
    assert (envelope.id, envelope.subject) == (
        envelope.event.fingerprint,
        f"audit/{envelope.event.fingerprint}",
    )


def test_a_policy_that_was_changed():
    [delta] = read(SET_IAM_POLICY).event.proto_payload.service_data.policy_delta.binding_deltas
    assert (delta.action, delta.role, delta.member) == (
        "ADD",
        "roles/storage.objectViewer",
        "allUsers",
    )


def test_an_entry_of_another_kind_passes():
    entry = {**without(DELETE_SINK, "protoPayload"), "textPayload": "hello"}
    assert read(entry).event.proto_payload.method_name == ""


def test_duplicates_share_their_fingerprint_and_others_do_not():
    again = {**DELETE_SINK, "receiveTimestamp": "2026-11-21T03:09:00Z"}
    assert read(again).id == read(DELETE_SINK).id
    others = [
        read({**DELETE_SINK, name: value}).id
        for name, value in (
            ("insertId", "x"),
            ("logName", "projects/q/logs/x"),
            ("timestamp", "2026-11-21T03:04:06Z"),
        )
    ]
    assert len({read(DELETE_SINK).id, *others}) == 4


@pytest.mark.parametrize(
    ("document", "field", "reason"),
    [
        (without(DELETE_SINK, "insertId"), "insertId", "Field required"),
        ({**DELETE_SINK, "insertId": ""}, "insertId", "at least 1 character"),
        (without(DELETE_SINK, "logName"), "logName", "Field required"),
        ({**DELETE_SINK, "timestamp": "noon"}, "timestamp", "datetime"),
        ({**DELETE_SINK, "timestamp": "2026-11-21T03:04:05"}, "timestamp", "timezone"),
        (
            {**DELETE_SINK, "protoPayload": {"status": {"code": "seven"}}},
            "protoPayload.status.code",
            "valid integer",
        ),
        ([DELETE_SINK], "data", "object"),
    ],
)
def test_a_bad_entry_is_named_by_field_and_value(document, field, reason):
    with pytest.raises(InvalidEventError) as caught:
        read(document)
    assert caught.value.field == field
    assert reason in caught.value.reason
    assert len(caught.value.value) <= 200


def test_what_is_no_json_is_shown_by_its_start():
    with pytest.raises(InvalidEventError, match=r"data='\{oops': Invalid JSON"):
        decode_log_entry(b"{oops", {})
