"""Alert rules: pure functions from what happened to what an operator should read."""

from collections.abc import Callable
from dataclasses import dataclass

from events.audit import AuditLogEntry
from events.catalogue import IterationFailed

OK = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """What one e-mail says."""

    rule: str
    severity: str
    fingerprint: str
    subject: str
    body: str


def log_sink_deleted(entry: AuditLogEntry) -> Alert | None:
    """A log sink is gone: from now on its destination sees nothing."""
    call = entry.proto_payload
    if call.status.code != OK or not call.method_name.endswith("ConfigServiceV2.DeleteSink"):
        return None
    return _alert(entry, "log-sink-deleted", f"Log sink deleted: {call.resource_name}")


def public_grant(entry: AuditLogEntry) -> Alert | None:
    """Somebody gave everybody on the internet a role."""
    call = entry.proto_payload
    granted = [
        delta.role
        for delta in call.service_data.policy_delta.binding_deltas
        if delta.action == "ADD" and delta.member == "allUsers"
    ]
    if call.status.code != OK or not granted:
        return None
    roles = ", ".join(granted)
    return _alert(entry, "public-grant", f"Public access granted: {roles} on {call.resource_name}")


RULES: tuple[Callable[[AuditLogEntry], Alert | None], ...] = (log_sink_deleted, public_grant)


def judge(entry: AuditLogEntry) -> Alert | None:
    """The first rule's alert for an entry, if any."""
    return next((alert for rule in RULES if (alert := rule(entry))), None)


def iteration_failed(event: IterationFailed) -> Alert:
    """A calibration run ended without a result."""
    return Alert(
        rule="iteration-failed",
        severity="ERROR",
        fingerprint=f"iteration-failed.{event.namespace}.{event.iteration}",
        subject=f"Iteration {event.iteration} failed",
        body=(
            f"Iteration {event.iteration} ({event.namespace}) failed: {event.reason}\n\n"
            f"Look:  nexus status {event.iteration}\n       nexus dlq list\n"
        ),
    )


def _alert(entry: AuditLogEntry, rule: str, subject: str) -> Alert:
    call = entry.proto_payload
    body = (
        f"{subject}\n\n"
        f"who       {call.authentication_info.principal_email or 'unknown'}\n"
        f"when      {entry.timestamp.isoformat()}\n"
        f"what      {call.method_name} ({call.service_name})\n"
        f"resource  {call.resource_name}\n"
        f"log       {entry.log_name}\n"
        f"insert id {entry.insert_id}\n"
        f"rule      {rule}\n"
    )
    return Alert(rule, "CRITICAL", entry.fingerprint, subject, body)
