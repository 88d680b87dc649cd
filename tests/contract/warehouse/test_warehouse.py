"""What every warehouse holds to; see ``infra/ports.py``."""

import asyncio
import contextlib
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from infra.errors import DuplicateKeyError, SchemaMismatchError, TransientError
from infra.ports import MergeResult
from schemas.arrow import arrow_schema
from schemas.spec import Column, ColumnType, TableSpec
from schemas.tables import CALIBRATION_METRICS, GRADES, TABLES

SHARD = {"namespace": "smoke", "iteration": 1, "shard_index": 0}

EVERY_TYPE = TableSpec(
    name="every_type",
    columns=(
        Column("namespace", ColumnType.STRING, required=True),
        Column("name", ColumnType.STRING, required=True),
        Column("count", ColumnType.INT64),
        Column("share", ColumnType.FLOAT64),
        Column("holds", ColumnType.BOOL),
        Column("at", ColumnType.TIMESTAMP),
        Column("day", ColumnType.DATE),
        Column("cost", ColumnType.NUMERIC),
        Column("details", ColumnType.JSON),
    ),
    key=("namespace", "name"),
)

ODD_STRINGS = (
    "", " ", "'", '"', "`", "\\", "\\n", "it's \"quoted\"", "a\nb\r\tc", "0", "null", "NULL", "NA",
    "Ünïcödé", "日本語",
    "👩🏽‍🚀 🇪🇺", "e\u0301", "é", "{}", "%s ? $1 @x", "-- ;", "\u200b", "\ufeff",
)  # fmt: skip


