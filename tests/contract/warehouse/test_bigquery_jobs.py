"""What is BigQuery's own: jobs by name, staging tables, and which errors are worth another try."""

import json
import socket
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest
import requests
from google.cloud import bigquery

from infra.errors import (
    SchemaMismatchError,
    ServiceUnavailableError,
    TerminalError,
    TransientError,
)
from infra.ports import MergeResult
from infra.warehouse.bigquery import BigQueryWarehouse, schema_fields
from schemas.arrow import arrow_schema
from schemas.spec import Column, ColumnType, TableSpec
from schemas.tables import CALIBRATION_METRICS

NAMES = TableSpec(
    "names",
    (
        Column("namespace", ColumnType.STRING, required=True),
        Column("name", ColumnType.STRING, required=True),
        Column("value", ColumnType.INT64),
    ),
    ("namespace", "name"),
)


def rows(**values):
    columns = {"namespace": ["smoke"] * len(values), "name": [*values], "value": [*values.values()]}
    return pa.table(columns, arrow_schema(NAMES))


@pytest.fixture
async def warehouse(bigquery_host):
    opened = BigQueryWarehouse("nexus-test", f"jobs_{uuid.uuid4().hex}", endpoint=bigquery_host)
    await opened.open([NAMES])
    yield opened
    await opened.close()


def merge(warehouse, table, claim="smoke/1/shard/0/merge"):
    return warehouse.merge(NAMES, table, claim=claim, constants={"namespace": "smoke"})


@pytest.fixture
def calls(warehouse, monkeypatch):
    """Every request to the server as method and path; ``lose`` names answers that get lost."""

    class Calls(list):
        lose = None

    made, http = Calls(), warehouse._client._http
    send = http.request

    def request(method, url, *args, **options):
        response = send(method, url, *args, **options)
        made.append((method, url.partition("?")[0].rpartition("/v2/")[2], response.status_code))
        if made.lose and made.lose in url and method == "POST":
            made.lose = None
            raise requests.ConnectionError("the answer was lost on its way")
        return response

    monkeypatch.setattr(http, "request", request)
    return made


def statuses(calls, part):
    return [status for method, path, status in calls if method == "POST" and part in path]


async def test_a_merge_whose_answer_is_lost_is_found_again(warehouse, calls):
    calls.lose = "bigquery/v2/projects/nexus-test/jobs?"
    result = await merge(warehouse, rows(a=1, b=2))
    assert calls.lose is None
    assert 409 in statuses(calls, "/jobs")
    assert result == MergeResult(2, 2, 0)


async def test_a_load_whose_answer_is_lost_is_found_again(warehouse, calls):
    calls.lose = "/upload/"
    result = await merge(warehouse, rows(a=1, b=2))
    assert calls.lose is None
    assert 409 in statuses(calls, "/jobs")
    assert result == MergeResult(2, 2, 0)


async def test_the_same_merge_later_runs_as_a_job_of_its_own(warehouse):
    assert await merge(warehouse, rows(a=1)) == MergeResult(1, 1, 0)
    assert await merge(warehouse, rows(a=2)) == MergeResult(1, 0, 1)
    assert await merge(warehouse, rows(a=1)) == MergeResult(1, 0, 1)
    assert (await warehouse.read(NAMES, where={})).equals(rows(a=1))


async def test_no_staging_table_is_left_behind(warehouse):
    await merge(warehouse, rows(a=1))
    tables = warehouse._client.list_tables(warehouse._dataset)
    assert [table.table_id for table in tables] == ["names"]


async def test_a_staging_table_is_told_to_expire(warehouse, monkeypatch):
    told = {}

    def note(_client, table, fields, **_options):
        told[table.table_id] = {field: getattr(table, field) for field in fields}

    monkeypatch.setattr(bigquery.Client, "update_table", note)
    await merge(warehouse, rows(a=1))
    ((name, fields),) = told.items()
    assert name.startswith("staging_smoke_1_shard_0_merge_")
    assert fields["expires"].tzinfo is not None


async def test_a_table_with_other_columns_is_refused(warehouse):
    other = TableSpec("names", NAMES.columns[:2], NAMES.key)
    with pytest.raises(SchemaMismatchError, match="names exists with other columns"):
        await warehouse.open([other])


def test_staged_fields_are_explicit_and_hold_json_as_text():
    fields = {f.name: f for f in schema_fields(CALIBRATION_METRICS, staged=True)}
    assert fields["thresholds"].field_type == "STRING"
    assert fields["iteration"].mode == "REQUIRED"
    assert {f.name: f.field_type for f in schema_fields(CALIBRATION_METRICS)}[
        "thresholds"
    ] == "JSON"


async def test_no_load_guesses_its_schema(warehouse, monkeypatch):
    seen = []
    load = bigquery.Client.load_table_from_file

    def noting(client, *args, **options):
        seen.append(options["job_config"])
        return load(client, *args, **options)

    monkeypatch.setattr(bigquery.Client, "load_table_from_file", noting)
    await merge(warehouse, rows(a=1))
    assert [field.name for field in seen[0].schema] == list(NAMES.column_names)
    assert not seen[0].autodetect
    assert seen[0].write_disposition == "WRITE_TRUNCATE"


# --- errors --------------------------------------------------------------------------------


@pytest.fixture
def answer():
    """A server that gives one answer to everything."""

    class Always(BaseHTTPRequestHandler):
        status, reason, message = 500, "backendError", "?"

        def do_GET(self):
            error = {"reason": Always.reason, "message": Always.message}
            body = {"code": Always.status, "message": Always.message, "errors": [error]}
            content = json.dumps({"error": body}).encode()
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(Always.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - the name that http.server asks for

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Always)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Always.endpoint = f"127.0.0.1:{server.server_address[1]}"
    yield Always
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "reason", "message", "error"),
    [
        (429, "rateLimitExceeded", "slow down", TransientError),
        (500, "internalError", "oops", TransientError),
        (503, "backendError", "later", TransientError),
        (403, "rateLimitExceeded", "slow down", TransientError),
        (403, "quotaExceeded", "too much", TransientError),
        (400, "invalidQuery", "Could not serialize access to table x", TransientError),
        (404, "notFound", "Not found: Table p:d.staging_x", TransientError),
        (400, "invalidQuery", "Syntax error", TerminalError),
        (404, "notFound", "Not found: Dataset p:d", TerminalError),
        (403, "accessDenied", "no", ServiceUnavailableError),
        (401, "authError", "credentials", ServiceUnavailableError),
    ],
)
async def test_errors_say_whether_another_try_helps(answer, status, reason, message, error):
    answer.status, answer.reason, answer.message = status, reason, message
    warehouse = BigQueryWarehouse("p", "d", endpoint=answer.endpoint, retry_seconds=0.1)
    with pytest.raises(error, match=message) as raised:
        await warehouse.count(NAMES, where={}, by=())
    assert type(raised.value) is error
    await warehouse.close()


async def test_a_server_that_is_not_there_is_unavailable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
        warehouse = BigQueryWarehouse("p", "d", endpoint=endpoint, retry_seconds=0.1)
        with pytest.raises(ServiceUnavailableError, match="bigquery://p/d"):
            await warehouse.open([NAMES])
        await warehouse.close()
