"""What is DuckDB's own: one file that the workers of a machine share, and that survives them."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from infra.errors import SchemaMismatchError, ServiceUnavailableError, TransientError
from infra.warehouse.duckdb import DuckDbWarehouse
from schemas.spec import Column, ColumnType, TableSpec
from schemas.sql import Dialect, ddl, merge_sql
from schemas.tables import GRADES

ROOT = Path(__file__).parents[3]
SIZE = 20_000

WORKER = """
import asyncio, sys
from pathlib import Path
import pyarrow as pa
from infra.warehouse.duckdb import DuckDbWarehouse
from schemas.arrow import arrow_schema
from schemas.tables import GRADES

async def work(path, first, shards, size):
    warehouse = DuckDbWarehouse(Path(path))
    await warehouse.open([GRADES])
    for shard in range(first, first + shards):
        columns = {
            "namespace": ["smoke"] * size, "iteration": [1] * size, "shard_index": [shard] * size,
            "family": ["openness"] * size, "persona": range(size), "session": [0] * size,
            "turn": [0] * size, "construct": ["fantasy"] * size, "grade": [shard % 5] * size,
        }
        rows = pa.table({name: pa.array(list(v)) for name, v in columns.items()})
        rows = rows.cast(arrow_schema(GRADES))
        print("merging", shard, flush=True)
        await warehouse.merge(
            GRADES, rows, claim=f"smoke/1/shard/{shard}/merge",
            constants={"namespace": "smoke", "iteration": 1, "shard_index": shard},
        )
    await warehouse.close()

asyncio.run(work(sys.argv[1], *map(int, sys.argv[2:])))
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "warehouse.duckdb"


@pytest.fixture
async def warehouse(path):
    opened = DuckDbWarehouse(path)
    yield opened
    await opened.close()


def worker(path, first, shards, size):
    arguments = [sys.executable, "-c", WORKER, str(path), str(first), str(shards), str(size)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


async def rows_by_shard(warehouse):
    counted = await warehouse.count(GRADES, where={}, by=("shard_index",))
    columns = counted.to_pydict()
    return dict(zip(columns["shard_index"], columns["n"], strict=True))


async def test_processes_share_the_file(warehouse, path):
    await warehouse.open([GRADES])
    workers = [worker(path, first, 5, 100) for first in (0, 5)]
    outcomes = [await asyncio.to_thread(process.communicate) for process in workers]
    assert [process.returncode for process in workers] == [0, 0], outcomes
    assert await rows_by_shard(warehouse) == dict.fromkeys(range(10), 100)


async def test_a_killed_process_leaves_whole_merges_and_a_usable_file(warehouse, path):
    await warehouse.open([GRADES])
    for kill_at in range(1, 5):
        process = worker(path, 0, 5, SIZE)
        for line in process.stdout:
            if line == f"merging {kill_at}\n":
                os.kill(process.pid, signal.SIGKILL)
                break
        process.communicate()
        found = await rows_by_shard(warehouse)
        assert set(found.values()) <= {SIZE}
        assert set(found) >= set(range(kill_at))
    finisher = worker(path, 0, 5, SIZE)
    await asyncio.to_thread(finisher.communicate)
    assert await rows_by_shard(warehouse) == dict.fromkeys(range(5), SIZE)


@pytest.fixture
def holder(path):
    """A program that is no worker and keeps the file open until it is given a line."""
    path.parent.mkdir()
    hold = f"import duckdb; c = duckdb.connect({str(path)!r}); print('held', flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


async def test_a_file_that_another_program_holds_is_worth_another_try(warehouse, holder):
    with pytest.raises(TransientError, match="is not a worker"):
        await warehouse.open([GRADES])
    await asyncio.to_thread(holder.communicate, "\n")
    await warehouse.open([GRADES])
    assert (await warehouse.count(GRADES, where={}, by=())).to_pydict() == {"n": [0]}


async def test_a_worker_that_waits_too_long_for_its_turn_says_so(warehouse, path):
    await warehouse.open([GRADES])
    impatient = DuckDbWarehouse(path, lock_timeout_seconds=0)
    with warehouse._turn(), pytest.raises(TransientError, match="is busy"):
        await impatient.open([GRADES])
    await impatient.open([GRADES])
    await impatient.close()


async def test_a_file_that_is_no_database_is_refused(warehouse, path):
    path.parent.mkdir()
    path.write_text("grades\n")
    with pytest.raises(ServiceUnavailableError, match=r"warehouse\.duckdb"):
        await warehouse.open([GRADES])


async def test_a_folder_that_can_not_be_made_is_refused(warehouse, path):
    path.parent.write_text("a file where the folder should be")
    with pytest.raises(ServiceUnavailableError, match="deep"):
        await warehouse.open([GRADES])


@pytest.mark.parametrize("other", [ColumnType.FLOAT64, ColumnType.STRING])
async def test_a_table_with_other_columns_is_refused(warehouse, other):
    namespace = Column("namespace", ColumnType.STRING, required=True)
    before = TableSpec("t", (namespace, Column("value", ColumnType.INT64)), ("namespace",))
    after = TableSpec("t", (namespace, Column("value", other)), ("namespace",))
    await warehouse.open([before])
    with pytest.raises(SchemaMismatchError, match="'t' exists with other columns"):
        await warehouse.open([after])


async def test_closing_waits_for_what_is_under_way(path):
    warehouse = DuckDbWarehouse(path)
    await warehouse.open([GRADES])
    counting = [asyncio.create_task(warehouse.count(GRADES, where={}, by=())) for _ in range(3)]
    await asyncio.sleep(0)
    await warehouse.close()
    assert [(await one).to_pydict() for one in counting] == [{"n": [0]}] * 3


def test_a_merge_reads_only_the_row_groups_of_its_shard(tmp_path):
    constants = {"namespace": "smoke", "iteration": 1, "shard_index": 3}
    merge = merge_sql(GRADES, Dialect.DUCKDB, ("grades",), ("staging",), constants)
    with duckdb.connect(str(tmp_path / "groups.duckdb")) as connection:
        connection.execute(ddl(GRADES, Dialect.DUCKDB, ("grades",)))
        connection.execute(
            "INSERT INTO grades SELECT 'smoke', 1, i // 122880, 'openness', i, 0, 0, 'fantasy', 0 "
            "FROM range(8 * 122880) AS rows(i)",
        )
        connection.execute(
            "CREATE TEMP TABLE staging AS FROM grades WHERE shard_index = 3 LIMIT 1000",
        )
        plan = connection.execute(f"EXPLAIN ANALYZE {merge}").fetchone()[1]
    assert "Row Groups Scanned: 1 / 8" in plan