def grades(size, *, namespace="smoke", iteration=1, shard=0, grade=0, personas=None):
    columns = {
        "namespace": [namespace] * size,
        "iteration": [iteration] * size,
        "shard_index": [shard] * size,
        "family": ["openness"] * size,
        "persona": personas or [row // 12 for row in range(size)],
        "session": [0] * size,
        "turn": [row % 12 for row in range(size)],
        "construct": ["fantasy"] * size,
        "grade": [(row + grade) % 5 for row in range(size)],
    }
    return pa.table(columns, arrow_schema(GRADES))


def every_type(**values):
    row = dict.fromkeys(EVERY_TYPE.column_names) | {"namespace": "smoke", "name": "a"} | values
    return pa.Table.from_pylist([row], arrow_schema(EVERY_TYPE))


def replaced(rows, name, values):
    column = pa.array(values)
    field = rows.schema.field(name)
    kept = field if field.type == column.type and not column.null_count else name
    return rows.set_column(rows.column_names.index(name), kept, column)


async def total(warehouse, table=GRADES, **where):
    counted = await warehouse.count(table, where=where, by=())
    return counted.column("n").to_pylist()[0]


@pytest.fixture
async def ready(warehouse):
    await warehouse.open((GRADES, EVERY_TYPE))
    return warehouse


async def test_opening_twice_keeps_the_rows(ready, connect):
    await ready.merge(GRADES, grades(3), claim="c", constants=SHARD)
    again = connect()
    await again.open((GRADES, EVERY_TYPE))
    assert await total(again) == 3


async def test_rows_come_back_as_they_went_in(ready):
    rows = grades(30)
    assert await ready.merge(GRADES, rows, claim="c", constants=SHARD) == MergeResult(30, 30, 0)
    assert (await ready.read(GRADES, where=SHARD)).equals(rows)


async def test_the_same_rows_again_change_nothing(ready):
    await ready.merge(GRADES, grades(30), claim="c", constants=SHARD)
    again = await ready.merge(GRADES, grades(30), claim="c", constants=SHARD)
    assert again == MergeResult(30, 0, 0)
    assert (await ready.read(GRADES, where=SHARD)).equals(grades(30))


async def test_a_changed_grade_updates_its_row_alone(ready):
    before, after = grades(30), replaced(grades(30), "grade", [9, *range(1, 30)])
    first = replaced(before, "grade", list(range(30)))
    await ready.merge(GRADES, first, claim="c", constants=SHARD)
    assert await ready.merge(GRADES, after, claim="c", constants=SHARD) == MergeResult(30, 0, 1)
    assert (await ready.read(GRADES, where=SHARD)).equals(after)


async def test_earlier_rows_can_be_put_back(ready):
    await ready.merge(GRADES, grades(3), claim="c", constants=SHARD)
    await ready.merge(GRADES, grades(3, grade=1), claim="c", constants=SHARD)
    back = await ready.merge(GRADES, grades(3), claim="c", constants=SHARD)
    assert back == MergeResult(3, 0, 3)
    assert (await ready.read(GRADES, where=SHARD)).equals(grades(3))


async def test_new_and_old_rows_merge_together(ready):
    await ready.merge(GRADES, grades(12), claim="a", constants=SHARD)
    more = await ready.merge(GRADES, grades(24, grade=1), claim="b", constants=SHARD)
    assert more == MergeResult(24, 12, 12)


async def test_no_constants_are_needed(ready):
    rows = pa.concat_tables([grades(3), grades(3, iteration=2), grades(3, shard=7)])
    assert await ready.merge(GRADES, rows, claim="c", constants={}) == MergeResult(9, 9, 0)
    assert await ready.merge(GRADES, rows, claim="c", constants={}) == MergeResult(9, 0, 0)


async def test_no_rows_merge_to_no_rows(ready):
    assert await ready.merge(GRADES, grades(0), claim="c", constants=SHARD) == MergeResult(0, 0, 0)
    assert (await ready.read(GRADES, where=SHARD)).equals(grades(0))
    assert await total(ready) == 0


async def test_columns_may_stand_in_any_order(ready):
    turned = grades(3).select(list(reversed(GRADES.column_names)))
    await ready.merge(GRADES, turned, claim="c", constants=SHARD)
    assert (await ready.read(GRADES, where=SHARD)).equals(grades(3))


async def test_duplicates_are_refused_by_their_key(ready):
    rows = pa.concat_tables([grades(3), grades(1, grade=1)])
    with pytest.raises(DuplicateKeyError, match=r"2 rows .*shard_index=0.*persona=0.*turn=0"):
        await ready.merge(GRADES, rows, claim="c", constants=SHARD)
    assert await total(ready) == 0


async def test_equal_duplicates_are_refused_too(ready):
    rows = pa.concat_tables([every_type(), every_type()])
    with pytest.raises(DuplicateKeyError, match="name='a'"):
        await ready.merge(
            EVERY_TYPE, rows, claim="c", constants={"namespace": "smoke", "name": "a"},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "constants", "message"),
    [
        (grades(2).drop_columns("grade"), SHARD, "'grade' of table 'grades' is missing"),
        (grades(2).append_column("mood", [["x"] * 2]), SHARD, "'mood' is unknown"),
        (grades(2).append_column("grade", [[1, 2]]), SHARD, "'grade' .* is there twice"),
        (replaced(grades(2), "grade", [1, None]), SHARD, "'grade' .* row 1: is null"),
        (replaced(grades(2), "grade", ["1", "2"]), SHARD, "'grade' .* is string, not int64"),
        (replaced(grades(2), "grade", [1.0, 2.0]), SHARD, "'grade' .* is double, not int64"),
        (replaced(grades(2), "shard_index", [0, 1]), SHARD, "row 1: is 1, not the constant 0"),
        (grades(2, namespace="production"), SHARD, "row 0: is 'production', not .* 'smoke'"),
        (grades(2), {"grade": 1}, "'grade' is not in the key"),
        (grades(2), {"iteration": "1"}, "'iteration' is INT64 and can't be compared with '1'"),
    ],
)
async def test_rows_that_do_not_fit_are_refused(ready, rows, constants, message):
    with pytest.raises(SchemaMismatchError, match=message):
        await ready.merge(GRADES, rows, claim="c", constants=constants)
    assert await total(ready) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": float("nan")}, "'share' .* row 0: is nan"),
        ({"share": float("inf")}, "'share' .* row 0: is inf"),
        ({"details": "{'a': 1}"}, "'details' .* row 0: is not JSON"),
        ({"details": "[NaN]"}, "NaN is no JSON number"),
        ({"details": '"\\ud800"'}, "'details' .* row 0: is not JSON"),
    ],
)
async def test_values_that_one_engine_would_change_are_refused(ready, values, message):
    with pytest.raises(SchemaMismatchError, match=message):
        await ready.merge(EVERY_TYPE, every_type(**values), claim="c", constants={})


