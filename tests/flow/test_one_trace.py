"""One trace for an iteration, from the producer to the training process and back."""

import gzip
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.programs import ROOT, clean_environment

RUN = ("run", "--method", "mml", "--json")


@pytest.fixture
def collector():
    """An OTLP/HTTP receiver; its spans by service."""
    spans = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.spans = spans
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_iteration_is_one_unbroken_trace(nexus, collector):
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    nexus.run(*RUN, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint).succeeded()
    spans = collector.spans
    assert len({span.trace_id for span in spans}) == 1
    by_id = {span.span_id: span for span in spans}
    roots = [span for span in spans if not span.parent_span_id]
    assert [root.name for root in roots] == ["start iteration 0"]
    assert [span.name for span in spans if span.parent_span_id not in {b"", *by_id}] == []
    names = [span.name for span in spans]
    assert names.count("fit") == 1
    for handler in ("shards", "batches", "merge"):
        assert sum(name.startswith(f"{handler} nexus.") for name in names) >= 6
    for handler in ("iteration", "training", "promotion", "reports"):
        assert any(name.startswith(f"{handler} nexus.") for name in names)
    assert path_of(next(span for span in spans if span.name == "fit"), by_id) == [
        "fit",
        "training nexus.training.requested.v1",
        "iteration nexus.shard.merged.v1",
        "merge nexus.batch.completed.v1",
        "batches",
        "shards nexus.shard.requested.v1",
        "iteration nexus.iteration.started.v1",
        "start iteration 0",
    ]
    trace = spans[0].trace_id.hex()
    for step in nexus.steps().values():
        assert step.cause.traceparent.split("-")[1] == trace


def path_of(span, by_id):
    """From a span up to the root, the polls of a batch job as one."""
    path = []
    while True:
        name = "batches" if span.name.startswith("batches ") else span.name
        if path[-1:] != [name]:
            path.append(name)
        if not span.parent_span_id:
            return path
        span = by_id[span.parent_span_id]


PROBE = """
import json, sys, threading
from infra import telemetry
telemetry.configure()
with telemetry.span("probe"):
    carried = telemetry.traceparent()
names = [thread.name for thread in threading.enumerate()]
exporters = [name for name in sys.modules if name.startswith("opentelemetry.exporter")]
print(json.dumps({"threads": names, "exporters": exporters, "traceparent": carried}))
"""


@pytest.mark.parametrize("set_up", [True, False])
def test_without_the_environment_nothing_is_exported(collector, set_up):
    """No exporter is loaded and runs no thread; trace ids are made all the same."""
    there = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    ended = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=clean_environment() | (there if set_up else {}),
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    )
    told = json.loads(ended.stdout)
    assert (len(told["threads"]) > 1) is set_up
    assert bool(told["exporters"]) is set_up
    assert told["traceparent"].startswith("00-")
