"""The server alone: `python -m embedded_pubsub --in-memory`."""

import argparse
import sys
from pathlib import Path

from embedded_pubsub.alone import serve_alone
from embedded_pubsub.errors import DataDirError


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit status is 2 where the arguments can't be served."""
    options = _parser().parse_args(arguments)
    try:
        serve_alone(
            host=options.host,
            port=options.port,
            rest_port=options.rest_port,
            data_dir=options.data_dir,
            allow_remote=options.allow_remote,
            fsync=not options.no_fsync,
        )
    except (DataDirError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m embedded_pubsub", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8085, help="0 takes a free one")
    parser.add_argument("--rest-port", type=int, help="serve REST there, may be --port")
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


if __name__ == "__main__":
    sys.exit(main())
