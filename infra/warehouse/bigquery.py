"""A warehouse in a BigQuery dataset.

Rows travel as Parquet in a load job with an explicit schema to a staging table, and from there by
one MERGE job. Job ids follow from claim and content, so a call that was lost on its way is found
again and never becomes a second job; a staging table that nobody drops expires by itself.
"""

import asyncio
import datetime as dt
import hashlib
import io
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core import exceptions as api
from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY

from infra.errors import (
    SchemaMismatchError,
    ServiceUnavailableError,
    TerminalError,
    TransientError,
)
from infra.ports import MergeResult, Scalar
from infra.warehouse.rows import canonical, checked
from infra.warehouse.staging import staging_name
from schemas.spec import ColumnType, TableSpec
from schemas.sql import Dialect, count_sql, ddl, merge_sql, select_sql

T = TypeVar("T")
J = TypeVar("J", bigquery.LoadJob, bigquery.QueryJob)

RETRY_SECONDS: Final = 30.0
JOB_TIMEOUT_SECONDS: Final = 900.0
STAGING_LIFETIME: Final = dt.timedelta(days=1)

_DIALECT: Final = Dialect.BIGQUERY
_THREADS: Final = 8
_MAX_ATTEMPTS: Final = 1_000
_CALL_LABEL: Final = "nexus_call"

# https://cloud.google.com/bigquery/docs/error-messages, and the text of a lost race of two DML
# statements, which comes as invalidQuery.
_TRANSIENT_REASONS: Final = frozenset({
    "backendError", "internalError", "jobBackendError", "jobInternalError", "jobRateLimitExceeded",
    "quotaExceeded", "rateLimitExceeded", "resourceInUse", "tableUnavailable", "timeout",
})  # fmt: skip
_TRANSIENT_TEXTS: Final = ("Could not serialize access", "Transaction is aborted")

_LEGACY_TYPES: Final = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}


def schema_fields(spec: TableSpec, *, staged: bool = False) -> tuple[bigquery.SchemaField, ...]:
    """A table's BigQuery schema; ``staged`` with JSON as text, for MERGE parses it."""
    return tuple(
        bigquery.SchemaField(
            column.name,
            "STRING" if staged and column.type is ColumnType.JSON else column.type.value,
            mode="REQUIRED" if column.required else "NULLABLE",
            description=column.description,
        )
        for column in spec.columns
    )


@dataclass(frozen=True, slots=True)
class _Staged:
    """Rows on their way: Parquet, and the names that follow from claim and content."""

    parquet: bytes
    table: str
    job_id: str


