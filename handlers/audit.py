"""Cloud audit logs, ``IterationFailed`` -> judges them by the alert rules -> one e-mail each."""

from events.audit import AuditLogEntry
from events.catalogue import IterationFailed
from handlers.alerts import Alert, iteration_failed, judge
from handlers.digests import sha256
from infra.once import Step
from infra.outcome import Ack, Outcome
from infra.ports import Claim, Mail, Ports, Receipt


async def alert_operators(
    event: AuditLogEntry | IterationFailed,
    claim: Claim,  # noqa: ARG001 - every handler is called alike
    ports: Ports,
) -> Outcome:
    """Send the alert that the event calls for, if it calls for one."""
    alert = judge(event) if isinstance(event, AuditLogEntry) else iteration_failed(event)
    if alert is None:
        return Ack(Receipt(digest=sha256(b""), counts={"mails": 0}))
    mail = mail_of(alert)
    await ports.mailer.send(mail)
    return Ack(
        Receipt(
            digest=sha256(mail.body.encode()),
            counts={"mails": 1},
            details={"rule": alert.rule, "message_id": mail.message_id},
        )
    )


def mail_of(alert: Alert) -> Mail:
    """The alert's e-mail; its Message-ID lets a mailbox drop a second copy."""
    return Mail(
        message_id=f"<{alert.fingerprint}@nexus.alerts>",
        subject=f"[nexus {alert.severity}] {alert.subject}",
        body=alert.body,
        headers={"X-Nexus-Rule": alert.rule},
    )


AUDIT = Step(
    handler="audit", consumes=(AuditLogEntry, IterationFailed), emits=(), run=alert_operators
)
