"""The SQL that is rendered, read back by an independent parser and run by an engine."""

import string

import duckdb
import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from schemas.arrow import arrow_schema
from schemas.spec import Column, ColumnType, DatePartition, IntegerRangePartition, TableSpec
from schemas.sql import (
    Dialect,
    count_sql,
    ddl,
    literal,
    merge_sql,
    quote,
    quote_path,
    select_sql,
    string_literal,
)
from schemas.tables import CALIBRATION_METRICS, GRADES, TABLES

BOTH = pytest.mark.parametrize("dialect", list(Dialect))
SHARD = {"namespace": "smoke", "iteration": 3, "shard_index": 7}
NAMESPACE = Column("namespace", ColumnType.STRING, required=True)
KEY_TYPES = (ColumnType.STRING, ColumnType.INT64, ColumnType.BOOL, ColumnType.DATE)

dialects = st.sampled_from(list(Dialect))
names = st.from_regex(r"\A[a-z][a-z0-9_]{0,20}\Z").filter(lambda name: name not in RESERVED)
RESERVED = {"target", "source", "namespace"}
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@st.composite
def specs(draw):
    chosen = draw(st.lists(names, max_size=8, unique=True))
    n_keys = draw(st.integers(0, len(chosen)))
    keys = [Column(n, draw(st.sampled_from(KEY_TYPES)), required=True) for n in chosen[:n_keys]]
    values = [
        Column(n, draw(st.sampled_from(list(ColumnType))), draw(st.booleans()), draw(texts))
        for n in chosen[n_keys:]
    ]
    columns = draw(st.permutations([NAMESPACE, *keys]))
    key = tuple(column.name for column in columns)
    return TableSpec(draw(names), (*columns, *values), key, cluster=key[:4])


def parsed(sql, dialect):
    (tree,) = sqlglot.parse(sql, dialect=dialect.value)
    return tree


def conditions(merge):
    """What ON says of the target's columns: the source's column, or a literal's text."""
    on = merge.args["on"]
    return [
        (
            equality.this.name,
            f"source.{equality.expression.name}"
            if isinstance(equality.expression, exp.Column)
            else equality.expression.name,
        )
        for equality in (on.flatten() if isinstance(on, exp.And) else [on])
    ]


def updated(merge):
    return [eq.this.name for update in merge.find_all(exp.Update) for eq in update.expressions]


@given(specs(), dialects)
def test_ddl_declares_every_column_once_and_requires_what_the_table_requires(table, dialect):
    columns = parsed(ddl(table, dialect, ("d", table.name)), dialect).find_all(exp.ColumnDef)
    found = [
        (column.name, any(isinstance(c.kind, exp.NotNullColumnConstraint) for c in constraints))
        for column in columns
        for constraints in [column.args["constraints"]]
    ]
    assert found == [(column.name, column.required) for column in table.columns]


@given(specs())
def test_duckdb_takes_the_ddl_the_merge_and_the_reading_of_any_table(table):
    with duckdb.connect(":memory:") as connection:
        connection.execute(ddl(table, Dialect.DUCKDB, (table.name,)))
        connection.register("staged rows", arrow_schema(table).empty_table())
        path = (table.name,)
        connection.execute(merge_sql(table, Dialect.DUCKDB, path, ("staged rows",), {}))
        read = connection.sql(select_sql(table, Dialect.DUCKDB, path, where={})).to_arrow_table()
    assert read.cast(arrow_schema(table)).num_rows == 0


@given(specs(), dialects)
def test_merge_matches_by_the_whole_key_and_writes_the_rest(table, dialect):
    merge = parsed(merge_sql(table, dialect, ("d", table.name), ("d", "staging"), {}), dialect)
    assert conditions(merge) == [(name, f"source.{name}") for name in table.key]
    assert updated(merge) == [column.name for column in table.value_columns]
    (insert,) = merge.find_all(exp.Insert)
    assert [column.name for column in insert.this.expressions] == list(table.column_names)
    assert [column.name for column in insert.expression.expressions] == list(table.column_names)
    assert {column.table for column in insert.expression.expressions} == {"source"}


@given(dialects, texts, st.integers(-(2**63), 2**63 - 1))
def test_merge_repeats_its_constants_on_the_target(dialect, namespace, iteration):
    constants = {"iteration": iteration, "namespace": namespace}
    merge = parsed(merge_sql(GRADES, dialect, ("t",), ("s",), constants), dialect)
    extra = conditions(merge)[len(GRADES.key) :]
    assert [name for name, _ in extra] == ["namespace", "iteration"]
    assert extra[0][1] == namespace
    assert extra[1][1] == str(abs(iteration))


@BOTH
def test_a_table_of_keys_alone_is_never_updated(dialect):
    table = TableSpec("seen", (NAMESPACE,), ("namespace",))
    merge = parsed(merge_sql(table, dialect, ("t",), ("s",), {}), dialect)
    assert updated(merge) == []
    assert merge.find(exp.Insert)


@BOTH
@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"grade": 1}, "constant 'grade' is not in the key of 'grades'"),
        ({"mood": 1}, "constant 'mood' is not in the key"),
        ({"iteration": "3"}, "column 'iteration' is INT64 and can't be compared with '3'"),
        ({"iteration": True}, "can't be compared with True"),
        ({"iteration": 3.0}, "can't be compared with 3.0"),
        ({"iteration": 2**63}, "can't be compared with 9223372036854775808"),
        ({"namespace": 1}, "column 'namespace' is STRING and can't be compared with 1"),
        ({"namespace": "a\0b"}, "NUL"),
    ],
)
def test_constants_that_do_not_fit_are_refused(dialect, constants, message):
    with pytest.raises(ValueError, match=message):
        merge_sql(GRADES, dialect, ("t",), ("s",), constants)


