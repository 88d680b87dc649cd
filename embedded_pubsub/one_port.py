"""One port for gRPC and HTTP/1, as Google's emulator has it.

The first bytes of a connection tell which of them it speaks; from then on bytes are handed through.
"""

import asyncio
from typing import cast

_PREFACE = b"PRI * HTTP/2.0"
"""What every HTTP/2 connection begins with (RFC 9113, 3.4), and no HTTP/1 request does."""


class _End(asyncio.Protocol):
    """One of the two ends of a connection: what it receives goes out at the other."""

    other: "_End | None" = None
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return self.other is not None

    def connection_lost(self, _: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()


class _Client(_End):
    """The end of whoever connects."""

    def __init__(self, port: "OnePort") -> None:
        self._port = port
        self._first = b""
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._port.clients.add(self)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
            return
        self._first += data
        is_grpc = self._first.startswith(_PREFACE)
        if self._connecting is None and (is_grpc or not _PREFACE.startswith(self._first)):
            target = self._port.grpc_port if is_grpc else self._port.http_port
            self._connecting = asyncio.create_task(self._connect(target))

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._port.clients.discard(self)

    async def _connect(self, port: int) -> None:
        self.transport.pause_reading()
        try:
            loop = asyncio.get_running_loop()
            _, server = await loop.create_connection(_End, "127.0.0.1", port)
        except OSError:
            self.transport.close()
            return
        server.other, self.other = self, server
        server.transport.write(self._first)
        if self.transport.is_closing():
            server.transport.close()
        else:
            self.transport.resume_reading()


class OnePort:
    """A port in front of two servers on loopback.

    Args:
        grpc_port: Where connections in HTTP/2 go.
        http_port: Where all others go.
    """

    def __init__(self, grpc_port: int, http_port: int) -> None:
        self.grpc_port = grpc_port
        self.http_port = http_port
        self.clients: set[_Client] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError where that is not possible."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), host, port)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Let go of the port and of every connection."""
        if self._server is not None:
            self._server.close()
        for client in list(self.clients):
            client.transport.close()
