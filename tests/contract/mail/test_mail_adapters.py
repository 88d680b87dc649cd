"""What one adapter of the mail port does for its own part."""

import asyncio
import mailbox
import os
import socket
from contextlib import asynccontextmanager, closing

import pytest

from infra.errors import (
    NexusError,
    ServiceUnavailableError,
    SettingsError,
    TerminalError,
    TransientError,
)
from infra.mail import open_mailer
from infra.ports import Mail

MAIL = Mail("<alert-1@nexus.example.org>", "A sink was deleted", "x")
SECRET = "hunter2"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "mail"


@pytest.fixture
def maildir(folder, mailer_of):
    return mailer_of(f"maildir://{folder}")


async def test_a_mail_sent_again_is_there_once(maildir, folder):
    await asyncio.gather(*(maildir.send(MAIL) for _ in range(8)))
    await maildir.send(MAIL)

    assert len(list(folder.glob("new/*"))) == 1
    assert list(folder.glob("tmp/*")) == []


async def test_a_mail_that_was_read_is_not_delivered_again(maildir, folder):
    await maildir.send(MAIL)
    (path,) = folder.glob("new/*")
    path.rename(folder / "cur" / f"{path.name}:2,S")

    await maildir.send(MAIL)

    assert list(folder.glob("new/*")) == []
    assert len(list(folder.glob("cur/*"))) == 1


async def test_different_mails_are_different_files(maildir, folder):
    for index in range(3):
        await maildir.send(Mail(f"<alert-{index}@nexus>", "same", "same"))

    assert len(list(folder.glob("new/*"))) == 3


async def test_a_mail_program_reads_the_folder(maildir, folder):
    await maildir.send(MAIL)

    with closing(mailbox.Maildir(folder, create=False)) as box:
        (message,) = box
    assert message["Subject"] == "A sink was deleted"
    assert message.get_subdir() == "new"


async def test_a_mail_has_its_name_only_when_it_is_whole(maildir, folder, monkeypatch):
    sizes = []
    real = os.link

    def link(source, target):
        sizes.append(source.stat().st_size)
        assert source.parent == folder / "tmp"
        return real(source, target)

    monkeypatch.setattr(os, "link", link)
    await maildir.send(MAIL)

    (path,) = folder.glob("new/*")
    assert sizes == [path.stat().st_size]


async def test_a_folder_that_can_t_be_made_is_named(tmp_path, mailer_of):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ServiceUnavailableError, match=r"maildir .*file"):
        await mailer_of(f"maildir://{tmp_path}/file").send(MAIL)


async def test_mail_goes_to_all_recipients_in_one_envelope(serve, mailer_of):
    server = await serve()

    await mailer_of(f"smtp://127.0.0.1:{server.port}?starttls=false").send(MAIL)

    assert [to for to, _ in server.taken] == [("ops@example.org", "audit@example.org")]


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_an_encrypted_connection_is_encrypted(serve, mailer_of, certificate, security):
    server = await serve(**{security: certificate.server_context()})
    scheme = {"starttls": "smtp", "tls": "smtps"}[security]

    url = f"{scheme}://127.0.0.1:{server.port}?cafile={certificate.certificate}"
    await mailer_of(url).send(MAIL)

    assert server.encrypted == [True]


async def test_an_account_is_percent_decoded(serve, mailer_of, certificate):
    server = await serve(tls=certificate.server_context(), auth=True)
    account = "ops%20user:p%40ss%3Aw%2Frd%251"

    url = f"smtps://{account}@127.0.0.1:{server.port}?cafile={certificate.certificate}"
    await mailer_of(url).send(MAIL)

    assert server.logins == [("ops user", "p@ss:w/rd%1")]


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_that_nobody_vouches_for_is_refused(
    serve, mailer_of, certificate, security
):
    server = await serve(**{security: certificate.server_context()}, auth=True)
    scheme = {"starttls": "smtp", "tls": "smtps"}[security]

    with pytest.raises(ServiceUnavailableError, match=r"(?i)certificate") as refused:
        await mailer_of(f"{scheme}://u:{SECRET}@127.0.0.1:{server.port}").send(MAIL)

    assert (server.taken, server.logins) == ([], [])
    assert SECRET not in str(refused.value)


async def test_a_server_without_starttls_gets_nothing(serve, mailer_of):
    server = await serve()

    with pytest.raises(TerminalError, match="STARTTLS"):
        await mailer_of(f"smtp://127.0.0.1:{server.port}").send(MAIL)

    assert server.taken == []


