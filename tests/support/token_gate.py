"""TLS in front of a Pub/Sub server, for those who bring the token of the hour."""

import asyncio
import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from typing import Any, Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class TokenGate(grpc.GenericRpcHandler):
    """Passes calls on to a server, as long as their token is the one that is valid now.

    Attributes:
        token: The valid one.
        refused: How many calls came without it.
        root_certificates: Whom to trust, PEM.
        target: Where to connect.
    """

    def __init__(self, target: str) -> None:
        self._upstream = grpc.aio.insecure_channel(target)
        key, self.root_certificates = _certificate()
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        credentials = grpc.ssl_server_credentials([(key, self.root_certificates)])
        self.target = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._end = asyncio.Event()
        self.token = ""
        self.refused = 0

    def end_streams(self) -> None:
        """End all that are open."""
        self._end.set()
        self._end = asyncio.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        path = handler_call_details.method
        given = dict(handler_call_details.invocation_metadata).get("authorization")
        if path.endswith("/StreamingPull"):
            return grpc.stream_stream_rpc_method_handler(self._stream(path, given))
        return grpc.unary_unary_rpc_method_handler(self._unary(path, given))

    def _unary(self, path: str, given: str | None) -> Any:
        call = self._upstream.unary_unary(path)

        async def handle(request: bytes, context: Any) -> bytes:
            await self._check(given, context)
            try:
                return await call(request)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details())
                raise

        return handle

    def _stream(self, path: str, given: str | None) -> Any:
        call = self._upstream.stream_stream(path)

        async def handle(requests: AsyncIterator[bytes], context: Any) -> None:
            await self._check(given, context)
            upstream = call(requests)
            passing = asyncio.create_task(_pass(upstream, context))
            ending = asyncio.create_task(self._end.wait())
            await asyncio.wait([passing, ending], return_when=asyncio.FIRST_COMPLETED)
            upstream.cancel()
            if ending.done():
                passing.cancel()
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream has had its time")
            ending.cancel()

        return handle

    async def _check(self, given: str | None, context: Any) -> None:
        if given != f"Bearer {self.token}":
            self.refused += 1
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{given} is not valid")

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end_streams()
        await self._server.stop(None)
        await self._upstream.close()


async def _pass(upstream: Any, context: Any) -> None:
    async for response in upstream:
        await context.write(response)


def _certificate() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)