class BigQueryWarehouse:
    """The ``Warehouse`` port on a BigQuery dataset; the dataset is created when missing.

    Args:
        project: The Google Cloud project that holds the data and runs the jobs.
        dataset: The dataset's name.
        location: Where a dataset is created, and where every job runs.
        endpoint: ``host:port`` or URL of a server that stands in for Google's; it is asked
            without credentials.
        retry_seconds: How long a call is tried again before its error counts.
    """

    def __init__(
        self,
        project: str,
        dataset: str,
        *,
        location: str = "US",
        endpoint: str | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._project = project
        self._dataset = dataset
        self._location = location
        self._endpoint = endpoint
        self._retry = DEFAULT_RETRY.with_timeout(retry_seconds)
        self._threads = futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="bigquery")
        self._connected: bigquery.Client | None = None

    async def open(self, tables: Sequence[TableSpec]) -> None:
        """Create the dataset and the tables that are missing.

        Raises:
            ServiceUnavailableError: BigQuery can't be reached, or not with these credentials.
            SchemaMismatchError: a table exists with other columns.
        """
        await self._run(lambda: self._create(tables))

    async def close(self) -> None:
        """Finish what is under way, then let go."""
        await asyncio.to_thread(self._threads.shutdown)
        if self._connected is not None:
            self._connected.close()  # type: ignore[no-untyped-call] # untyped library

    async def merge(
        self, table: TableSpec, rows: pa.Table, *, claim: str, constants: Mapping[str, Scalar]
    ) -> MergeResult:
        """Merge rows by the table's key; see the port."""

        def merge() -> MergeResult:
            source = checked(table, rows, constants)
            if not source.num_rows:
                return MergeResult(0, 0, 0)
            return self._merge(table, source, claim, constants)

        return await self._run(merge)

    async def read(
        self, table: TableSpec, *, where: Mapping[str, Scalar], columns: Sequence[str] = ()
    ) -> pa.Table:
        """The rows whose columns equal ``where``, in key order."""
        path = self._path(table.name)
        sql = select_sql(table, _DIALECT, path, where=where, columns=columns)
        return await self._run(lambda: canonical(table, self._select(sql)))

    async def count(
        self, table: TableSpec, *, where: Mapping[str, Scalar], by: Sequence[str]
    ) -> pa.Table:
        """Rows counted by the given columns, in their order; the count is ``n``."""
        sql = count_sql(table, _DIALECT, self._path(table.name), where=where, by=by)
        return await self._run(lambda: self._select(sql))

    async def _run(self, work: Callable[[], T]) -> T:
        def named() -> T:
            with self._named_errors():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._threads, named)

    @property
    def _client(self) -> bigquery.Client:
        if self._connected is None:
            self._connected = _connect(self._project, self._location, self._endpoint)
        return self._connected

    def _path(self, table: str) -> tuple[str, str, str]:
        return self._project, self._dataset, table

    # --- tables ------------------------------------------------------------------------

    def _create(self, tables: Sequence[TableSpec]) -> None:
        dataset = bigquery.Dataset(f"{self._project}.{self._dataset}")
        dataset.location = self._location
        self._client.create_dataset(dataset, exists_ok=True, retry=self._retry)
        for spec in tables:
            self._check(spec, self._table(spec.name) or self._created(spec))

    def _table(self, name: str) -> bigquery.Table | None:
        try:
            return self._client.get_table(".".join(self._path(name)), retry=self._retry)
        except api.NotFound:
            return None

    def _created(self, spec: TableSpec) -> bigquery.Table:
        self._query(ddl(spec, _DIALECT, self._path(spec.name)))
        return self._client.get_table(".".join(self._path(spec.name)), retry=self._retry)

    def _check(self, spec: TableSpec, table: bigquery.Table) -> None:
        found = [(f.name, _LEGACY_TYPES.get(f.field_type, f.field_type)) for f in table.schema]
        expected = [(column.name, column.type.value) for column in spec.columns]
        if found != expected:
            raise SchemaMismatchError(
                f"table {'.'.join(self._path(spec.name))} exists with other columns: {found}, "
                f"not {expected}; choose another dataset, or change the table",
            )

    # --- reading -----------------------------------------------------------------------

    def _query(self, sql: str) -> bigquery.table.RowIterator:
        # The client's own repetition of whole jobs would go on for ten minutes, unseen.
        job = self._client.query(sql, location=self._location, retry=self._retry, job_retry=None)
        return job.result(retry=self._retry, timeout=JOB_TIMEOUT_SECONDS, job_retry=None)

    def _select(self, sql: str) -> pa.Table:
        return self._query(sql).to_arrow(create_bqstorage_client=False)

    # --- merging -----------------------------------------------------------------------

    def _merge(
        self, spec: TableSpec, rows: pa.Table, claim: str, constants: Mapping[str, Scalar]
    ) -> MergeResult:
        staged = _staged(rows, claim)
        call = secrets.token_hex(8)
        self._load(spec, staged, call)
        sql = merge_sql(
            spec, _DIALECT, self._path(spec.name), self._path(staged.table), constants,
        )  # fmt: skip
        job = self._merged(sql, staged, call)
        self._client.delete_table(
            ".".join(self._path(staged.table)), not_found_ok=True, retry=self._retry,
        )  # fmt: skip
        if job.dml_stats is None:
            raise TransientError(f"job {job.job_id} ended without saying what it changed")
        return MergeResult(
            rows.num_rows, job.dml_stats.inserted_row_count, job.dml_stats.updated_row_count,
        )  # fmt: skip

    def _load(self, spec: TableSpec, staged: _Staged, call: str) -> None:
        table = bigquery.Table(".".join(self._path(staged.table)))
        config = bigquery.LoadJobConfig(
            schema=schema_fields(spec, staged=True),
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            labels={_CALL_LABEL: call},
        )

        def start(job_id: str) -> bigquery.LoadJob:
            return self._client.load_table_from_file(
                io.BytesIO(staged.parquet),
                table.reference,
                size=len(staged.parquet),
                job_id=job_id,
                location=self._location,
                job_config=config,
            )

        self._once(
            bigquery.LoadJob,
            f"{staged.job_id}-load",
            start,
            serves=lambda _: self._table(staged.table) is not None,
        )
        table.expires = dt.datetime.now(dt.UTC) + STAGING_LIFETIME
        self._client.update_table(table, ["expires"], retry=self._retry)

    def _merged(self, sql: str, staged: _Staged, call: str) -> bigquery.QueryJob:
        config = bigquery.QueryJobConfig(labels={_CALL_LABEL: call})

        def start(job_id: str) -> bigquery.QueryJob:
            return self._client.query(
                sql,
                job_id=job_id,
                job_config=config,
                location=self._location,
                retry=self._retry,
                job_retry=None,
            )

        return self._once(
            bigquery.QueryJob,
            f"{staged.job_id}-merge",
            start,
            serves=lambda job: job.labels.get(_CALL_LABEL) == call,
        )

    def _once(
        self, kind: type[J], base: str, start: Callable[[str], J], *, serves: Callable[[J], bool]
    ) -> J:
        """Start the job under the first id that is free, unless one of that name serves.

        A job id is taken for ever. An earlier job of the same claim and content is waited for, so
        that two never run at once; ``serves`` says whether its outcome is what is wanted now.
        """
        for attempt in range(_MAX_ATTEMPTS):
            job_id = f"{base}-{attempt}"
            try:
                job = start(job_id)
            except api.Conflict:
                earlier = self._client.get_job(job_id, location=self._location, retry=self._retry)
                failure = earlier.exception(JOB_TIMEOUT_SECONDS)  # type: ignore[no-untyped-call] # untyped library
                if failure is None and isinstance(earlier, kind) and serves(earlier):
                    return earlier
                continue
            job.result(retry=self._retry, timeout=JOB_TIMEOUT_SECONDS)
            return job
        raise TerminalError(f"job {base} was run {_MAX_ATTEMPTS} times")

    # --- errors ------------------------------------------------------------------------

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        where = f"warehouse bigquery://{self._project}/{self._dataset}"
        try:
            yield
        except api.RetryError as error:
            cause = error.cause or error
            raise _translated(where, cause) from error
        except (api.GoogleAPICallError, auth.GoogleAuthError, OSError) as error:
            raise _translated(where, error) from error
        except futures.TimeoutError as error:
            raise TransientError(
                f"{where}: no answer in {JOB_TIMEOUT_SECONDS:.0f} s", retry_after_seconds=30.0,
            ) from error  # fmt: skip


