"""SQL rendered from table specifications, for every engine that Nexus writes to.

Names are given as paths, such as ``("project", "dataset", "grades")``; every part is quoted.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from schemas.spec import Column, ColumnType, IntegerRangePartition, Partition, TableSpec

Scalar = str | int | float | bool
Path = Sequence[str]


class Dialect(StrEnum):
    """The SQL that an engine speaks."""

    DUCKDB = "duckdb"
    BIGQUERY = "bigquery"


_DUCKDB_TYPES: Final[Mapping[ColumnType, str]] = MappingProxyType(
    {
        ColumnType.STRING: "VARCHAR",
        ColumnType.INT64: "BIGINT",
        ColumnType.FLOAT64: "DOUBLE",
        ColumnType.BOOL: "BOOLEAN",
        ColumnType.TIMESTAMP: "TIMESTAMPTZ",
        ColumnType.DATE: "DATE",
        ColumnType.NUMERIC: "DECIMAL(38, 9)",
        ColumnType.JSON: "JSON",
    }
)


_BIGQUERY_TYPES: Final[Mapping[ColumnType, str]] = MappingProxyType(
    {column_type: column_type.value for column_type in ColumnType}
    | {ColumnType.NUMERIC: "NUMERIC(38, 9)"},
)


def quote(name: str, dialect: Dialect) -> str:
    """An identifier in the dialect's quotes.

    Raises:
        ValueError: the name is empty, or holds a character that its quotes can't hold.
    """
    refused = {"\0", "\n", "\r"} | ({"`", "\\"} if dialect is Dialect.BIGQUERY else set())
    if not name or refused & set(name):
        raise ValueError(f"identifier {name!r} can't be quoted for {dialect}")
    match dialect:
        case Dialect.DUCKDB:
            return '"' + name.replace('"', '""') + '"'
        case Dialect.BIGQUERY:
            return f"`{name}`"


def quote_path(path: Path, dialect: Dialect) -> str:
    """A qualified name, each part in quotes."""
    return ".".join(quote(part, dialect) for part in path)


def string_literal(value: str, dialect: Dialect) -> str:
    """A string in the dialect's quotes and escapes."""
    if "\0" in value:
        raise ValueError(f"{value!r} holds a NUL character, which no SQL literal can carry")
    match dialect:
        case Dialect.DUCKDB:
            return "'" + value.replace("'", "''") + "'"
        case Dialect.BIGQUERY:
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            return "'" + escaped.replace("\n", "\\n").replace("\r", "\\r") + "'"


def literal(column: Column, value: Scalar, dialect: Dialect) -> str:
    """A value of a column, as it stands in SQL.

    Raises:
        ValueError: the value is not of the column's type, or the type has no literals here.
    """
    match column.type, value:
        case ColumnType.STRING, str():
            return string_literal(value, dialect)
        case ColumnType.BOOL, bool():
            return "TRUE" if value else "FALSE"
        case ColumnType.INT64, int() if not isinstance(value, bool) and -(2**63) <= value < 2**63:
            return str(value)
        case ColumnType.FLOAT64, float() if math.isfinite(value):
            return repr(value)
    raise ValueError(
        f"column {column.name!r} is {column.type} and can't be compared with {value!r}",
    )


def ddl(spec: TableSpec, dialect: Dialect, path: Path) -> str:
    """CREATE TABLE IF NOT EXISTS, with partitions and clusters where the engine has them.

    No engine is asked to enforce the key: BigQuery never does, and DuckDB's index costs six times
    the merge and thirty times the disk. MERGE by the whole key, of a source without duplicates,
    by one writer at a time, keeps it.
    """
    columns = ",\n  ".join(_column_ddl(column, dialect) for column in spec.columns)
    create = f"CREATE TABLE IF NOT EXISTS {quote_path(path, dialect)} (\n  {columns}\n)"
    match dialect:
        case Dialect.DUCKDB:
            return create
        case Dialect.BIGQUERY:
            return "\n".join([create, *_bigquery_layout(spec)])


