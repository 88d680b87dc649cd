"""Where the bus is: the server that the environment names, else one embedded in this home."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from embedded_pubsub import DataDirError, DataDirInUseError, Server
from infra.errors import ServiceUnavailableError, SettingsError
from infra.settings import Settings

ENDPOINT = "endpoint"
JOIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class BusAddress:
    """``emulator_host`` is None for Cloud Pub/Sub itself."""

    project: str
    emulator_host: str | None


@asynccontextmanager
async def bus_address(settings: Settings) -> AsyncIterator[BusAddress]:
    """The bus, kept running while the context lasts if it is embedded.

    The first process of a home runs the server, durable in ``home/pubsub``; others that come
    meanwhile join it.

    Raises:
        ServiceUnavailableError: Another process holds the home's server but does not answer.
        SettingsError: The home can't keep the server's data.
    """
    project = os.environ.get("GOOGLE_CLOUD_PROJECT", settings.project)
    given = os.environ.get("PUBSUB_EMULATOR_HOST")
    if given or settings.pubsub == "google":
        yield BusAddress(project, given)
        return
    folder = settings.home / "pubsub"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        server = await _started(folder)
    except DataDirInUseError:
        yield BusAddress(project, await _endpoint_of_other(folder))
        return
    except DataDirError as error:
        raise SettingsError(f"the embedded bus can't start: {error}") from error
    try:
        (folder / ENDPOINT).write_text(server.target)
        yield BusAddress(project, server.target)
    finally:
        await server.stop()


async def _started(folder: Path) -> Server:
    """A server at the port of the home's last one, where those that had joined it still look."""
    try:
        server = Server(port=_last_port(folder), data_dir=folder)
        await server.start()
    except OSError:
        server = Server(port=0, data_dir=folder)
        await server.start()
    return server


def _last_port(folder: Path) -> int:
    with suppress(OSError, ValueError):
        return int((folder / ENDPOINT).read_text().rpartition(":")[2])
    return 0


async def _endpoint_of_other(folder: Path) -> str:
    """Where the holder of the folder listens.

    The file may be that of a server that was killed, or not be written yet: it counts once
    somebody answers there.
    """
    try:
        async with asyncio.timeout(JOIN_SECONDS):
            while True:
                with suppress(OSError, ValueError):
                    target = (folder / ENDPOINT).read_text()
                    host, _, port = target.rpartition(":")
                    _, writer = await asyncio.open_connection(host, int(port))
                    writer.close()
                    return target
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise ServiceUnavailableError(
            f"another process holds {folder} but does not answer: "
            "wait for it to start or to end, then try again"
        ) from None
