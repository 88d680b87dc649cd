"""Mail by SMTP (RFC 5321), over TLS unless the settings say otherwise."""

import ipaddress
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

import aiosmtplib

from infra.errors import (
    NexusError,
    ServiceUnavailableError,
    SettingsError,
    TerminalError,
    TransientError,
)
from infra.mail.message import Envelope, compose
from infra.ports import Clock, Mail

Security = Literal["starttls", "tls", "none"]


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed in, and how.

    Attributes:
        host: Name or address.
        port: 587 is for ``starttls``, 465 for ``tls``.
        security: ``starttls`` upgrades the connection or fails, ``tls`` starts encrypted,
            ``none`` sends in the clear.
        username: Of the account, if the server wants one.
        password: Of the account.
        cafile: Certificates (PEM) to trust instead of the system's.
        timeout_seconds: For each answer of the server.

    Raises:
        SettingsError: A password would travel in the clear to another machine.
    """

    host: str
    port: int
    security: Security = "starttls"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cafile: Path | None = None
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.username is not None and self.security == "none" and not _is_loopback(self.host):
            raise SettingsError(
                f"mail server {self} has a user name and starttls=false: the password would travel "
                "in the clear: use starttls=true or smtps://"
            )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """What certificates are trusted. Raises SettingsError for a bad ``cafile``."""
        if self.security == "none":
            return None
        try:
            return ssl.create_default_context(cafile=self.cafile)
        except OSError as error:
            raise SettingsError(
                f"mail cafile {self.cafile} can't be used ({error.strerror}): give a PEM file"
            ) from error


class SmtpMailer:
    """Hands mail to a server; see ``infra.ports.Mailer``.

    SMTP has no once: a message sent again is delivered again, under the same message id. The
    ledger's receipt is what keeps it from being sent again.
    """

    def __init__(self, server: SmtpServer, envelope: Envelope, clock: Clock) -> None:
        """Raises SettingsError for a ``cafile`` that can't be used."""
        self._server = server
        self._envelope = envelope
        self._clock = clock
        self._tls_context = server.tls_context()

    async def send(self, mail: Mail) -> None:
        """Hand one message in.

        Raises:
            TransientError: The server asks to try later (4xx), or the connection broke; the
                message may have been taken then.
            ServiceUnavailableError: No connection, or none that is safe.
            TerminalError: The server refuses the message, a recipient or the account, or the
                message can't be written down as mail.
        """
        message = compose(mail, self._envelope, self._clock())
        try:
            refused = await self._hand_in(message)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _translated(error, self._server) from error
        if refused:
            raise TerminalError(
                f"mail server {self._server} refused {_listed(refused)}; the other recipients have "
                f"{mail.message_id}, so it is not sent again"
            )

    async def _hand_in(self, message: EmailMessage) -> dict[str, int]:
        """The recipients that were refused, with the codes, while others were taken."""
        server = self._server
        refused, _ = await aiosmtplib.send(
            message,
            sender=self._envelope.sender,
            recipients=list(self._envelope.recipients),
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            tls_context=self._tls_context,
            timeout=server.timeout_seconds,
        )
        return {address: response.code for address, response in refused.items()}


def _translated(error: Exception, server: SmtpServer) -> NexusError:
    """The platform's word for an error; never holds the user name or the password."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused(recipients=all_of_them):
            codes = {refusal.recipient: refusal.code for refusal in all_of_them}
            return _by_code(min(codes.values()), f"mail server {server} refused {_listed(codes)}")
        case aiosmtplib.SMTPAuthenticationError(code=code):
            return _by_code(
                code,
                f"mail server {server} refused the account ({code}): check user name and password",
            )
        case aiosmtplib.SMTPResponseException(code=code, message=text):
            said = " ".join(text.split())[:200]
            return _by_code(code, f"mail server {server} answered {code} {said}")
        case aiosmtplib.SMTPConnectError() | ssl.SSLError():
            return ServiceUnavailableError(f"mail server {server} can't be reached: {error}")
        case OSError():
            return TransientError(f"mail server {server} broke off: {error}")
        case _:
            return TerminalError(
                f"mail server {server}: {error} Check starttls, user name and port in the settings"
            )


def _by_code(code: int, reason: str) -> NexusError:
    """4xx is for now, 5xx for good (RFC 5321, section 4.2.1)."""
    return TransientError(reason, retry_after_seconds=60.0) if code < 500 else TerminalError(reason)


def _listed(codes: dict[str, int]) -> str:
    return ", ".join(f"{address} ({code})" for address, code in codes.items())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
