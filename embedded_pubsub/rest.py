"""REST/JSON as the official clients and gcloud speak it, and a page that shows the server's state.

Source: Cloud Pub/Sub REST reference; the JSON mapping of protocol buffers; Google's API
Improvement Proposals 127 (HTTP bindings) and 193 (errors).
"""

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import uvicorn
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import Default as DefaultPool
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from embedded_pubsub.errors import InvalidArgumentError, NotFoundError, PubSubError
from embedded_pubsub.methods import Http, Method
from embedded_pubsub.overview import as_html, overview
from embedded_pubsub.protos import Proto
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.statuses import status_of

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Above what 10 MB are in base64, so that a slightly larger request is told the limit."""

_STATUS = {
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "OUT_OF_RANGE": HTTPStatus.BAD_REQUEST,
    "FAILED_PRECONDITION": HTTPStatus.BAD_REQUEST,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "ALREADY_EXISTS": HTTPStatus.CONFLICT,
    "ABORTED": HTTPStatus.CONFLICT,
    "RESOURCE_EXHAUSTED": HTTPStatus.TOO_MANY_REQUESTS,
    "UNIMPLEMENTED": HTTPStatus.NOT_IMPLEMENTED,
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
}
_SYSTEM_PARAMETERS = frozenset({
    "$.xgafv", "$alt", "access_token", "alt", "callback", "fields", "key", "oauth_token",
    "prettyPrint", "quotaUser", "uploadType", "upload_protocol",
})  # fmt: skip
_MASK_NAMES = ("updateMask", "update_mask")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_VARIABLE = re.compile(r"\{([^=]+)=([^}]+)\}")


class _Binding:
    """One HTTP binding of a method: the path it matches, and how a request is put together."""

    def __init__(self, method: Method, http: Http) -> None:
        variable = _VARIABLE.match(http.path)
        if variable is None:
            raise ValueError(f"{http.path}: a binding starts with a variable.")
        self.method = method
        self.verb = http.verb
        self.body = http.body
        self.is_verb = ":" in http.path[variable.end() :]
        self._field = variable[1]
        project, *rest = variable[2].split("*")
        name = re.escape(project) + "[^/]+".join(map(re.escape, ["", *rest]))
        self._path = re.compile(f"/v1/({name}){re.escape(http.path[variable.end() :])}")

    def match(self, path: str) -> str | None:
        """Give the resource that a path names."""
        match = self._path.fullmatch(path)
        return match[1] if match else None

    def request(self, resource: str, query: Iterable[tuple[str, str]], body: bytes) -> Proto:
        """Put the method's request together.

        Raises:
            InvalidArgumentError: The body or the query is not of the request.
        """
        request = self.method.request()
        target = getattr(request, self.body) if self.body not in {"", "*"} else request
        try:
            if self.body:
                _fill(target, _object(body))
            if self.body != "*":
                _fill(request, _nested(query))
        except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
            raise InvalidArgumentError(f"Invalid JSON payload received: {error}") from error
        *parents, field = self._field.split(".")
        owner = request
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, field, resource)
        return request


def _fill(message: Proto, document: dict[str, Any]) -> None:
    mask = next((name for name in _MASK_NAMES if isinstance(document.get(name), str)), None)
    if mask is not None:
        # The JSON mapping has camel case here, but the service takes both.
        document[mask] = re.sub("_([a-z])", lambda found: found[1].upper(), document[mask])
    _check_base64(message.DESCRIPTOR, document)
    json_format.ParseDict(document, message)


def _check_base64(kind: Descriptor, document: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    """Refuse bytes that are not base64, which the parser would read in part."""
    if not isinstance(document, dict):
        return
    for name, value in document.items():
        field = kind.fields_by_camelcase_name.get(name) or kind.fields_by_name.get(name)
        if field is None or (field.message_type is None and field.type != field.TYPE_BYTES):
            continue
        for each in value if isinstance(value, list) else [value]:
            if field.message_type is not None:
                _check_base64(field.message_type, each)
            elif isinstance(each, str) and not _BASE64.fullmatch(each):
                raise ValueError(f"{name}: {each[:100]!r} is not base64.")


def _object(body: bytes) -> dict[str, Any]:
    document = json.loads(body or b"{}")
    if not isinstance(document, dict):
        raise TypeError("the body must be a JSON object.")
    return document


def _nested(query: Iterable[tuple[str, str]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in query:
        if name in _SYSTEM_PARAMETERS:
            continue
        *parents, field = name.split(".")
        owner = document
        for parent in parents:
            owner = owner.setdefault(parent, {})
            if not isinstance(owner, dict):
                raise TypeError(f"{name}: {parent} is given twice.")
        if field in owner:
            raise TypeError(f"{name} is given twice.")
        owner[field] = value
    return document


class _Api:
    """The endpoint below /v1/."""

    def __init__(self, methods: Iterable[Method]) -> None:
        bindings = [_Binding(method, http) for method in methods for http in method.http]
        # A colon begins a verb where there is such a verb, and is a part of the id otherwise.
        bindings.sort(key=lambda binding: not binding.is_verb)
        self._bindings: dict[str, list[_Binding]] = {}
        for binding in bindings:
            self._bindings.setdefault(binding.verb, []).append(binding)

    async def __call__(self, http: Request) -> Response:
        try:
            binding, resource = self._find(_verb(http), http.scope["path"])
            body = await _read(http) if binding.body else b""
            request = binding.request(resource, http.query_params.multi_items(), body)
            answer = await _unless_disconnected(http, binding.method.call(request, None))
            response = _message(binding.method, answer)
            return JSONResponse(_json(response, http.query_params.get("$alt", "")))
        except PubSubError as error:
            return _refusal(error)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.NO_CONTENT)

    def _find(self, verb: str, path: str) -> tuple[_Binding, str]:
        for binding in self._bindings.get(verb, ()):
            resource = binding.match(path)
            if resource is not None:
                return binding, resource
        raise NotFoundError(f"{verb} {path} is not served by embedded_pubsub.")


def _verb(http: Request) -> str:
    """Give the method that is meant: HTTP stacks that can't send PATCH put it in a header."""
    if http.method != "POST":
        return http.method
    return http.headers.get("x-http-method-override", "POST").upper()


