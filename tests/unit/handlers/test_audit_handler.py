import email
import json
from email import policy

import pytest

from events.audit import decode_log_entry
from events.catalogue import IterationFailed
from events.cloudevents import Envelope
from handlers.alerts import judge
from handlers.audit import AUDIT
from infra.once import Settled, run_once
from infra.ports import ClaimKey


def entry(method, **payload):
    return {
        "insertId": "i-1",
        "logName": "projects/p/logs/cloudaudit.googleapis.com%2Factivity",
        "timestamp": "2026-11-21T03:04:05Z",
        "protoPayload": {
            "serviceName": "logging.googleapis.com",
            "methodName": method,
            "resourceName": "projects/p/sinks/audit",
            "authenticationInfo": {"principalEmail": "mallory@example.org"},
            **payload,
        },
    }


def policy_change(*deltas, **payload):
    service = {"policyDelta": {"bindingDeltas": list(deltas)}}
    return entry("SetIamPolicy", serviceData=service, **payload)


def delta(action="ADD", member="allUsers", role="roles/viewer"):
    return {"action": action, "member": member, "role": role}


def read(document):
    return decode_log_entry(json.dumps(document).encode(), {})


DELETED = entry("google.logging.v2.ConfigServiceV2.DeleteSink")
REFUSED = {"status": {"code": 7, "message": "PERMISSION_DENIED"}}

ALERTS = {
    "a sink was deleted": (DELETED, "log-sink-deleted"),
    "the status is said to be good": (
        entry("google.logging.v2.ConfigServiceV2.DeleteSink", status={"code": 0}),
        "log-sink-deleted",
    ),
    "everybody was given a role": (policy_change(delta()), "public-grant"),
    "among others": (
        policy_change(delta(member="user:a@example.org"), delta(role="roles/owner")),
        "public-grant",
    ),
}
SILENCE = {
    "the deletion was refused": entry("google.logging.v2.ConfigServiceV2.DeleteSink", **REFUSED),
    "another method of the service": entry("google.logging.v2.ConfigServiceV2.GetSink"),
    "the name of another service": entry("example.NotDeleteSink"),
    "the grant was refused": policy_change(delta(), **REFUSED),
    "the role was taken away": policy_change(delta(action="REMOVE")),
    "somebody was given a role": policy_change(delta(member="user:a@example.org")),
    "a name that only starts like it": policy_change(delta(member="allUsersOfMine")),
    "no change at all": policy_change(),
    "no audit log": {**DELETED, "protoPayload": {}},
}


@pytest.mark.parametrize("case", ALERTS)
def test_what_alerts(case):
    document, rule = ALERTS[case]
    alert = judge(read(document).event)
    assert (alert.rule, alert.severity) == (rule, "CRITICAL")
    assert alert.fingerprint == read(document).event.fingerprint


@pytest.mark.parametrize("case", SILENCE)
def test_what_does_not_alert(case):
    assert judge(read(SILENCE[case]).event) is None


def mails(settings):
    folder = settings.home / "mail" / "new"
    found = [
        email.message_from_bytes(f.read_bytes(), policy=policy.default) for f in folder.glob("*")
    ]
    return sorted(found, key=lambda mail: mail["subject"])


async def test_an_alert_is_one_mail_however_often_it_comes(real, settings):
    for _ in range(3):
        assert await run_once(AUDIT, read(DELETED), real.ports) == Settled()
    [mail] = mails(settings)
    assert mail["subject"] == "[nexus CRITICAL] Log sink deleted: projects/p/sinks/audit"
    assert mail["x-nexus-rule"] == "log-sink-deleted"
    body = mail.get_content()
    for said in ("mallory@example.org", "DeleteSink", "projects/p/sinks/audit", "i-1"):
        assert said in body
    record = await real.ledger.step(ClaimKey(read(DELETED).subject, "audit"))
    assert record.receipt.counts == {"mails": 1}
    assert record.receipt.details["message_id"] == mail["message-id"]


async def test_a_mail_that_was_sent_before_a_kill_is_not_sent_again(real, settings):
    """Killed between sending and saving: the mailbox knows the message id."""
    envelope = read(DELETED)
    claim = await real.ledger.claim(
        ClaimKey(envelope.subject, "audit"), cause=cause(envelope), owner="dead",
        now=real.clock(), lease_seconds=9,
    )  # fmt: skip
    await AUDIT.run(envelope.event, claim, real.ports)
    real.clock.advance(9)
    assert await run_once(AUDIT, envelope, real.ports) == Settled()
    assert len(mails(settings)) == 1


def cause(envelope):
    from infra.ports import Cause

    return Cause(envelope.id, envelope.type, envelope.time)


async def test_what_does_not_alert_sends_nothing_and_is_kept(real, settings):
    envelope = read(SILENCE["the deletion was refused"])
    assert await run_once(AUDIT, envelope, real.ports) == Settled()
    assert mails(settings) == []
    record = await real.ledger.step(ClaimKey(envelope.subject, "audit"))
    assert record.receipt.counts == {"mails": 0}


async def test_two_entries_are_two_mails(real, settings):
    for insert_id in ("i-1", "i-2"):
        await run_once(AUDIT, read({**DELETED, "insertId": insert_id}), real.ports)
    assert len(mails(settings)) == 2


async def test_a_failed_iteration_is_a_mail(real, settings):
    event = IterationFailed(iteration=12, reason="shards failed: 3")
    envelope = Envelope(event, "e-1", "/test", event.type, event.subject, real.clock())
    for _ in range(2):
        assert await run_once(AUDIT, envelope, real.ports) == Settled()
    [mail] = mails(settings)
    assert mail["subject"] == "[nexus ERROR] Iteration 12 failed"
    assert "shards failed: 3" in mail.get_content()
    assert "nexus status 12" in mail.get_content()
