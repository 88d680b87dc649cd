"""Adapters of the ``Warehouse`` port, chosen by URL."""

import os
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from infra.errors import SettingsError
from infra.ports import Warehouse

_WAY_OUT = "use duckdb:///path/to/file or bigquery://project/dataset?location=EU"


def open_warehouse(url: str) -> Warehouse:
    """The warehouse that a URL names; nothing is reached before its ``open``.

    ``duckdb:///abs/path.duckdb`` (three slashes and an absolute path; ``duckdb:rel/path`` for a
    relative one) or ``bigquery://project/dataset?location=EU``. With ``BIGQUERY_EMULATOR_HOST``
    set, that server is asked instead of Google's, without credentials.

    Raises:
        SettingsError: the URL names no warehouse; the text says what would.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "duckdb":
            return _duckdb(url, parts)
        case "bigquery":
            return _bigquery(url, parts)
    raise SettingsError(f"warehouse URL {url!r} names no known engine: {_WAY_OUT}")


def _duckdb(url: str, parts: SplitResult) -> Warehouse:
    if parts.netloc or not parts.path.strip("/") or parts.query:
        raise SettingsError(f"warehouse URL {url!r} names no file: {_WAY_OUT}")
    from infra.warehouse.duckdb import DuckDbWarehouse  # noqa: PLC0415 - loaded when chosen

    return DuckDbWarehouse(Path(unquote(parts.path)))


def _bigquery(url: str, parts: SplitResult) -> Warehouse:
    dataset = parts.path.strip("/")
    options = parse_qs(parts.query)
    if not parts.netloc or not dataset or "/" in dataset or set(options) - {"location"}:
        raise SettingsError(f"warehouse URL {url!r} names no project and dataset: {_WAY_OUT}")
    from infra.warehouse.bigquery import BigQueryWarehouse  # noqa: PLC0415 - loaded when chosen

    return BigQueryWarehouse(
        parts.netloc,
        dataset,
        location=options.get("location", ["US"])[0],
        endpoint=os.environ.get("BIGQUERY_EMULATOR_HOST"),
    )
