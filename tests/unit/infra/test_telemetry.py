import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from infra import telemetry

PRODUCER_AND_CONSUMER = """
import json
from infra import telemetry
provider = telemetry.configure()
assert telemetry.configure() is provider
with telemetry.span("start", kind="producer"):
    carried = telemetry.traceparent()
with telemetry.span("merge", parent=carried, kind="consumer", attributes={"nexus.subject": "s"}):
    seen = telemetry.trace_id(telemetry.traceparent())
telemetry.shut_down()
processors = provider._active_span_processor._span_processors
print(json.dumps({"carried": carried, "seen": seen, "processors": len(processors)}))
"""
UNSET = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
)


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def collector():
    """An OTLP collector over HTTP: its endpoint, and what it was sent."""
    received = []

    class Collect(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collect)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def run(**environment):
    done = subprocess.run(
        [sys.executable, "-c", PRODUCER_AND_CONSUMER],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize(
    "name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
)
def test_one_trace_leads_from_the_producer_to_the_consumer(collector, name):
    endpoint, received = collector
    path = "/v1/traces" if name == "OTEL_EXPORTER_OTLP_ENDPOINT" else "/mine"
    given = endpoint if name == "OTEL_EXPORTER_OTLP_ENDPOINT" else endpoint + path
    said, _ = run(**{name: given})
    assert {where for where, _ in received} == {path}
    resources = [part for _, sent in received for part in sent.resource_spans]
    spans = {
        span.name: span for part in resources for scope in part.scope_spans for span in scope.spans
    }
    start, merge = spans["start"], spans["merge"]
    assert start.trace_id == merge.trace_id
    assert merge.parent_span_id == start.span_id
    assert (start.kind, merge.kind) == (
        Span.SPAN_KIND_PRODUCER,
        Span.SPAN_KIND_CONSUMER,
    )
    assert said["seen"] == start.trace_id.hex() == telemetry.trace_id(said["carried"])
    named = {a.key: a.value.string_value for part in resources for a in part.resource.attributes}
    assert named["service.name"] == "nexus"


def test_without_the_environment_nothing_is_sent_and_ids_are_made():
    said, _ = run()
    assert said["processors"] == 0
    assert said["carried"].startswith("00-")
    assert said["seen"] == telemetry.trace_id(said["carried"])


def test_spans_may_go_to_stderr():
    _, stderr = run(OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="mine")
    assert '"name": "merge"' in stderr
    assert '"service.name": "mine"' in stderr


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, None),
        ({"OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_TRACES_EXPORTER": ""}, None),
        (
            {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
            None,
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_TRACES_EXPORTER": "console"}, ConsoleSpanExporter),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "proto.http"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "proto.http"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "proto.grpc"),
    ],
)
def test_the_environment_chooses_the_exporter(monkeypatch, environment, kind):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    exporter = telemetry._exporter()
    match kind:
        case None:
            assert exporter is None
        case str():
            assert kind in type(exporter).__module__
            exporter.shutdown()
        case _:
            assert isinstance(exporter, kind)


@pytest.mark.parametrize(
    ("parent", "found"),
    [("00-abc-def-01", "abc"), (None, None), ("", None), ("00-abc", None)],
)
def test_the_trace_id_of_a_parent(parent, found):
    assert telemetry.trace_id(parent) == found


def test_a_parent_that_is_none_starts_a_trace():
    telemetry.configure()
    with telemetry.span("a", parent="rubbish"):
        assert telemetry.trace_id(telemetry.traceparent())
    assert telemetry.traceparent() is None