async def test_namespaces_never_meet(ready):
    for namespace, grade in (("smoke", 0), ("production", 1)):
        rows = grades(3, namespace=namespace, grade=grade)
        await ready.merge(GRADES, rows, claim="c", constants={**SHARD, "namespace": namespace})
    assert (await ready.read(GRADES, where=SHARD)).equals(grades(3))
    assert await total(ready) == 6
    assert await total(ready, namespace="production") == 3


async def test_namespaces_never_meet_without_constants_either(ready):
    smoke, production = grades(3), grades(3, namespace="production", grade=1)
    for rows in (smoke, production):
        assert await ready.merge(GRADES, rows, claim="c", constants={}) == MergeResult(3, 3, 0)
    assert (await ready.read(GRADES, where={})).equals(pa.concat_tables([production, smoke]))


async def test_rows_are_counted_by_columns_in_order(ready):
    for shard, size in ((1, 5), (0, 3)):
        constants = {**SHARD, "shard_index": shard}
        await ready.merge(GRADES, grades(size, shard=shard), claim=f"{shard}", constants=constants)
    counted = await ready.count(
        GRADES, where={"namespace": "smoke"}, by=("shard_index", "grade"),
    )  # fmt: skip
    assert counted.schema.field("n").type == pa.int64()
    assert counted.to_pydict() == {
        "shard_index": [0, 0, 0, 1, 1, 1, 1, 1],
        "grade": [0, 1, 2, 0, 1, 2, 3, 4],
        "n": [1] * 8,
    }


async def test_rows_are_read_in_key_order_and_only_where_asked(ready):
    rows = grades(4, personas=[3, 1, 2, 0])
    await ready.merge(GRADES, rows, claim="c", constants=SHARD)
    read = await ready.read(GRADES, where=SHARD, columns=("persona", "grade"))
    assert read.to_pydict() == {"persona": [0, 1, 2, 3], "grade": [3, 1, 2, 0]}
    one = await ready.read(GRADES, where={**SHARD, "persona": 2}, columns=("turn",))
    assert one.to_pydict() == {"turn": [2]}


async def test_an_unknown_column_is_named(ready):
    with pytest.raises(ValueError, match="'grades' has no column 'mood'"):
        await ready.read(GRADES, where={"mood": 1})


async def test_every_type_comes_back_exactly(ready):
    cases = [
        {"count": 2**63 - 1},
        {"count": -(2**63)},
        {"share": 0.1},
        {"share": 5e-324},
        {"share": 1.7976931348623157e308},
        {"share": -0.25},
        {"holds": True},
        {"holds": False},
        {"at": datetime(2026, 11, 21, 2, 15, 0, 123456, UTC)},
        {"at": datetime(1900, 1, 1, tzinfo=UTC)},
        {"day": date(2026, 2, 28)},
        {"cost": Decimal("12345678901234567890.123456789")},
        {"cost": Decimal("-0.000000001")},
        {"details": '{"a":[1,2.5,null,true],"b":"it\'s \\"x\\" \\\\ 👩"}'},
        {"details": "[]"},
        {"details": "null"},
        {"details": '"text"'},
        {"details": "0.1"},
        {},
    ]
    rows = pa.concat_tables(
        every_type(name=f"{number:02}", **values) for number, values in enumerate(cases)
    )
    await ready.merge(EVERY_TYPE, rows, claim="c", constants={})
    assert (await ready.read(EVERY_TYPE, where={})).to_pylist() == rows.to_pylist()
    again = await ready.merge(EVERY_TYPE, rows, claim="c", constants={})
    assert again == MergeResult(len(cases), 0, 0)


async def test_equal_json_is_equal_however_it_is_written(ready):
    await ready.merge(EVERY_TYPE, every_type(details='{"b": 1, "a": 2}'), claim="c", constants={})
    again = await ready.merge(
        EVERY_TYPE, every_type(details=' {"a":2,"b":1}'), claim="c", constants={},
    )  # fmt: skip
    assert again == MergeResult(1, 0, 0)
    read = await ready.read(EVERY_TYPE, where={}, columns=("details",))
    assert read.to_pydict() == {"details": ['{"a":2,"b":1}']}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"share": 0.5}, {"share": None}),
        ({"share": None}, {"share": 0.5}),
        ({"details": '{"a":1}'}, {"details": '{"a":2}'}),
        ({"details": None}, {"details": "null"}),
        ({"cost": Decimal(1)}, {"cost": Decimal("1.000000001")}),
    ],
)
async def test_any_difference_updates(ready, before, after):
    await ready.merge(EVERY_TYPE, every_type(**before), claim="c", constants={})
    changed = await ready.merge(EVERY_TYPE, every_type(**after), claim="c", constants={})
    assert changed == MergeResult(1, 0, 1)
    assert (await ready.read(EVERY_TYPE, where={})).to_pylist() == every_type(**after).to_pylist()


