"""From a mail to an Internet message (RFC 5322); nothing in a mail can add a header or a line."""

import re
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage

from infra.errors import SettingsError, TerminalError
from infra.ports import Mail

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}")
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+>")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,75}")
_OURS = frozenset({"from", "to", "cc", "bcc", "sender", "subject", "date", "message-id"})


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who writes to whom, by plain ASCII addresses.

    Raises:
        SettingsError: An address is none, or there is no recipient.
    """

    sender: str
    recipients: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.recipients:
            raise SettingsError("mail recipients is empty: name at least one address")
        for field, address in (
            ("sender", self.sender),
            *(("recipients", r) for r in self.recipients),
        ):
            if not _ADDRESS.fullmatch(address):
                raise SettingsError(
                    f"mail {field} holds {address!r}: give a plain ASCII address, name@example.org"
                )


def compose(mail: Mail, envelope: Envelope, date: datetime) -> EmailMessage:
    """The message as it is delivered.

    Line ends and control characters in the subject or a header's value become spaces: a subject
    may quote what somebody else wrote, and an alert must still get out.

    Raises:
        TerminalError: The message id is none, or a header's name is none or is one of ours.
    """
    if not _MESSAGE_ID.fullmatch(mail.message_id):
        raise TerminalError(f"mail message_id is {mail.message_id!r}: give <name@domain>")
    message = EmailMessage()
    message["From"] = envelope.sender
    message["To"] = ", ".join(envelope.recipients)
    message["Subject"] = _one_line(mail.subject)
    message["Date"] = date
    message["Message-ID"] = mail.message_id
    for name, value in mail.headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _OURS or name in message:
            raise TerminalError(
                f"mail {mail.message_id} has a header {name!r}: give letters, digits and dashes, "
                "once, and none that the mailer sets itself"
            )
        message[name] = _one_line(value)
    message.set_content(_encodable(mail.body))
    return message


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
