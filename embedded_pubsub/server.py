"""The server: a store, a state machine that runs, and gRPC in front."""

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc.aio

from embedded_pubsub.methods import Method, methods, rest_methods
from embedded_pubsub.one_port import OnePort
from embedded_pubsub.push import Pushes
from embedded_pubsub.rpc import handlers
from embedded_pubsub.runtime import Clock, Runtime
from embedded_pubsub.store import MemoryStore, SqliteStore, Store

if TYPE_CHECKING:
    from embedded_pubsub.rest import RestServer

MAX_RECEIVE_BYTES = 12 * 1024 * 1024
"""Above the 10 MB that a request may have, so that a slightly larger one is told the limit."""

CLOSE_SECONDS = 1.0

KEEPALIVE_MILLISECONDS = 60_000
PING_TIMEOUT_MILLISECONDS = 20_000
"""A client that answers no ping for that long is gone, even if nobody closed its connection."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", KEEPALIVE_MILLISECONDS),
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MILLISECONDS),
    ("grpc.http2.max_ping_strikes", 0),
)


class Server:
    """A Google Cloud Pub/Sub server in this process.

    Args:
        port: Where to listen; 0 takes a free port.
        data_dir: The folder to keep everything in; None keeps it in memory only.
        host: The address to listen on.
        rest_port: Where to serve REST and the state's page; 0 takes a free port, None serves none.
            It may be `port` itself: one port then serves both, as that of Google's emulator does.
        allow_remote: Must be True for a host that is not loopback. Nothing asks for credentials.
        fsync: With `data_dir`: whether an acknowledged publish survives a power cut (True), or
            only the death of the process.

    Raises:
        ValueError: The host is not loopback and `allow_remote` is not set.
    """

    def __init__(
        self,
        port: int = 0,
        data_dir: Path | str | None = None,
        host: str = "127.0.0.1",
        *,
        rest_port: int | None = None,
        allow_remote: bool = False,
        fsync: bool = True,
    ) -> None:
        if not (allow_remote or _is_loopback(host)):
            raise ValueError(
                f"host: {host!r} is not loopback, and the server asks nobody for credentials. "
                "Set allow_remote (--allow-remote) to listen there all the same."
            )
        self._port = port
        self._data_dir = Path(data_dir) if data_dir is not None else None
        self._host = host
        self._fsync = fsync
        self._runtime: Runtime | None = None
        self._grpc: grpc.aio.Server | None = None
        self._bound_port = 0
        self._pushes: Pushes | None = None
        self._rest_port = rest_port
        self._rest: RestServer | None = None
        self._one_port: OnePort | None = None

    @property
    def target(self) -> str:
        """The address to connect to, `host:port`; also what `PUBSUB_EMULATOR_HOST` wants."""
        if self._grpc is None:
            raise RuntimeError("The server is not running; enter it with `async with` first.")
        return f"{_in_url(self._host)}:{self._port if self._one_port else self._bound_port}"

    @property
    def rest_target(self) -> str | None:
        """The address of the REST endpoint, `host:port`; None where it is not served."""
        if self._rest is None:
            return None
        return self.target if self._one_port else f"{_in_url(self._host)}:{self._rest.port}"

    async def start(self) -> None:
        """Open the store and listen.

        Raises:
            DataDirInUseError: Another server has the folder open.
            DataDirError: The folder can't be used.
            OSError: The address can't be listened on.
        """
        runtime = Runtime(self._open_store(), Clock())
        served = methods(runtime)
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers(handlers(runtime, served))
        try:
            await self._listen(server, runtime, served)
        except OSError:
            await self._close_ports()
            await server.stop(None)
            await runtime.close()
            raise
        await server.start()
        runtime.start()
        self._pushes = Pushes(runtime)
        self._pushes.start()
        self._runtime, self._grpc = runtime, server

    async def stop(self) -> None:
        """End all streams, finish the calls that run, and close the store."""
        if self._grpc is None or self._runtime is None:
            return
        server, runtime = self._grpc, self._runtime
        self._grpc = self._runtime = None
        runtime.end_feeds()
        await self._close_ports()
        if self._pushes is not None:
            await self._pushes.close()
        await server.stop(CLOSE_SECONDS)
        if self._one_port is not None:
            self._one_port.close()
            self._one_port = None
        await runtime.close()

    async def clear(self, project: str) -> None:
        """Delete all topics, subscriptions, snapshots and schemas of a project, given its id."""
        if self._runtime is None:
            raise RuntimeError("The server is not running; enter it with `async with` first.")
        state = self._runtime.state
        await self._runtime.call(lambda _: state.clear(f"projects/{project}"))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _listen(
        self, server: grpc.aio.Server, runtime: Runtime, served: Sequence[Method]
    ) -> None:
        if self._rest_port != self._port or self._port == 0:
            self._bound_port = _listen(server, self._host, self._port)
            if self._rest_port is not None:
                self._rest = _rest_server(runtime, served, self._host, self._rest_port)
            return
        self._bound_port = _listen(server, "127.0.0.1", 0)
        self._rest = _rest_server(runtime, served, "127.0.0.1", 0)
        one_port = OnePort(self._bound_port, self._rest.port)
        try:
            await one_port.start(self._host, self._port)
        except OSError as error:
            raise OSError(f"{self._host}:{self._port}: can't listen there: {error}") from error
        self._one_port = one_port

    async def _close_ports(self) -> None:
        if self._rest is not None:
            await self._rest.close()
            self._rest = None

    def _open_store(self) -> Store:
        if self._data_dir is None:
            return MemoryStore()
        return SqliteStore(self._data_dir, fsync=self._fsync)


def _listen(server: grpc.aio.Server, host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # gRPC would only say that it failed, and that twice.
        socket.create_server((host, port), family=family).close()
        return int(server.add_insecure_port(f"{_in_url(host)}:{port}"))
    except (OSError, RuntimeError) as error:
        raise OSError(f"{host}:{port}: can't listen there: {error}") from error


def _rest_server(runtime: Runtime, served: Sequence[Method], host: str, port: int) -> "RestServer":
    # Loaded where it is asked for: HTTP doubles the time that it takes to start.
    from embedded_pubsub.rest import RestServer, application  # noqa: PLC0415 - as said above

    try:
        return RestServer(application(runtime, [*served, *rest_methods(runtime)]), host, port)
    except OSError as error:
        raise OSError(f"{host}:{port}: can't listen there: {error}") from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