async def test_odd_strings_are_keys_and_are_found(ready):
    rows = pa.concat_tables(every_type(name=name) for name in ODD_STRINGS)
    merged = await ready.merge(EVERY_TYPE, rows, claim="c", constants={"namespace": "smoke"})
    assert merged.inserted == len(ODD_STRINGS)
    for name in ODD_STRINGS:
        found = await ready.read(EVERY_TYPE, where={"name": name}, columns=("name",))
        assert found.to_pydict() == {"name": [name]}


@pytest.mark.parametrize("name", ["", 'it\'s "`\\`"', "a\nb\r\tc", "👩🏽‍🚀 e\u0301"], ids=ascii)
async def test_an_odd_string_is_a_constant(ready, name):
    both = pa.concat_tables([every_type(name=name), every_type(name="other")])
    await ready.merge(EVERY_TYPE, both, claim=name, constants={})
    constants = {"namespace": "smoke", "name": name}
    again = await ready.merge(
        EVERY_TYPE, every_type(name=name, count=1), claim=name, constants=constants,
    )  # fmt: skip
    assert again == MergeResult(1, 0, 1)


async def test_seventy_thousand_rows_merge(ready):
    rows = grades(70_000)
    merged = await ready.merge(GRADES, rows, claim="c", constants=SHARD)
    assert merged == MergeResult(70_000, 70_000, 0)
    assert await total(ready, **SHARD) == 70_000
    again = await ready.merge(GRADES, grades(70_000, grade=1), claim="c", constants=SHARD)
    assert again == MergeResult(70_000, 0, 70_000)
    counted = await ready.count(GRADES, where=SHARD, by=("grade",))
    assert counted.column("n").to_pylist() == [14_000] * 5


async def test_shards_merge_at_the_same_time(ready, connect):
    workers = [ready, connect()]
    merges = [
        workers[shard % 2].merge(
            GRADES,
            grades(100, shard=shard),
            claim=f"smoke/1/shard/{shard}/merge",
            constants={**SHARD, "shard_index": shard},
        )
        for shard in range(6)
    ]
    assert await asyncio.gather(*merges) == [MergeResult(100, 100, 0)] * 6
    counted = await ready.count(GRADES, where={}, by=("shard_index",))
    assert counted.to_pydict() == {"shard_index": list(range(6)), "n": [100] * 6}


async def merge_until_done(worker):
    """As a handler does: a transient error is worth another try."""
    while True:
        with contextlib.suppress(TransientError):
            return await worker.merge(
                GRADES, grades(100), claim="smoke/1/shard/0/merge", constants=SHARD,
            )  # fmt: skip


async def test_one_shard_merged_by_many_at_once_is_there_once(ready, connect):
    workers = [ready, connect(), connect()]
    results = await asyncio.gather(*map(merge_until_done, workers))
    assert sorted(result.inserted for result in results) == [0, 0, 100]
    assert (await ready.read(GRADES, where=SHARD)).num_rows == 100


async def test_metrics_carry_their_thresholds(warehouse):
    await warehouse.open(TABLES)
    row = dict.fromkeys(CALIBRATION_METRICS.column_names) | {
        "namespace": "smoke",
        "iteration": 1,
        "family": "openness",
        "item": "fantasy",
        "discrimination_mean": 1.25,
        "thresholds": '[{"hdi95":[-1.5,-0.5],"mean":-1.0,"sd":0.25}]',
        "n_responses": 120,
    }
    rows = pa.Table.from_pylist([row], arrow_schema(CALIBRATION_METRICS))
    await warehouse.merge(CALIBRATION_METRICS, rows, claim="c", constants={})
    assert (await warehouse.read(CALIBRATION_METRICS, where={})).to_pylist() == [row]