@BOTH
@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1"])
def test_only_finite_numbers_are_float_literals(dialect, value):
    with pytest.raises(ValueError, match="'share' is FLOAT64"):
        literal(Column("share", ColumnType.FLOAT64), value, dialect)


@given(texts)
def test_a_string_literal_is_the_string_in_duckdb(engine, text):
    (found,) = engine.execute(f"SELECT {string_literal(text, Dialect.DUCKDB)}").fetchone()
    assert found == text


@given(texts)
def test_a_string_literal_is_the_string_in_bigquery(text):
    tree = parsed(f"SELECT {string_literal(text, Dialect.BIGQUERY)}", Dialect.BIGQUERY)
    (found,) = tree.expressions
    assert found == exp.Literal.string(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_literal_is_the_float_in_duckdb(engine, value):
    sql = literal(Column("share", ColumnType.FLOAT64), value, Dialect.DUCKDB)
    (found,) = engine.execute(f"SELECT CAST(? AS DOUBLE) = {sql}", [value]).fetchone()
    assert found


@given(dialects, st.lists(st.text(string.printable, min_size=1), min_size=1, max_size=3))
def test_quoted_names_are_one_name_each(dialect, path):
    try:
        sql = f"SELECT 1 FROM {quote_path(path, dialect)}"
    except ValueError:
        assert set("".join(path)) & set("\n\r`\\")
        return
    found = [part.name for part in parsed(sql, dialect).find(exp.Table).parts]
    assert ".".join(found) == ".".join(path)


def test_quotes_in_names_are_doubled_for_duckdb():
    assert quote('a"b', Dialect.DUCKDB) == '"a""b"'


@pytest.mark.parametrize(
    ("name", "dialect"),
    [(name, dialect) for name in ("", "a\0b", "a\nb") for dialect in Dialect]
    + [("a`b", Dialect.BIGQUERY), ("a\\b", Dialect.BIGQUERY)],
)
def test_a_name_that_no_quotes_can_hold_is_refused(name, dialect):
    with pytest.raises(ValueError, match="can't be quoted"):
        quote(name, dialect)


def test_bigquery_ddl_partitions_and_clusters():
    sql = ddl(GRADES, Dialect.BIGQUERY, ("p", "d", "grades"))
    assert "PARTITION BY RANGE_BUCKET(`iteration`, GENERATE_ARRAY(0, 10000, 1))" in sql
    assert "CLUSTER BY `namespace`, `iteration`, `shard_index`" in sql


@pytest.mark.parametrize(
    ("kind", "partition", "rendered"),
    [
        (ColumnType.DATE, DatePartition("at"), "PARTITION BY `at`"),
        (ColumnType.TIMESTAMP, DatePartition("at"), "PARTITION BY TIMESTAMP_TRUNC(`at`, DAY)"),
        (
            ColumnType.INT64,
            IntegerRangePartition("at", -5, 20, 5),
            "PARTITION BY RANGE_BUCKET(`at`, GENERATE_ARRAY(-5, 20, 5))",
        ),
    ],
)
def test_each_kind_of_partition_is_rendered_for_bigquery_alone(kind, partition, rendered):
    table = TableSpec("t", (NAMESPACE, Column("at", kind)), ("namespace",), partition=partition)
    lines = ddl(table, Dialect.BIGQUERY, ("t",)).splitlines()
    assert rendered in lines
    assert "PARTITION" not in ddl(table, Dialect.DUCKDB, ("t",))


@BOTH
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_reading_is_in_key_order_and_counting_in_the_order_asked(table, dialect):
    where = {"iteration": 3, "namespace": "smoke"}
    select = parsed(select_sql(table, dialect, ("d", "t"), where=where), dialect)
    assert [one.this.name for one in select.args["order"].expressions] == list(table.key)
    assert select.named_selects == list(table.column_names)
    by = ("family", "iteration")
    count = parsed(count_sql(table, dialect, ("d", "t"), where=where, by=by), dialect)
    assert count.named_selects == [*by, "n"]
    assert [one.this.name for one in count.args["order"].expressions] == list(by)


@BOTH
def test_json_is_parsed_on_the_way_in_and_text_on_the_way_out(dialect):
    merge = parsed(merge_sql(CALIBRATION_METRICS, dialect, ("t",), ("s",), {}), dialect)
    source = merge.args["using"].find(exp.Select)
    assert source.named_selects == list(CALIBRATION_METRICS.column_names)
    thresholds = source.selects[source.named_selects.index("thresholds")]
    assert thresholds.find(exp.ParseJSON, exp.Cast)


@BOTH
def test_a_count_by_n_is_refused(dialect):
    table = TableSpec("t", (NAMESPACE, Column("n", ColumnType.INT64)), ("namespace",))
    with pytest.raises(ValueError, match="'n'"):
        count_sql(table, dialect, ("t",), where={}, by=("n",))


@BOTH
def test_no_name_or_value_can_end_its_statement(dialect):
    evil = "'; DROP TABLE grades; --"
    sql = select_sql(GRADES, dialect, ('"; DROP TABLE x',), where={"family": evil})
    assert len(sqlglot.parse(sql, dialect=dialect.value)) == 1
