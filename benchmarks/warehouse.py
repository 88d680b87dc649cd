"""DuckDB: keyed MERGE through the warehouse port, against a plain INSERT ... SELECT.

Both write the same rows from memory to a file of their own, in turns, opening and closing it each
time. Prints one JSON document: medians in rows per second, and the ratio of merge to append.

    python benchmarks/warehouse.py [--rows 70000 1000000] [--rounds 5]
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from infra.warehouse.duckdb import DuckDbWarehouse
from schemas.arrow import arrow_schema
from schemas.sql import Dialect, ddl
from schemas.tables import GRADES

CONSTRUCTS = np.array(["fantasy", "aesthetics", "feelings", "actions", "ideas", "values"])


def shard_rows(shard: int, size: int) -> pa.Table:
    row = np.arange(size)
    turn = row // CONSTRUCTS.size
    columns = {
        "namespace": np.full(size, "smoke").tolist(),
        "iteration": np.full(size, 1),
        "shard_index": np.full(size, shard),
        "family": np.full(size, "openness").tolist(),
        "persona": turn // 600,
        "session": turn // 12 % 50,
        "turn": turn % 12,
        "construct": CONSTRUCTS[row % CONSTRUCTS.size].tolist(),
        "grade": row % 5,
    }
    return pa.table(columns, arrow_schema(GRADES))


def append(path: Path, rows: pa.Table) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(ddl(GRADES, Dialect.DUCKDB, ("grades",)))
        connection.register("source", rows)
        connection.execute("INSERT INTO grades SELECT * FROM source")


async def merge(warehouse: DuckDbWarehouse, shard: int, rows: pa.Table) -> None:
    constants = {"namespace": "smoke", "iteration": 1, "shard_index": shard}
    await warehouse.merge(GRADES, rows, claim=f"smoke/1/shard/{shard}/merge", constants=constants)


async def measure(folder: Path, size: int, rounds: int) -> dict[str, float]:
    warehouse = DuckDbWarehouse(folder / f"merge-{size}.duckdb")
    await warehouse.open([GRADES])
    seconds: dict[str, list[float]] = {"append": [], "merge": [], "again": []}
    for shard in range(rounds):
        rows = shard_rows(shard, size)
        started = time.perf_counter()
        append(folder / f"append-{size}.duckdb", rows)
        appended = time.perf_counter()
        await merge(warehouse, shard, rows)
        merged = time.perf_counter()
        await merge(warehouse, shard, rows)
        seconds["append"].append(appended - started)
        seconds["merge"].append(merged - appended)
        seconds["again"].append(time.perf_counter() - merged)
    await warehouse.close()
    rate = {name: size / statistics.median(values) for name, values in seconds.items()}
    return {
        "rows": size,
        "append_rows_per_second": round(rate["append"]),
        "merge_rows_per_second": round(rate["merge"]),
        "merge_again_rows_per_second": round(rate["again"]),
        "merge_to_append": round(rate["merge"] / rate["append"], 3),
    }


async def main(sizes: list[int], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = [await measure(Path(folder), size, rounds) for size in sizes]
    print(json.dumps({"benchmark": "warehouse", "rounds": rounds, "results": results}, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[70_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    asyncio.run(main(wanted.rows, wanted.rounds))
