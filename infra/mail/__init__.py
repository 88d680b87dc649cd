"""Adapters of the mail port: a Maildir, and a server by SMTP."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from infra.errors import SettingsError
from infra.mail.maildir import MaildirMailer
from infra.mail.message import Envelope
from infra.mail.smtp import Security, SmtpMailer, SmtpServer
from infra.ports import Clock, Mailer

__all__ = ["Envelope", "MaildirMailer", "SmtpMailer", "SmtpServer", "open_mailer"]

_FORMS = (
    "maildir:///folder, smtp://user:password@host:port?starttls=true or "
    "smtps://user:password@host:port"
)


def _now() -> datetime:
    return datetime.now(UTC)


def open_mailer(url: str, *, sender: str, recipients: Sequence[str], clock: Clock = _now) -> Mailer:
    """The mailer of a URL; user name and password are percent-encoded in it.

    ``starttls`` (for ``smtp``, true unless said otherwise) and ``cafile`` (a PEM file of
    certificates to trust) are its options.

    Raises:
        SettingsError: The URL, an option or an address can't be used. No text of it holds the
            password.
    """
    envelope = Envelope(sender, tuple(recipients))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingsError(f"mail is no URL, or its port is no number: give {_FORMS}") from None
    match parts.scheme:
        case "maildir" if parts.path.startswith("/") and not parts.netloc and not parts.query:
            return MaildirMailer(Path(unquote(parts.path)), envelope, clock)
        case "smtp" | "smtps" if parts.hostname and parts.path in {"", "/"}:
            return SmtpMailer(_server(parts, parts.hostname, port), envelope, clock)
        case _:
            raise SettingsError(f"mail has another scheme or lacks a part: give {_FORMS}")


def _server(parts: SplitResult, host: str, port: int | None) -> SmtpServer:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = {"cafile"} if parts.scheme == "smtps" else {"cafile", "starttls"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise SettingsError(
            f"mail has the option {unknown[0]!r}: {parts.scheme} knows {', '.join(sorted(known))}"
        )
    return SmtpServer(
        host,
        port or (465 if parts.scheme == "smtps" else 587),
        security=_security(parts.scheme, options.get("starttls", "true")),
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        cafile=Path(options["cafile"]) if "cafile" in options else None,
    )


def _security(scheme: str, starttls: str) -> Security:
    match scheme, starttls:
        case "smtps", _:
            return "tls"
        case _, "true":
            return "starttls"
        case _, "false":
            return "none"
        case _:
            raise SettingsError(f"mail starttls is {starttls!r}: give true or false")
