"""Every adapter of the objects port, each on an empty root, and a bucket server to speak to."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from infra.objects import StoredObjects, gcs_objects, open_objects

LIST = (
    '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>'
)
ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<Size>{}</Size><ETag>1</ETag></Contents>"
)


class BucketServer(ThreadingHTTPServer):
    """The little of Cloud Storage's XML API that write-once objects need.

    ``fault`` looks at each request first: it returns a status to answer with at once, ``-1`` to do
    the work and lose the answer, or None.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stored: dict[str, bytes] = {}
        self.conditions: list[str | None] = []
        self.fault: Callable[[str], int | None] = lambda _method: None
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: BucketServer

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        condition = self.headers.get("x-goog-if-generation-match")
        key = self._key()
        fault = self.server.fault("PUT")
        if fault is not None and fault > 0:
            return self._answer(fault)
        with self.server.lock:
            self.server.conditions.append(condition)
            taken = condition == "0" and key in self.server.stored
            if not taken:
                self.server.stored[key] = data
        if fault == -1:
            self.close_connection = True
            return None
        return self._answer(412 if taken else 200)

    def do_GET(self):
        fault = self.server.fault("GET")
        if fault is not None:
            return self._answer(fault)
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            return self._answer(200, self._listing(query.get("prefix", [""])[0]))
        data = self.server.stored.get(self._key())
        return self._answer(404) if data is None else self._answer(200, data)

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/bucket/")

    def _listing(self, prefix: str) -> bytes:
        found = sorted((k, len(v)) for k, v in self.server.stored.items() if k.startswith(prefix))
        return LIST.format("".join(ENTRY.format(*entry) for entry in found)).encode()

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("x-goog-generation", "1")
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):  # noqa: A002 - http.server's name
        """Say nothing."""


@pytest.fixture
def bucket() -> Iterator[BucketServer]:
    server = BucketServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def in_bucket(bucket) -> StoredObjects:
    return gcs_objects("bucket", "some/prefix", endpoint=bucket.endpoint, retry_seconds=0.5)


@pytest.fixture(params=["folder", "bucket", "whole-bucket"])
def objects(request, tmp_path) -> StoredObjects:
    if request.param == "folder":
        return open_objects((tmp_path / "some folder").as_uri())
    server = request.getfixturevalue("bucket")
    prefix = "/some/prefix" if request.param == "bucket" else ""
    return open_objects(f"gs://bucket{prefix}", gcs_endpoint=server.endpoint)
