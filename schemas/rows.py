"""Rows as Arrow, in the shape that a table declares."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from schemas.arrow import arrow_schema
from schemas.spec import ColumnType, TableSpec


def arrow_rows(spec: TableSpec, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows as an Arrow table of the declared types; JSON columns take any JSON value.

    Raises:
        pyarrow.ArrowInvalid: A value is not of its column's type.
        KeyError: A row lacks a column; null is written as None.
    """
    columns = {
        column.name: [_value(column.type, row[column.name]) for row in rows]
        for column in spec.columns
    }
    return pa.table(columns, schema=arrow_schema(spec))


def _value(type_: ColumnType, value: Any) -> Any:  # noqa: ANN401 - any scalar
    if type_ is ColumnType.JSON and value is not None:
        return json.dumps(value, allow_nan=False, sort_keys=True)
    return value
