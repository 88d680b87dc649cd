"""Cloud Audit Logs as a log sink publishes them: one ``LogEntry`` per message, no CloudEvent.

Source: Cloud Logging's ``LogEntry`` and Cloud Audit Logs' ``AuditLog`` reference. Only what the
alert rules read is named; a sink adds fields at any time, so unknown ones are let pass.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from events.cloudevents import Envelope, InvalidEventError


class _Read(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )


class Status(_Read):
    """How the call ended; code 0 or none is success (google.rpc.Status)."""

    code: int = 0
    message: str = ""


class AuthenticationInfo(_Read):
    """Who called."""

    principal_email: str = ""


class BindingDelta(_Read):
    """One change of an IAM policy."""

    action: str = ""
    role: str = ""
    member: str = ""


class PolicyDelta(_Read):
    """What a SetIamPolicy call changed."""

    binding_deltas: tuple[BindingDelta, ...] = ()


class ServiceData(_Read):
    """The service's own part of an audit log."""

    policy_delta: PolicyDelta = PolicyDelta()


class AuditLog(_Read):
    """The call that was audited (google.cloud.audit.AuditLog)."""

    service_name: str = ""
    method_name: str = ""
    resource_name: str = ""
    status: Status = Status()
    authentication_info: AuthenticationInfo = AuthenticationInfo()
    service_data: ServiceData = ServiceData()


class AuditLogEntry(_Read):
    """A log entry; ``log_name``, ``timestamp`` and ``insert_id`` together name it for good."""

    type: ClassVar[str] = "google.logging.v2.LogEntry"
    insert_id: Annotated[str, Field(min_length=1)]
    log_name: Annotated[str, Field(min_length=1)]
    timestamp: AwareDatetime
    severity: str = "DEFAULT"
    proto_payload: AuditLog = AuditLog()

    @classmethod
    def topic(cls) -> str:
        """The topic that the log sink publishes to, without the deployment's prefix."""
        return "audit-logs"

    @property
    def fingerprint(self) -> str:
        """A name for the entry that its duplicates share."""
        name = f"{self.log_name}|{self.timestamp.isoformat()}|{self.insert_id}"
        return hashlib.sha256(name.encode()).hexdigest()[:32]

    @property
    def subject(self) -> str:
        """What claims are made on."""
        return f"audit/{self.fingerprint}"


def decode_log_entry(data: bytes, attributes: Mapping[str, str]) -> Envelope[AuditLogEntry]:
    """Read a log entry. Raises InvalidEventError."""
    try:
        entry = AuditLogEntry.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "data"
        shown = data[:100].decode(errors="replace") if field == "data" else repr(first["input"])
        raise InvalidEventError(field, shown[:200], first["msg"]) from None
    time: datetime = entry.timestamp
    return Envelope(
        event=entry,
        id=entry.fingerprint,
        source=entry.log_name,
        type=entry.type,
        subject=entry.subject,
        time=time,
        traceparent=attributes.get("traceparent"),
    )
