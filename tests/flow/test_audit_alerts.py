"""Cloud audit logs on the bus become e-mails, one each."""

import asyncio
import json
import threading
from email import message_from_bytes, policy

import pytest
from aiosmtpd.controller import Controller
from google.pubsub_v1 import PublisherClient

from infra.ports import StepStatus
from tests.support.programs import until

SINK = "organizations/1/sinks/everything"
BUCKET = "projects/_/buckets/answers"


def entry(insert_id, **payload):
    return {
        "insertId": insert_id,
        "logName": "projects/p/logs/cloudaudit.googleapis.com%2Factivity",
        "timestamp": "2026-11-21T03:00:00.123456789Z",
        "severity": "NOTICE",
        "receiveTimestamp": "2026-11-21T03:00:01Z",
        "resource": {"type": "logging_sink", "labels": {"project_id": "p"}},
        "protoPayload": {
            "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
            "authenticationInfo": {"principalEmail": "eve@example.org"},
            **payload,
        },
    }


DELETED = entry(
    "delete",
    serviceName="logging.googleapis.com",
    methodName="google.logging.v2.ConfigServiceV2.DeleteSink",
    resourceName=SINK,
)
GRANTED = entry(
    "grant",
    serviceName="storage.googleapis.com",
    methodName="storage.setIamPermissions",
    resourceName=BUCKET,
    serviceData={
        "policyDelta": {
            "bindingDeltas": [
                {"action": "ADD", "role": "roles/storage.objectViewer", "member": "allUsers"}
            ]
        }
    },
)
HARMLESS = entry(
    "list",
    serviceName="logging.googleapis.com",
    methodName="google.logging.v2.ConfigServiceV2.ListSinks",
    resourceName="projects/p",
)
MARKER = entry("marker", serviceName="logging.googleapis.com", methodName="marker")


@pytest.fixture
def publish(bus, project, monkeypatch):
    """Publishes log entries as a log sink does: the entry alone, no CloudEvent."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", bus["PUBSUB_EMULATOR_HOST"])
    client = PublisherClient()
    topic = f"projects/{project}/topics/audit-logs"

    def send(*entries):
        messages = [{"data": json.dumps(one).encode()} for one in entries]
        client.publish(request={"topic": topic, "messages": messages})

    yield send
    client.transport.close()


@pytest.fixture
def alerter(nexus, bus, project):
    """``nexus serve --only audit``; gives how to wait until an entry is dealt with."""

    def start(**env):
        there = bus | env | {"GOOGLE_CLOUD_PROJECT": project}
        running = nexus.start("serve", "--only", "audit", "--json", **there)
        running.ready_document()
        return running

    return start


def dealt_with(nexus):
    """The names of the log entries that are done with."""
    steps = nexus.steps("audit").values()
    return [step.cause.id for step in steps if step.status is StepStatus.COMPLETED]


def in_maildir(nexus):
    return [
        message_from_bytes(path.read_bytes(), policy=policy.default)
        for path in sorted((nexus.home / "mail" / "new").glob("*"))
    ]


def test_each_alarming_entry_becomes_one_mail(nexus, alerter, publish):
    worker = alerter()
    publish(DELETED, GRANTED, HARMLESS)
    until(lambda: len(dealt_with(nexus)) == 3, "three entries")
    publish(DELETED, GRANTED, HARMLESS)  # as Pub/Sub and log sinks may
    publish(DELETED)
    publish(MARKER)
    until(lambda: len(dealt_with(nexus)) == 4, "the marker")
    worker.kill()
    after = alerter()  # nothing that another worker knows is sent again
    publish(GRANTED)
    publish(entry("last", methodName="marker"))
    until(lambda: len(dealt_with(nexus)) == 5, "the last entry")
    after.kill()
    mails = in_maildir(nexus)
    assert sorted(mail["Subject"] for mail in mails) == [
        f"[nexus CRITICAL] Log sink deleted: {SINK}",
        f"[nexus CRITICAL] Public access granted: roles/storage.objectViewer on {BUCKET}",
    ]
    for mail in mails:
        assert "eve@example.org" in mail.get_content()
    assert len({mail["Message-ID"] for mail in mails}) == 2


class Inbox:
    """What an SMTP server took."""

    def __init__(self):
        self.messages = []

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@pytest.fixture
def smtp():
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=0)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(controller.factory, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    inbox.port = server.sockets[0].getsockname()[1]
    yield inbox
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    controller.loop.close()
    loop.close()


def test_mail_goes_by_smtp_where_that_is_set(nexus, alerter, publish, smtp):
    alerter(
        NEXUS_MAIL=f"smtp://127.0.0.1:{smtp.port}?starttls=false",
        NEXUS_MAIL_SENDER="nexus@example.org",
        NEXUS_MAIL_RECIPIENTS="ops@example.org,audit@example.org",
    )
    publish(DELETED)
    publish(DELETED, HARMLESS, MARKER)
    until(lambda: len(dealt_with(nexus)) == 3, "three entries")
    (mail,) = smtp.messages
    assert mail["Subject"] == f"[nexus CRITICAL] Log sink deleted: {SINK}"
    assert mail["To"] == "ops@example.org, audit@example.org"
    assert not (nexus.home / "mail").exists()
