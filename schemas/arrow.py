"""Arrow schemas rendered from table specifications."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from schemas.spec import ColumnType, TableSpec

ARROW_TYPES: Final[Mapping[ColumnType, pa.DataType]] = MappingProxyType(
    {
        ColumnType.STRING: pa.string(),
        ColumnType.INT64: pa.int64(),
        ColumnType.FLOAT64: pa.float64(),
        ColumnType.BOOL: pa.bool_(),
        ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
        ColumnType.DATE: pa.date32(),
        ColumnType.NUMERIC: pa.decimal128(38, 9),
        ColumnType.JSON: pa.string(),
    }
)


def arrow_schema(spec: TableSpec) -> pa.Schema:
    """The schema that rows of this table have in memory; JSON columns hold JSON text."""
    return pa.schema(
        [
            pa.field(column.name, ARROW_TYPES[column.type], nullable=not column.required)
            for column in spec.columns
        ]
    )