def _connect(project: str, location: str, endpoint: str | None) -> bigquery.Client:
    if endpoint is None:
        return bigquery.Client(project, location=location)
    url = endpoint if "://" in endpoint else f"http://{endpoint}"
    return bigquery.Client(
        project,
        location=location,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call] # untyped library
        client_options=ClientOptions(api_endpoint=url),
    )


def _staged(rows: pa.Table, claim: str) -> _Staged:
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    parquet = sink.getvalue()
    table = staging_name(claim, hashlib.sha256(parquet).digest())
    return _Staged(parquet, table, f"nexus-{table}")


def _translated(where: str, error: BaseException) -> Exception:
    if _is_transient(error):
        return TransientError(f"{where}: {error}", retry_after_seconds=5.0)
    denied = isinstance(error, api.Unauthorized | api.Forbidden | auth.GoogleAuthError)
    if denied or not isinstance(error, api.GoogleAPICallError):
        return ServiceUnavailableError(f"{where}: {error}")
    return TerminalError(f"{where}: {error}")


def _is_transient(error: BaseException) -> bool:
    if not isinstance(error, api.GoogleAPICallError):
        return False
    if isinstance(error, api.TooManyRequests | api.ServerError):
        return True
    if isinstance(error, api.NotFound) and "staging_" in str(error):
        return True  # another worker with the same claim was quicker and has dropped it
    reasons = {str(detail.get("reason")) for detail in error.errors if isinstance(detail, dict)}
    return bool(reasons & _TRANSIENT_REASONS) or any(t in str(error) for t in _TRANSIENT_TEXTS)
