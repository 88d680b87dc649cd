"""gRPC: which method of which service is served by what, and errors as statuses."""

from collections.abc import AsyncIterator, Iterable
from typing import NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from embedded_pubsub import protos
from embedded_pubsub.errors import InvalidArgumentError, PubSubError
from embedded_pubsub.methods import Method
from embedded_pubsub.protos import Proto
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.statuses import status_of
from embedded_pubsub.streaming import Stream

Context: TypeAlias = grpc.aio.ServicerContext


def handlers(runtime: Runtime, served: Iterable[Method]) -> list[grpc.GenericRpcHandler]:
    """Give the handlers of all that is served, and one that refuses the rest.

    Args:
        runtime: The running state machine.
        served: Its unary methods.
    """
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for method in served:
        services.setdefault(method.service, {})[method.name] = _unary(method)
    services["google.pubsub.v1.Subscriber"]["StreamingPull"] = _streaming_pull(runtime)
    generic = [grpc.method_handlers_generic_handler(*service) for service in services.items()]
    return [*generic, _Unserved()]


class _Unserved(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc comes without types
    """Answers every other method with UNIMPLEMENTED and a word on why."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method

        async def refuse(_: bytes, context: Context) -> NoReturn:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, f"{method} is not served by embedded_pubsub."
            )
            raise AssertionError("abort raises")

        return grpc.unary_unary_rpc_method_handler(refuse)


def _unary(method: Method) -> grpc.RpcMethodHandler:
    call = method.call

    async def handle(data: bytes, context: Context) -> Proto | bytes:
        try:
            return await call(_parse(method.request, data), context.time_remaining())
        except PubSubError as error:
            await _abort(context, error)

    return grpc.unary_unary_rpc_method_handler(handle, None, _serialize)


def _streaming_pull(runtime: Runtime) -> grpc.RpcMethodHandler:
    async def handle(data: AsyncIterator[bytes], context: Context) -> None:
        try:
            requests = _parsed(data)
            first = await anext(requests, None)
            if first is None:
                raise InvalidArgumentError("subscription: the stream ended without a request.")
            await Stream(runtime, first).run(requests, context)
        except PubSubError as error:
            await _abort(context, error)

    return grpc.stream_stream_rpc_method_handler(handle)


async def _parsed(requests: AsyncIterator[bytes]) -> AsyncIterator[Proto]:
    async for data in requests:
        yield _parse(protos.StreamingPullRequest, data)


def _parse(kind: type[Proto], data: bytes) -> Proto:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidArgumentError(f"The request is no {kind.__name__}: {error}.") from error


def _serialize(message: Proto | bytes) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())


async def _abort(context: Context, error: PubSubError) -> NoReturn:
    status = status_of(error)
    trailers: tuple[tuple[str, bytes], ...] = ()
    if status.details:
        trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(grpc.StatusCode[error.code], str(error), trailers)
    raise AssertionError("abort raises")
