"""The server alone: `python -m embedded_pubsub --in-memory`."""

import argparse
import asyncio
import gc
import json
import signal
import sys
from pathlib import Path

from embedded_pubsub.errors import DataDirError
from embedded_pubsub.slim import leave_out_clients

leave_out_clients()

from embedded_pubsub.server import Server  # noqa: E402 - without the clients, as said above

COLLECT_EVERY_SECONDS = 600.0
YOUNG_OBJECTS = 10_000


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit status is 2 where the arguments can't be served."""
    options = _parser().parse_args(arguments)
    collect_rarely()
    try:
        server = Server(
            port=options.port,
            data_dir=options.data_dir,
            host=options.host,
            rest_port=options.rest_port,
            allow_remote=options.allow_remote,
            fsync=not options.no_fsync,
        )
        asyncio.run(_serve(server))
    except (DataDirError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def collect_rarely() -> None:
    """Keep the garbage collector off what lives long, for a process that does nothing else.

    Messages come and go by their reference counts. Looking for cycles among those that wait costs
    a quarter of the time per message, and more with every message of backlog.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 5, 10_000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m embedded_pubsub", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8085, help="0 takes a free one")
    parser.add_argument("--rest-port", type=int, help="serve REST there; 0 takes a free one")
    parser.add_argument(
        "--allow-remote", action="store_true", help="listen on an address that is not loopback"
    )
    parser.add_argument(
        "--no-fsync", action="store_true", help="survive the process, not a power cut"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data-dir", type=Path, help="folder to keep everything in")
    where.add_argument("--in-memory", action="store_true", help="keep nothing")
    return parser


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


if __name__ == "__main__":
    sys.exit(main())
