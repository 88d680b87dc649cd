"""Where the bus is: the server that the environment names, else one embedded in this home."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded_pubsub import DataDirError, Server
from infra.errors import ServiceUnavailableError
from infra.settings import Settings

ENDPOINT = "endpoint"


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
        ServiceUnavailableError: Another process holds the home's server but can't be found.
    """
    project = os.environ.get("GOOGLE_CLOUD_PROJECT", settings.project)
    given = os.environ.get("PUBSUB_EMULATOR_HOST")
    if given or settings.pubsub == "google":
        yield BusAddress(project, given)
        return
    folder = settings.home / "pubsub"
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(port=0, data_dir=folder)
    try:
        await server.start()
    except DataDirError:
        yield BusAddress(project, _endpoint_of_other(folder))
        return
    try:
        (folder / ENDPOINT).write_text(server.target)
        yield BusAddress(project, server.target)
    finally:
        (folder / ENDPOINT).unlink(missing_ok=True)
        await server.stop()


def _endpoint_of_other(folder: Path) -> str:
    try:
        return (folder / ENDPOINT).read_text()
    except FileNotFoundError:
        raise ServiceUnavailableError(
            f"another process holds {folder} but has not said where it listens: "
            "wait for it to start or to end, then try again"
        ) from None
