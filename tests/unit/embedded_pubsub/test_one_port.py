"""One port for two servers: bytes go through whole, and no faster than they are read."""

import asyncio

from embedded_pubsub.one_port import OnePort

CHUNK = b"z" * 65_536
CHUNKS = 1024


async def test_who_does_not_read_stops_who_writes():
    sent = 0

    async def pour(reader, writer):
        nonlocal sent
        await reader.read(1)
        for _ in range(CHUNKS):
            writer.write(CHUNK)
            await writer.drain()
            sent += 1
        writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    behind = server.sockets[0].getsockname()[1]
    port = OnePort(grpc_port=1, http_port=behind)
    await port.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    writer.write(b"GET / HTTP/1.1\r\n")
    await asyncio.sleep(0.5)
    assert 0 < sent < CHUNKS / 2
    received = 0
    while data := await reader.read(1 << 20):
        received += len(data)
    assert received == CHUNKS * len(CHUNK)
    writer.close()
    port.close()
    server.close()


async def test_server_that_is_gone_ends_the_connection():
    port = OnePort(grpc_port=1, http_port=1)
    await port.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    writer.write(b"GET / HTTP/1.1\r\n")
    assert await reader.read() == b""
    writer.close()
    port.close()
