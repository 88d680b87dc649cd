"""BigQuery's API on this machine, by bqemulator, with its known gaps closed in one place.

As a script it serves until it is ended and prints one line when ready::

    python tests/support/bqemulator_server.py [--port N]
    {"rest": "127.0.0.1:41235"}

What is different from the package as it comes:

* No spatial or Avro extension is loaded: they would be downloaded.
* The media type ``*/*``, which Google's client sends with every upload, is accepted.
* A job id is taken once, as in BigQuery; the second job of that id gets a 409, and an uploaded
  load keeps the id that it was given.
* A table created by DDL keeps its JSON columns in the schema that the API shows.
* A MERGE says how many rows it inserted and how many it updated (``dmlStats``).
"""

import argparse
import asyncio
import collections
import contextlib
import contextvars
import json
import re
import signal
import sys

JOB_ID = re.compile(rb'"jobReference":\s*\{[^}]*"jobId":\s*"([^"]+)"')
GIVEN_JOB_ID = contextvars.ContextVar("GIVEN_JOB_ID", default=None)


class JobIdsOnce:
    """Answers 409 to a job whose id was taken by one that was accepted before."""

    def __init__(self, app):
        self._app = app
        self._taken = set()
        self._locks = collections.defaultdict(asyncio.Lock)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST" or "/jobs" not in scope["path"]:
            await self._app(scope, receive, send)
            return
        body = await self._body(receive)
        found = JOB_ID.search(body)
        job_id = found[1].decode() if found else None
        async with self._locks[job_id] if job_id else contextlib.nullcontext():
            if job_id in self._taken:
                await self._refuse(send, job_id)
            else:
                GIVEN_JOB_ID.set(job_id)
                await self._app(scope, self._replay(body), self._noting(send, job_id))

    async def _body(self, receive):
        chunks = []
        while True:
            message = await receive()
            chunks.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(chunks)

    def _replay(self, body):
        messages = collections.deque([{"type": "http.request", "body": body, "more_body": False}])

        async def receive():
            return messages.popleft() if messages else {"type": "http.disconnect"}

        return receive

    def _noting(self, send, job_id):
        async def noting(message):
            if job_id and message.get("status", 500) < 300:
                self._taken.add(job_id)
            await send(message)

        return noting

    async def _refuse(self, send, job_id):
        text = f"Already Exists: Job {job_id}"
        error = {"code": 409, "message": text, "errors": [{"reason": "duplicate", "message": text}]}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 409, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"error": error}).encode()})


class Affected(int):
    """The rows that a statement changed, with the parts of that sum."""

    parts = None


def close_gaps():
    keep_given_job_ids()
    keep_json_columns()
    report_dml_stats()

    from bqemulator.api.routes import upload
    from bqemulator.storage.engine import DuckDBEngine

    upload._PERMITTED_MEDIA_CONTENT_TYPES += ("*/*",)
    DuckDBEngine._load_spatial = lambda _engine: None


def keep_given_job_ids():
    from bqemulator import server
    from bqemulator.api.routes import upload

    make_app, make_job_id = server.create_app, upload._new_job_id
    server.create_app = lambda context: JobIdsOnce(make_app(context))
    upload._new_job_id = lambda: GIVEN_JOB_ID.get() or make_job_id()


def keep_json_columns():
    from bqemulator.catalog import ddl_sync
    from bqemulator.storage import arrow_bridge

    make_field = ddl_sync._arrow_field_to_table_field

    def introspect(engine, table):
        return engine.fetch_arrow(f"SELECT * FROM {table} LIMIT 0").schema

    def with_json(arrow_field, *args, **options):
        made = make_field(arrow_field, *args, **options)
        is_json = (arrow_field.metadata or {}).get(b"bqemu.duckdb_type") == b"JSON"
        return made.model_copy(update={"type": "JSON"}) if is_json else made

    arrow_bridge.introspect_arrow_schema = introspect
    ddl_sync._arrow_field_to_table_field = with_json


def report_dml_stats():
    from bqemulator.jobs import executor
    from bqemulator.storage.engine import DuckDBEngine

    fetch, count = DuckDBEngine.fetch_arrow, executor._extract_dml_affected_rows
    describe = executor._build_query_statistics

    def fetch_with_actions(engine, sql, parameters=None):
        is_merge = sql.lstrip().upper().startswith("MERGE")
        return fetch(engine, f"{sql} RETURNING merge_action" if is_merge else sql, parameters)

    def count_by_action(table):
        if table.column_names != ["merge_action"]:
            return count(table)
        affected = Affected(table.num_rows)
        affected.parts = collections.Counter(table.column(0).to_pylist())
        return affected

    def describe_with_parts(*, num_dml_affected_rows, **options):
        statistics = describe(num_dml_affected_rows=num_dml_affected_rows, **options)
        if isinstance(num_dml_affected_rows, Affected):
            parts = num_dml_affected_rows.parts
            statistics["query"]["dmlStats"] = {
                "insertedRowCount": str(parts["INSERT"]),
                "updatedRowCount": str(parts["UPDATE"]),
                "deletedRowCount": str(parts["DELETE"]),
            }
        return statistics

    DuckDBEngine.fetch_arrow = fetch_with_actions
    executor._extract_dml_affected_rows = count_by_action
    executor._build_query_statistics = describe_with_parts


async def serve(port, ready):
    from bqemulator.config import LogLevel, Settings
    from bqemulator.server import EmulatorServer

    settings = Settings(
        rest_port=port,
        grpc_port=0,
        enable_format_extensions=False,
        log_level=LogLevel.ERROR,
    )
    server = EmulatorServer(settings)
    await server.start()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    ready.write(json.dumps({"rest": f"127.0.0.1:{server.rest_port}"}) + "\n")
    ready.flush()
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    wanted = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # the ready line stands alone on stdout
        close_gaps()
        asyncio.run(serve(wanted.port, sys.__stdout__))
