import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.spec import (
    BIGQUERY_MAX_PARTITIONS,
    Column,
    ColumnType,
    DatePartition,
    IntegerRangePartition,
    TableSpec,
)
from schemas.tables import GRADES, TABLES

NAMESPACE = Column("namespace", ColumnType.STRING, required=True)
ITERATION = Column("iteration", ColumnType.INT64, required=True)


def spec(*columns, key=("namespace",), name="t", **layout):
    return TableSpec(name, (NAMESPACE, *columns), key, **layout)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Column("Grade", ColumnType.INT64), "'Grade' is not legal"),
        (lambda: Column("", ColumnType.INT64), "'' is not legal"),
        (lambda: Column("a b", ColumnType.INT64), "'a b' is not legal"),
        (lambda: Column("x" * 64, ColumnType.INT64), "is not legal"),
        (lambda: Column("target", ColumnType.INT64), "'target' is a name that MERGE uses"),
        (lambda: spec(name="no-dash"), "table name 'no-dash' is not legal"),
        (lambda: spec(NAMESPACE), "names 'namespace' twice in columns"),
        (lambda: spec(ITERATION, key=("iteration",)), "lacks 'namespace'"),
        (lambda: spec(key=()), "lacks 'namespace'"),
        (lambda: spec(key=("namespace", "shard")), "no column 'shard'"),
        (lambda: spec(key=("namespace", "namespace")), "'namespace' twice in key"),
        (
            lambda: spec(Column("a", ColumnType.INT64), key=("namespace", "a")),
            "key column 'a' is not required",
        ),
        (
            lambda: spec(Column("a", ColumnType.FLOAT64, required=True), key=("namespace", "a")),
            "key column 'a' is FLOAT64, which can't be a key",
        ),
        (
            lambda: spec(Column("a", ColumnType.JSON, required=True), key=("namespace", "a")),
            "key column 'a' is JSON, which can't be a key",
        ),
        (lambda: spec(cluster=("a",)), "no column 'a'"),
        (lambda: spec(Column("a", ColumnType.JSON), cluster=("a",)), "can't cluster by 'a'"),
        (lambda: spec(partition=DatePartition("namespace")), "can't be partitioned by 'namespace'"),
        (lambda: spec(partition=DatePartition("day")), "no column 'day'"),
        (
            lambda: spec(partition=IntegerRangePartition("namespace", 0, 10, 1)),
            "can't be partitioned by 'namespace'",
        ),
        (lambda: IntegerRangePartition("a", 0, 0, 1), "has no range"),
        (lambda: IntegerRangePartition("a", 0, 10, 0), "has no range"),
        (lambda: IntegerRangePartition("a", 0, 10_001, 1), "choose a larger interval"),
        (
            lambda: spec(
                *(Column(c, ColumnType.INT64) for c in "abcde"), cluster=("a", "b", "c", "d", "e"),
            ),
            "clusters by more than 4",
        ),
    ],
)  # fmt: skip
def test_a_table_that_can_not_be_is_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@given(st.text(max_size=70))
def test_only_plain_lower_case_names_are_legal(name):
    plain = set(string.ascii_lowercase + string.digits + "_")
    is_legal = (
        0 < len(name) <= 63 and set(name) <= plain and name[0] in string.ascii_lowercase
    ) and name not in {"target", "source"}
    try:
        Column(name, ColumnType.STRING)
    except ValueError:
        assert not is_legal
    else:
        assert is_legal


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_keeps_namespaces_and_iterations_apart(table):
    assert table.key[:2] == ("namespace", "iteration")
    assert table.cluster[:2] == ("namespace", "iteration")
    assert isinstance(table.partition, IntegerRangePartition)
    assert table.partition.end - table.partition.start <= BIGQUERY_MAX_PARTITIONS
    assert all(column.description for column in table.columns)
    assert table.description


def test_tables_have_names_of_their_own():
    assert len({table.name for table in TABLES}) == len(TABLES)


def test_columns_are_the_key_and_the_values():
    assert [column.name for column in GRADES.key_columns] == list(GRADES.key)
    assert [column.name for column in GRADES.value_columns] == ["grade"]