async def _read(http: Request) -> bytes:
    body = bytearray()
    async for chunk in http.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidArgumentError(
                f"Request payload size exceeds the limit: {MAX_BODY_BYTES} bytes."
            )
    return bytes(body)


async def _unless_disconnected(http: Request, call: Awaitable[Proto | bytes]) -> Proto | bytes:
    """Await a call, and give it up when the client does, so that it leases nothing in vain."""

    async def disconnected() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    answer, gone = asyncio.ensure_future(call), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


def _message(method: Method, answer: Proto | bytes) -> Proto:
    return method.response.FromString(answer) if isinstance(answer, bytes) else answer


def _json(message: Proto, alt: str) -> dict[str, Any]:
    numbers = "enum-encoding=int" in alt
    return dict(json_format.MessageToDict(message, use_integers_for_enums=numbers))


def _refusal(error: PubSubError) -> Response:
    status = _STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    document = {"code": int(status), "message": str(error), "status": error.code}
    details = [
        json_format.MessageToDict(detail, descriptor_pool=DefaultPool())
        for detail in status_of(error).details
    ]
    if details:
        document["details"] = details
    return JSONResponse({"error": document}, status_code=status)


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    name = {404: "NOT_FOUND", 405: "NOT_FOUND"}.get(status, "INTERNAL")
    message = f"{HTTPStatus(status).phrase}: not served by embedded_pubsub."
    return JSONResponse(
        {"error": {"code": status, "message": message, "status": name}}, status_code=status
    )


def application(runtime: Runtime, methods: Sequence[Method]) -> Starlette:
    """Give the ASGI application of a running server."""
    api = _Api(methods)

    async def index(http: Request) -> Response:
        document = overview(runtime)
        if "application/json" in http.headers.get("accept", ""):
            return JSONResponse(document)
        return HTMLResponse(as_html(document))

    async def call(http: Request) -> Response:
        return await api(http)

    verbs = ["GET", "PUT", "POST", "PATCH", "DELETE"]
    routes = [Route("/", index), Route("/v1/{path:path}", call, methods=verbs)]
    return Starlette(routes=routes, exception_handlers={404: _http_error, 405: _http_error})


class _Uvicorn(uvicorn.Server):
    """Signals are the business of whoever started the server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class RestServer:
    """HTTP in front of a running server.

    Args:
        app: What is served.
        host: The address to listen on.
        port: Where to listen; 0 takes a free port.

    Raises:
        OSError: The address can't be listened on.
    """

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            lifespan="off",
            loop="none",
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def close(self) -> None:
        """Finish the calls that run, and let go of the port."""
        self._server.should_exit = True
        await self._task
        self._socket.close()