def _column_ddl(column: Column, dialect: Dialect) -> str:
    required = " NOT NULL" if column.required else ""
    name = quote(column.name, dialect)
    match dialect:
        case Dialect.DUCKDB:
            return f"{name} {_DUCKDB_TYPES[column.type]}{required}"
        case Dialect.BIGQUERY:
            description = _bigquery_description(column.description)
            return f"{name} {_BIGQUERY_TYPES[column.type]}{required}{description}"


def _bigquery_description(text: str) -> str:
    return f" OPTIONS (description = {string_literal(text, Dialect.BIGQUERY)})" if text else ""


def _bigquery_layout(spec: TableSpec) -> list[str]:
    lines = []
    if spec.partition is not None:
        lines.append(f"PARTITION BY {_bigquery_partition(spec, spec.partition)}")
    if spec.cluster:
        names = ", ".join(quote(name, Dialect.BIGQUERY) for name in spec.cluster)
        lines.append(f"CLUSTER BY {names}")
    if spec.description:
        lines.append(_bigquery_description(spec.description).strip())
    return lines


def _bigquery_partition(spec: TableSpec, partition: Partition) -> str:
    name = quote(partition.column, Dialect.BIGQUERY)
    if isinstance(partition, IntegerRangePartition):
        ranges = f"GENERATE_ARRAY({partition.start}, {partition.end}, {partition.interval})"
        return f"RANGE_BUCKET({name}, {ranges})"
    is_date = spec.column(partition.column).type is ColumnType.DATE
    return name if is_date else f"TIMESTAMP_TRUNC({name}, DAY)"


def merge_sql(
    spec: TableSpec,
    dialect: Dialect,
    target: Path,
    staging: Path,
    constants: Mapping[str, Scalar],
) -> str:
    """MERGE of a staging table by the declared key; rows that are equal are left alone.

    The staging table has the specification's columns, JSON as text. The constants are repeated
    as literals on the target's side, where BigQuery prunes partitions and blocks by them and
    DuckDB skips row groups; so the source must hold no other values in those columns.

    Raises:
        ValueError: a constant is not a key column, or not of its column's type.
    """
    clauses = [
        f"MERGE INTO {quote_path(target, dialect)} AS target",
        f"USING ({_source(spec, dialect, staging)}) AS source",
        f"ON {_matches(spec, dialect, constants)}",
        *_when_matched(spec, dialect),
        _when_not_matched(spec, dialect),
    ]
    return "\n".join(clauses)


def _source(spec: TableSpec, dialect: Dialect, staging: Path) -> str:
    columns = ", ".join(_staged(column, dialect) for column in spec.columns)
    return f"SELECT {columns} FROM {quote_path(staging, dialect)}"  # noqa: S608 - names quoted, values checked literals


def _staged(column: Column, dialect: Dialect) -> str:
    name = quote(column.name, dialect)
    if column.type is not ColumnType.JSON:
        return name
    match dialect:
        case Dialect.DUCKDB:
            return f"CAST({name} AS JSON) AS {name}"
        case Dialect.BIGQUERY:
            return f"PARSE_JSON({name}, wide_number_mode => 'round') AS {name}"


def _matches(spec: TableSpec, dialect: Dialect, constants: Mapping[str, Scalar]) -> str:
    unknown = sorted(set(constants) - set(spec.key))
    if unknown:
        raise ValueError(
            f"constant {unknown[0]!r} is not in the key of {spec.name!r}: {', '.join(spec.key)}",
        )
    conditions = [
        f"target.{quote(name, dialect)} = source.{quote(name, dialect)}" for name in spec.key
    ]
    conditions += [
        f"target.{quote(name, dialect)} = {literal(spec.column(name), constants[name], dialect)}"
        for name in spec.key
        if name in constants
    ]
    return "\n  AND ".join(conditions)


