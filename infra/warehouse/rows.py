"""What every warehouse checks before it loads: rows fit their table, and each key is there once."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import DuplicateKeyError, SchemaMismatchError
from infra.ports import Scalar
from schemas.arrow import ARROW_TYPES, arrow_schema
from schemas.spec import Column, ColumnType, TableSpec
from schemas.sql import Dialect, literal


def checked(spec: TableSpec, rows: pa.Table, constants: Mapping[str, Scalar]) -> pa.Table:
    """The rows in the table's column order, with JSON in canonical form.

    Raises:
        SchemaMismatchError: a column is missing, unknown, of another type, null where required,
            not finite, not JSON, or differs from its constant.
        DuplicateKeyError: two rows share a key.
    """
    _check_names(spec, rows)
    _check_constants(spec, constants)
    table = pa.table([_checked_column(spec, c, rows) for c in spec.columns], arrow_schema(spec))
    for name, value in constants.items():
        _check_constant(spec, table, name, value)
    _check_key(spec, table, constants)
    return table


def canonical_json(text: str) -> str:
    """The same JSON value with sorted members and no blanks.

    Raises:
        ValueError: the text is not JSON, or holds a number or character that JSON has not.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_number)
        canonical = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False,
        )  # fmt: skip
        canonical.encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return canonical


def canonical(spec: TableSpec, rows: pa.Table) -> pa.Table:
    """Rows as an engine returned them, in the specification's types and canonical JSON."""
    columns = [spec.column(name) for name in rows.column_names]
    arrays = [
        _canonical_array(rows.column(column.name)) if column.type is ColumnType.JSON
        else rows.column(column.name).cast(ARROW_TYPES[column.type])
        for column in columns
    ]  # fmt: skip
    schema = arrow_schema(spec)
    return pa.table(arrays, pa.schema([schema.field(column.name) for column in columns]))


def _check_names(spec: TableSpec, rows: pa.Table) -> None:
    names = rows.column_names
    for name in spec.column_names:
        if names.count(name) != 1:
            found = "missing" if name not in names else "there twice"
            raise SchemaMismatchError(f"column {name!r} of table {spec.name!r} is {found}")
    unknown = sorted(set(names) - set(spec.column_names))
    if unknown:
        raise SchemaMismatchError(
            f"column {unknown[0]!r} is unknown to table {spec.name!r}: "
            f"it has {', '.join(spec.column_names)}",
        )


def _check_constants(spec: TableSpec, constants: Mapping[str, Scalar]) -> None:
    for name, value in constants.items():
        if name not in spec.key:
            raise SchemaMismatchError(
                f"constant {name!r} is not in the key of table {spec.name!r}: "
                f"the key is {', '.join(spec.key)}",
            )
        try:
            literal(spec.column(name), value, Dialect.DUCKDB)
        except ValueError as error:
            raise SchemaMismatchError(f"constant of table {spec.name!r}: {error}") from error


def _checked_column(spec: TableSpec, column: Column, rows: pa.Table) -> pa.ChunkedArray:
    values = rows.column(column.name)
    expected = ARROW_TYPES[column.type]
    if values.type != expected:
        raise SchemaMismatchError(
            f"column {column.name!r} of table {spec.name!r} is {values.type}, not {expected}: "
            "build the rows with the table's Arrow schema",
        )
    if column.required and values.null_count:
        row = pc.index(pc.is_null(values), pa.scalar(value=True)).as_py()
        _mismatch(spec, column, row, "is null, but required")
    match column.type:
        case ColumnType.FLOAT64:
            _check_finite(spec, column, values)
        case ColumnType.JSON:
            return _canonical_column(spec, column, values)
    return values


def _check_finite(spec: TableSpec, column: Column, values: pa.ChunkedArray) -> None:
    row = pc.index(pc.is_finite(values), pa.scalar(value=False)).as_py()
    if row >= 0:
        _mismatch(spec, column, row, f"is {values[row].as_py()}: store null, or a finite number")


def _canonical_column(spec: TableSpec, column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    texts: list[str | None] = []
    for row, text in enumerate(values.to_pylist()):
        try:
            texts.append(None if text is None else canonical_json(text))
        except ValueError as error:
            _mismatch(spec, column, row, f"is not JSON ({error}): {text[:80]!r}")
    return pa.chunked_array([pa.array(texts, pa.string())])


def _canonical_array(values: pa.ChunkedArray) -> pa.Array:
    texts = values.to_pylist()
    return pa.array([None if t is None else canonical_json(t) for t in texts], pa.string())


def _check_constant(spec: TableSpec, rows: pa.Table, name: str, value: Scalar) -> None:
    column = rows.column(name)
    same = pc.equal(column, pa.scalar(value, column.type))
    row = pc.index(same, pa.scalar(value=False)).as_py()
    if row >= 0:
        found = column[row].as_py()
        _mismatch(spec, spec.column(name), row, f"is {found!r}, not the constant {value!r}")


def _check_key(spec: TableSpec, rows: pa.Table, constants: Mapping[str, Scalar]) -> None:
    varying = [name for name in spec.key if name not in constants]
    if not varying:
        if rows.num_rows > 1:
            _duplicate(spec, rows.slice(0, 1).to_pylist()[0], rows.num_rows)
        return
    counted = rows.select(varying).group_by(varying).aggregate([([], "count_all")])
    if counted.num_rows == rows.num_rows:
        return
    twice = counted.filter(pc.greater(counted.column("count_all"), 1)).slice(0, 1).to_pylist()[0]
    _duplicate(spec, {**constants, **twice}, twice["count_all"])


def _duplicate(spec: TableSpec, values: Mapping[str, Any], times: int) -> NoReturn:
    key = ", ".join(f"{name}={values[name]!r}" for name in spec.key)
    raise DuplicateKeyError(f"{times} rows for table {spec.name!r} share the key ({key})")


def _mismatch(spec: TableSpec, column: Column, row: int, what: str) -> NoReturn:
    raise SchemaMismatchError(f"column {column.name!r} of table {spec.name!r}, row {row}: {what}")


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
