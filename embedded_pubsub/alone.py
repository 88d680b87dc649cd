"""A server that is all that its process does: quick to start, and sparing with the collector.

Importing this is for such a process only: `google.pubsub_v1` can give no clients from then on.
"""

import asyncio
import gc
import json
import signal
import sys
from pathlib import Path

from embedded_pubsub.slim import leave_out_clients

leave_out_clients()

from embedded_pubsub.server import Server  # noqa: E402 - without the clients, as said above

COLLECT_EVERY_SECONDS = 600.0
YOUNG_OBJECTS = 10_000


def serve_alone(
    *,
    host: str,
    port: int,
    rest_port: int | None,
    data_dir: Path | None,
    allow_remote: bool,
    fsync: bool,
) -> None:
    """Serve until SIGTERM or SIGINT; the arguments are those of `Server`.

    Prints a line of JSON when it is ready: `{"grpc": "host:port", "rest": "host:port" or null}`.

    Raises:
        DataDirError: The folder can't be used.
        OSError: The address can't be listened on.
        ValueError: The address is not loopback, and `allow_remote` is not set.
    """
    _collect_rarely()
    server = Server(
        port, data_dir, host, rest_port=rest_port, allow_remote=allow_remote, fsync=fsync
    )
    asyncio.run(_serve(server))


def _collect_rarely() -> None:
    """Keep the garbage collector off what lives long, for a process that does nothing else.

    Messages come and go by their reference counts. Looking for cycles among those that wait costs
    a quarter of the time per message, and more with every message of backlog.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 5, 10_000)


async def _serve(server: Server) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    collector = asyncio.create_task(_collect())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with server:
        sys.stdout.write(json.dumps({"grpc": server.target, "rest": server.rest_target}) + "\n")
        sys.stdout.flush()
        await stopping.wait()
    collector.cancel()


async def _collect() -> None:
    while True:
        await asyncio.sleep(COLLECT_EVERY_SECONDS)
        gc.collect()
