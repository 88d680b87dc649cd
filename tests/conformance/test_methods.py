"""Every method of the API is served, over gRPC and over REST, as the API's own client knows it."""

import inspect
import json
import re
import urllib.error
import urllib.request

import grpc
import pytest
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.publisher.transports import rest_base as publisher_rest
from google.pubsub_v1.services.schema_service.transports import SchemaServiceGrpcTransport
from google.pubsub_v1.services.schema_service.transports import rest_base as schema_rest
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.services.subscriber.transports import rest_base as subscriber_rest

from embedded_pubsub import Server
from embedded_pubsub.testing import ThreadedServer

TRANSPORTS = (PublisherGrpcTransport, SubscriberGrpcTransport, SchemaServiceGrpcTransport)
REST = (
    publisher_rest._BasePublisherRestTransport,
    subscriber_rest._BaseSubscriberRestTransport,
    schema_rest._BaseSchemaServiceRestTransport,
)


def grpc_methods():
    """Give the full names of all methods that the generated transports can call."""
    names = set()
    for transport in TRANSPORTS:
        names |= set(re.findall(r'"(/google\.[\w.]+/\w+)"', inspect.getsource(transport)))
    return sorted(names)


def http_bindings():
    """Give `(verb, path)` of every binding that the generated transports know."""
    bindings = set()
    for transport in REST:
        for _, base in inspect.getmembers(transport, inspect.isclass):
            options = getattr(base, "_get_http_options", None)
            if options is not None:
                bindings |= {(each["method"], each["uri"]) for each in options()}
        source = inspect.getsource(inspect.getmodule(transport))
        pairs = re.findall(r"'method': '(\w+)',\s*'uri': '([^']+)'", source)
        bindings |= {(verb.lower(), path) for verb, path in pairs}
    return sorted(bindings)


@pytest.fixture(scope="module")
def server():
    with ThreadedServer(Server(rest_port=0)) as running:
        yield running.server


def test_the_client_knows_all_services():
    services = {name.split("/")[1] for name in grpc_methods()}
    assert services == {
        "google.pubsub.v1.Publisher",
        "google.pubsub.v1.Subscriber",
        "google.pubsub.v1.SchemaService",
        "google.iam.v1.IAMPolicy",
    }
    assert len(grpc_methods()) == 38
    assert len(http_bindings()) >= 40


@pytest.mark.parametrize("method", grpc_methods())
def test_every_method_is_served_over_grpc(server, method):
    with grpc.insecure_channel(server.target) as channel:
        if method.endswith("/StreamingPull"):
            call = channel.stream_stream(method)
            with pytest.raises(grpc.RpcError) as refused:
                next(call(iter([b""]), timeout=30))
        else:
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(method)(b"", timeout=30)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT, refused.value.details()


@pytest.mark.parametrize(("verb", "path"), http_bindings())
def test_every_binding_is_served_over_rest(server, verb, path):
    filled = re.sub(r"\{[^=]+=([^}]+)\}", lambda m: m[1].replace("*", "none"), path)
    request = urllib.request.Request(
        f"http://{server.rest_target}{filled}",
        None if verb in {"get", "delete"} else b"{}",
        method=verb.upper(),
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
    except urllib.error.HTTPError as error:
        with error:
            document = json.loads(error.read())["error"]
        assert document["status"] != "UNIMPLEMENTED"
        assert "not served" not in document["message"]