def _when_matched(spec: TableSpec, dialect: Dialect) -> list[str]:
    if not spec.value_columns:
        return []
    differs = "\n  OR ".join(_differs(column, dialect) for column in spec.value_columns)
    names = [quote(column.name, dialect) for column in spec.value_columns]
    assignments = ", ".join(f"{name} = source.{name}" for name in names)
    return [f"WHEN MATCHED AND ({differs}) THEN UPDATE SET {assignments}"]


def _differs(column: Column, dialect: Dialect) -> str:
    name = quote(column.name, dialect)
    if column.type is ColumnType.JSON and dialect is Dialect.BIGQUERY:
        # BigQuery has no equality for JSON values, and writes no value and JSON's null alike.
        target, source = f"TO_JSON_STRING(target.{name})", f"TO_JSON_STRING(source.{name})"
        differ_in_null = f"(target.{name} IS NULL) <> (source.{name} IS NULL)"
        return f"{target} IS DISTINCT FROM {source} OR {differ_in_null}"
    return f"target.{name} IS DISTINCT FROM source.{name}"


def _when_not_matched(spec: TableSpec, dialect: Dialect) -> str:
    names = [quote(name, dialect) for name in spec.column_names]
    values = ", ".join(f"source.{name}" for name in names)
    inserted = ", ".join(names)
    return f"WHEN NOT MATCHED THEN INSERT ({inserted}) VALUES ({values})"  # noqa: S608 - names quoted, values checked literals


def select_sql(
    spec: TableSpec,
    dialect: Dialect,
    path: Path,
    *,
    where: Mapping[str, Scalar],
    columns: Sequence[str] = (),
) -> str:
    """The rows whose columns equal ``where``, in key order; JSON as text.

    Raises:
        ValueError: a column is unknown, or a value is not of its column's type.
    """
    chosen = [spec.column(name) for name in columns] or spec.columns
    selected = ", ".join(_read(column, dialect) for column in chosen)
    order = ", ".join(f"stored.{quote(name, dialect)}" for name in spec.key)
    rows = f"SELECT {selected} FROM {quote_path(path, dialect)} AS stored"  # noqa: S608 - names quoted, values checked literals
    return f"{rows}{where_sql(spec, dialect, where)} ORDER BY {order}"


def _read(column: Column, dialect: Dialect) -> str:
    name = quote(column.name, dialect)
    if column.type is not ColumnType.JSON:
        return f"stored.{name}"
    match dialect:
        case Dialect.DUCKDB:
            return f"CAST(stored.{name} AS VARCHAR) AS {name}"
        case Dialect.BIGQUERY:
            text = f"TO_JSON_STRING(stored.{name})"
            return f"CASE WHEN stored.{name} IS NOT NULL THEN {text} END AS {name}"


def count_sql(
    spec: TableSpec,
    dialect: Dialect,
    path: Path,
    *,
    where: Mapping[str, Scalar],
    by: Sequence[str] = (),
) -> str:
    """Rows counted by columns, in their order; the count is called ``n``.

    Raises:
        ValueError: a column is unknown or called ``n``, or a value is not of its column's type.
    """
    if "n" in by:
        raise ValueError("rows can't be counted by a column 'n': that is the count's name")
    names = ", ".join(f"stored.{quote(spec.column(name).name, dialect)}" for name in by)
    selected = f"{names}, COUNT(*) AS n" if by else "COUNT(*) AS n"
    grouped = f" GROUP BY {names} ORDER BY {names}" if by else ""
    rows = f"SELECT {selected} FROM {quote_path(path, dialect)} AS stored"  # noqa: S608 - names quoted, values checked literals
    return f"{rows}{where_sql(spec, dialect, where)}{grouped}"


def where_sql(spec: TableSpec, dialect: Dialect, where: Mapping[str, Scalar]) -> str:
    """A WHERE clause, with a leading space; empty without conditions."""
    conditions = [
        f"stored.{quote(name, dialect)} = {literal(spec.column(name), value, dialect)}"
        for name, value in where.items()
    ]
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
