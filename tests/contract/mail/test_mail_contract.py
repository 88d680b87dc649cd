"""What every adapter of the mail port does."""

import pytest

from infra.errors import TerminalError
from infra.ports import Mail

MAIL = Mail("<alert-1@nexus.example.org>", "A sink was deleted", "Line one\nLine two\n")


async def test_a_mail_arrives_as_it_was_sent(delivery):
    await delivery.mailer.send(MAIL)

    (message,) = delivery.arrived()
    assert message["Subject"] == "A sink was deleted"
    assert message["Message-ID"] == "<alert-1@nexus.example.org>"
    assert message["From"] == "nexus@example.org"
    assert message["To"] == "ops@example.org, audit@example.org"
    assert message["Date"].datetime.isoformat() == "2026-01-02T03:04:05+00:00"
    assert message.get_content_type() == "text/plain"
    assert message.get_content().splitlines() == ["Line one", "Line two"]


@pytest.mark.parametrize("subject", ["Größe 数 🔔", "é" * 300, "a " * 600, ""])
async def test_any_subject_arrives(delivery, subject):
    await delivery.mailer.send(Mail("<a@b>", subject, "x"))

    (message,) = delivery.arrived()
    assert message["Subject"].split() == subject.split()


@pytest.mark.parametrize(
    "body", ["", "ünï\n", "x" * 5000, ".\n.\nQUIT\n", "From me\n", "tail\udc80", "a\r\nb\rc\x00"]
)
async def test_any_body_arrives_and_ends_nothing_early(delivery, body):
    await delivery.mailer.send(Mail("<a@b>", "s", body + "\nend"))

    (message,) = delivery.arrived()
    sent = f"{body}\nend".replace("\udc80", "?")
    assert message.get_content().splitlines() == sent.splitlines()


@pytest.mark.parametrize("break_", ["\n", "\r", "\r\n", "\n ", "\u2028", "\x0b", "\x00", "\x85"])
async def test_what_somebody_else_wrote_can_add_no_header(delivery, break_):
    text = f"sink{break_}Bcc: thief@example.net{break_}{break_}body"

    await delivery.mailer.send(Mail("<a@b>", text, "x", {"X-Nexus-Rule": text}))

    (message,) = delivery.arrived()
    assert message["Subject"] == "sink Bcc: thief@example.net body"
    assert message["X-Nexus-Rule"] == "sink Bcc: thief@example.net body"
    assert message["Bcc"] is None
    assert message.get_content().strip() == "x"


async def test_headers_of_a_mail_arrive(delivery):
    headers = {"X-Nexus-Rule": "sink-deleted", "References": "<a@b>"}

    await delivery.mailer.send(Mail("<c@b>", "s", "x", headers))

    (message,) = delivery.arrived()
    assert {name: message[name] for name in headers} == headers


@pytest.mark.parametrize("header", ["Bcc", "from", "X Y", "X:Y", "", "X\n", "é", "Subject"])
async def test_a_header_that_is_not_the_caller_s_is_refused(delivery, header):
    with pytest.raises(TerminalError, match="has a header"):
        await delivery.mailer.send(Mail("<a@b>", "s", "x", {header: "v"}))
    assert delivery.arrived() == []


@pytest.mark.parametrize("message_id", ["", "a@b", "<a>", "<a@b>\n", "<a b@c>", "<a@b\nBcc: x@y>"])
async def test_a_message_id_that_is_none_is_refused(delivery, message_id):
    with pytest.raises(TerminalError, match="message_id is"):
        await delivery.mailer.send(Mail(message_id, "s", "x"))
    assert delivery.arrived() == []
