"""Mail into a Maildir: a folder that mail programs read, one file per message."""

import asyncio
import hashlib
from pathlib import Path

from infra.errors import ServiceUnavailableError
from infra.mail.message import Envelope, compose
from infra.objects.files import create_once, make_folder
from infra.ports import Clock, Mail


class MaildirMailer:
    """Delivers each message once, however often it is sent; see ``infra.ports.Mailer``.

    The file's name is a hash of the message id, so that a message that is there, read (moved to
    ``cur``) or not, is found. One that its reader has deleted would be delivered again.
    """

    def __init__(self, folder: Path, envelope: Envelope, clock: Clock) -> None:
        self._folder = folder
        self._envelope = envelope
        self._clock = clock

    async def send(self, mail: Mail) -> None:
        """Deliver one message, unless it is there.

        Raises:
            TerminalError: The message can't be written down as mail.
            ServiceUnavailableError: The folder can't be written.
        """
        message = compose(mail, self._envelope, self._clock())
        try:
            await asyncio.to_thread(self._deliver, mail.message_id, bytes(message))
        except OSError as error:
            raise ServiceUnavailableError(f"maildir {self._folder}: {error.strerror}") from error

    def _deliver(self, message_id: str, data: bytes) -> None:
        name = f"{hashlib.sha256(message_id.encode()).hexdigest()[:32]}.nexus"
        for part in ("tmp", "new", "cur"):
            make_folder(self._folder / part)
        # A reader moves from new to cur, so looking in this order misses nothing.
        if any(self._folder.glob(f"new/{name}*")) or any(self._folder.glob(f"cur/{name}*")):
            return
        create_once(self._folder / "new" / name, data, staging=self._folder / "tmp")