async def test_a_refused_account_is_told_without_its_password(serve, mailer_of, certificate):
    server = await serve(starttls=certificate.server_context(), auth=True)
    url = f"smtp://ops:{SECRET}@127.0.0.1:{server.port}?cafile={certificate.certificate}"
    mailer = mailer_of(url)

    with pytest.raises(TerminalError, match="refused the account") as refused:
        await mailer.send(MAIL)

    assert ("ops", SECRET) in server.logins
    assert server.taken == []
    assert SECRET not in f"{refused.value}{refused.value.__cause__}{mailer.__dict__}"


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"ops": "550 no", "audit": "551 no"}, TerminalError),
        ({"ops": "550 no", "audit": "450 later"}, TransientError),
        ({"ops": "451 later", "audit": "452 later"}, TransientError),
    ],
)
async def test_recipients_that_are_all_refused_are_named(serve, mailer_of, answers, error):
    server = await serve()
    server.recipient_answers = {f"{who}@example.org": said for who, said in answers.items()}

    with pytest.raises(error) as refused:
        await mailer_of(f"smtp://127.0.0.1:{server.port}?starttls=false").send(MAIL)

    assert "ops@example.org" in str(refused.value)
    assert "audit@example.org" in str(refused.value)
    assert server.taken == []


async def test_one_refused_recipient_does_not_send_the_others_a_second(serve, mailer_of):
    server = await serve()
    server.recipient_answers = {"ops@example.org": "450 later"}

    with pytest.raises(TerminalError, match=r"ops@example.org \(450\); the other"):
        await mailer_of(f"smtp://127.0.0.1:{server.port}?starttls=false").send(MAIL)

    assert [to for to, _ in server.taken] == [("audit@example.org",)]


@pytest.mark.parametrize(
    ("answer", "error"), [("451 try later", TransientError), ("554 no", TerminalError)]
)
async def test_an_answer_to_the_message_decides_on_another_try(serve, mailer_of, answer, error):
    server = await serve()
    server.data_answer = answer

    with pytest.raises(error, match=answer):
        await mailer_of(f"smtp://127.0.0.1:{server.port}?starttls=false").send(MAIL)


async def test_no_server_is_unavailable(mailer_of):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    with pytest.raises(ServiceUnavailableError, match=f"127.0.0.1:{port}") as refused:
        await mailer_of(f"smtp://u:{SECRET}@127.0.0.1:{port}?starttls=false").send(MAIL)

    assert SECRET not in str(refused.value)


@asynccontextmanager
async def scripted(lines):
    """The port of a server that says each line after one of the client's, then hangs up."""
    talks = []

    async def talk(reader, writer):
        talks.append(asyncio.current_task())
        for line in lines:
            writer.write(line)
            await writer.drain()
            await reader.readline()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*talks)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([], ServiceUnavailableError),
        ([b"421 too busy\r\n"], TransientError),
        ([b"554 go away\r\n"], TerminalError),
        ([b"220 hello\r\n"], TransientError),
        ([b"220 hello\r\n", b"250 hello\r\n"], TransientError),
        ([b"220 hello\r\n", b"250 hello\r\n", b"250 ok\r\n", b"250 ok\r\n"], TransientError),
    ],
)
async def test_a_server_that_hangs_up_may_be_tried_again(mailer_of, lines, error):
    async with scripted(lines) as port:
        with pytest.raises(NexusError) as broken:
            await mailer_of(f"smtp://127.0.0.1:{port}?starttls=false").send(MAIL)

    assert type(broken.value) is error, broken.value


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail",
        "maildir://host/folder",
        "maildir:relative",
        "maildir:///folder?x=1",
        f"http://u:{SECRET}@host",
        f"smtp://u:{SECRET}@",
        f"smtp://u:{SECRET}@host:port",
        f"smtp://u:{SECRET}@host:99999",
        f"smtp://u:{SECRET}@[::1",
        f"smtp://u:{SECRET}@host/path",
        f"smtp://u:{SECRET}@host?starttls=maybe",
        f"smtp://u:{SECRET}@host?startls=true",
        f"smtps://u:{SECRET}@host?starttls=true",
        f"smtp://u:{SECRET}@host?starttls=false",
        f"smtp://u:{SECRET}@host?cafile=/does/not/exist.pem",
    ],
)
def test_a_url_that_can_t_be_used_is_told_without_its_password(url):
    with pytest.raises(SettingsError, match=r"^mail ") as refused:
        open_mailer(url, sender="a@example.org", recipients=["b@example.org"])

    assert SECRET not in f"{refused.value}{refused.value.__cause__}"


@pytest.mark.parametrize("address", ["", "a", "a@b\nBcc: c@d", "A <a@b>", "ä@b", "a@b,c@d", "a@ b"])
def test_an_address_that_is_none_is_refused_with_its_text(address):
    with pytest.raises(SettingsError, match="mail sender") as refused:
        open_mailer("maildir:///x", sender=address, recipients=["b@example.org"])
    assert repr(address) in str(refused.value)
    with pytest.raises(SettingsError, match="mail recipients"):
        open_mailer("maildir:///x", sender="a@b", recipients=["b@example.org", address])


def test_nobody_to_write_to_is_refused():
    with pytest.raises(SettingsError, match="recipients is empty"):
        open_mailer("maildir:///x", sender="a@b", recipients=[])
