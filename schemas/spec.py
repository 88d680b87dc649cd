"""The typed specification of a table, from which DDL, MERGE and Arrow schemas are rendered."""

import re
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

NAMESPACE: Final = "namespace"
"""The column that keeps smoke and production apart; it is part of every key."""

BIGQUERY_MAX_PARTITIONS: Final = 10_000
"""Ranges that one integer-partitioned table may have (BigQuery quotas, partitioned tables)."""

BIGQUERY_MAX_CLUSTER_COLUMNS: Final = 4

_LEGAL_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MERGE_ALIASES: Final = frozenset({"target", "source"})


class ColumnType(StrEnum):
    """The types that both engines store without loss, by their BigQuery names.

    NUMERIC has 38 digits, 9 of them after the point. TIMESTAMP is an instant to the microsecond.
    JSON holds one JSON value, kept as canonical text in Arrow.
    """

    STRING = "STRING"
    INT64 = "INT64"
    FLOAT64 = "FLOAT64"
    BOOL = "BOOL"
    TIMESTAMP = "TIMESTAMP"
    DATE = "DATE"
    NUMERIC = "NUMERIC"
    JSON = "JSON"


_KEY_TYPES: Final = frozenset({
    ColumnType.STRING, ColumnType.INT64, ColumnType.BOOL, ColumnType.TIMESTAMP, ColumnType.DATE,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``required`` means that no row may lack a value."""

    name: str
    type: ColumnType
    required: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        _check_name("column", self.name)
        if self.name in _MERGE_ALIASES:
            raise ValueError(f"column {self.name!r} is a name that MERGE uses: choose another")


@dataclass(frozen=True, slots=True)
class IntegerRangePartition:
    """Partitions of ``interval`` values each from ``start`` up to, not including, ``end``.

    Values outside are stored too, all in one partition.
    """

    column: str
    start: int
    end: int
    interval: int

    def __post_init__(self) -> None:
        if self.interval < 1 or self.end <= self.start:
            raise ValueError(f"partition by {self.column!r} has no range: {self}")
        if (self.end - self.start) > self.interval * BIGQUERY_MAX_PARTITIONS:
            raise ValueError(
                f"partition by {self.column!r} asks for more than {BIGQUERY_MAX_PARTITIONS} "
                f"partitions: {self}: choose a larger interval",
            )


@dataclass(frozen=True, slots=True)
class DatePartition:
    """One partition for each day (UTC) of a DATE or TIMESTAMP column."""

    column: str


Partition = IntegerRangePartition | DatePartition

_PARTITION_TYPES: Final = MappingProxyType(
    {
        IntegerRangePartition: frozenset({ColumnType.INT64}),
        DatePartition: frozenset({ColumnType.DATE, ColumnType.TIMESTAMP}),
    }
)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table that is written by keyed MERGE only.

    Raises:
        ValueError: a name is illegal or used twice; the key is empty, lacks the namespace, or
            names a column that is missing, not required or of a type without exact equality;
            the partition or a cluster column doesn't exist or doesn't suit.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: Partition | None = None
    cluster: tuple[str, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        _check_name("table", self.name)
        _check_distinct(self.name, "columns", self.column_names)
        _check_key(self)
        _check_layout(self)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of all columns, in their order."""
        return tuple(column.name for column in self.columns)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The columns of the key, in the key's order."""
        return tuple(self.column(name) for name in self.key)

    @property
    def value_columns(self) -> tuple[Column, ...]:
        """The columns outside the key, in their order."""
        return tuple(column for column in self.columns if column.name not in self.key)

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            ValueError: there is none; the text lists those that exist.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise ValueError(
            f"table {self.name!r} has no column {name!r}: it has {', '.join(self.column_names)}",
        )


def _check_name(what: str, name: str) -> None:
    if _LEGAL_NAME.fullmatch(name) is None:
        raise ValueError(
            f"{what} name {name!r} is not legal: a lower-case letter, then at most 62 lower-case "
            "letters, digits or underscores",
        )


def _check_distinct(table: str, what: str, names: tuple[str, ...]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"table {table!r} names {twice[0]!r} twice in {what}")


def _check_key(spec: TableSpec) -> None:
    _check_distinct(spec.name, "key", spec.key)
    if NAMESPACE not in spec.key:
        raise ValueError(f"table {spec.name!r}: key {spec.key} lacks {NAMESPACE!r}")
    for column in spec.key_columns:
        if not column.required:
            raise ValueError(f"table {spec.name!r}: key column {column.name!r} is not required")
        if column.type not in _KEY_TYPES:
            raise ValueError(
                f"table {spec.name!r}: key column {column.name!r} is {column.type}, which can't "
                f"be a key: use one of {', '.join(sorted(_KEY_TYPES))}",
            )


def _check_layout(spec: TableSpec) -> None:
    _check_distinct(spec.name, "cluster", spec.cluster)
    if len(spec.cluster) > BIGQUERY_MAX_CLUSTER_COLUMNS:
        raise ValueError(f"table {spec.name!r} clusters by more than 4 columns: {spec.cluster}")
    for name in spec.cluster:
        if spec.column(name).type not in _KEY_TYPES:
            raise ValueError(f"table {spec.name!r} can't cluster by {name!r}: wrong type")
    if spec.partition is None:
        return
    column = spec.column(spec.partition.column)
    if column.type not in _PARTITION_TYPES[type(spec.partition)]:
        raise ValueError(
            f"table {spec.name!r} can't be partitioned by {column.name!r} of type {column.type}",
        )
