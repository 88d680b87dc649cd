"""Every adapter of the mail port, with a way to see what arrived."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from infra.mail import open_mailer
from infra.ports import Mailer

SENDER = "nexus@example.org"
RECIPIENTS = ("ops@example.org", "audit@example.org")
WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
ACCOUNT = ("ops user", "p@ss:w/rd%1")


@dataclass
class MailServer:
    """An SMTP server's handler: keeps what it takes, and answers as it is told."""

    port: int = 0
    taken: list[tuple[tuple[str, ...], bytes]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    recipient_answers: dict[str, str] = field(default_factory=dict)
    data_answer: str = "250 OK"
    encrypted: list[bool] = field(default_factory=list)

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - aiosmtpd's name
        answer = self.recipient_answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        if self.data_answer.startswith("250"):
            self.taken.append((tuple(envelope.rcpt_tos), envelope.original_content))
            self.encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        return self.data_answer

    def login(self, _server, _session, _envelope, _mechanism, data):
        given = (data.login.decode(), data.password.decode())
        self.logins.append(given)
        return AuthResult(success=given == ACCOUNT, handled=False)

    def messages(self) -> list[EmailMessage]:
        return [message_from_bytes(data, policy=policy.default) for _, data in self.taken]


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1, as files."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Certificate:
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    found = Certificate(folder / "certificate.pem", folder / "key.pem")
    found.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return found


@asynccontextmanager
async def serving(
    *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, auth: bool = False
) -> AsyncIterator[MailServer]:
    handler = MailServer()
    sessions: list[SMTP] = []

    def protocol() -> SMTP:
        session = SMTP(
            handler,
            hostname="localhost",
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=handler.login if auth else None,
            auth_required=auth and starttls is not None,
            auth_require_tls=starttls is not None,
        )
        sessions.append(session)
        return session

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, ssl=tls)
    handler.port = server.sockets[0].getsockname()[1]
    try:
        yield handler
    finally:
        server.close()
        await asyncio.gather(*(hung_up(session) for session in sessions))


async def hung_up(session: SMTP) -> None:
    """End a connection that the client may have left open."""
    if session.transport is not None:
        session.transport.abort()
    if session._handler_coroutine is not None:
        await asyncio.wait([session._handler_coroutine])


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[MailServer]]]:
    async with AsyncExitStack() as stack:

        async def start(**options) -> MailServer:
            return await stack.enter_async_context(serving(**options))

        yield start


@pytest.fixture
def mailer_of() -> Callable[..., Mailer]:
    def opened(url: str, recipients: tuple[str, ...] = RECIPIENTS) -> Mailer:
        return open_mailer(url, sender=SENDER, recipients=recipients, clock=lambda: WHEN)

    return opened


@dataclass(frozen=True)
class Delivery:
    """A mailer and what arrived by it."""

    mailer: Mailer
    arrived: Callable[[], list[EmailMessage]]


def in_maildir(folder: Path) -> list[EmailMessage]:
    files = sorted((*folder.glob("new/*"), *folder.glob("cur/*")))
    return [message_from_bytes(path.read_bytes(), policy=policy.default) for path in files]


@pytest.fixture(params=["maildir", "smtp", "smtp-starttls", "smtp-starttls-login", "smtps-login"])
async def delivery(request, tmp_path, serve, certificate, mailer_of) -> Delivery:
    account, trust = "ops%20user:p%40ss%3Aw%2Frd%251@", f"cafile={certificate.certificate}"
    match request.param:
        case "maildir":
            folder = tmp_path / "some mail"
            url = folder.as_uri().replace("file:", "maildir:")
            return Delivery(mailer_of(url), lambda: in_maildir(folder))
        case "smtp":
            server = await serve()
            url = f"smtp://127.0.0.1:{server.port}?starttls=false"
        case "smtp-starttls":
            server = await serve(starttls=certificate.server_context())
            url = f"smtp://127.0.0.1:{server.port}?starttls=true&{trust}"
        case "smtp-starttls-login":
            server = await serve(starttls=certificate.server_context(), auth=True)
            url = f"smtp://{account}127.0.0.1:{server.port}?{trust}"
        case _:
            server = await serve(tls=certificate.server_context(), auth=True)
            url = f"smtps://{account}127.0.0.1:{server.port}?{trust}"
    return Delivery(mailer_of(url), server.messages)
