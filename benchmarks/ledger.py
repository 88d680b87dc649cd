"""Claims completed per second: group commit against one transaction per call, in one run.

Both sides run the same statements on the same settings (WAL, synchronous=FULL), 64 callers at a
time, on fresh files in turn; the ratio is that of the medians.
"""

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TypeVar

from infra.ledger import scripts
from infra.ledger.base import SqlLedger
from infra.ledger.schema import SQLITE
from infra.ledger.scripts import Many, Script
from infra.ledger.sqlite import SqliteLedger
from infra.ledger.statements import render
from infra.ports import Cause, Claim, ClaimKey, Outgoing, Receipt

T = TypeVar("T")

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CAUSE = Cause("event-1", "nexus.shard.requested.v1", NOW)


class PlainLedger(SqlLedger):
    """The baseline: ``sqlite3`` in a thread, one transaction per call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1)

    async def open(self) -> None:
        self._connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        await self._write(lambda: scripts.migrate(SQLITE))

    async def close(self) -> None:
        self._thread.shutdown()
        self._connection.close()

    async def _write(self, script: Callable[[], Script[T]]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._transact, script
        )

    async def _read(self, script: Callable[[], Script[T]]) -> T:
        return await self._write(script)

    def _transact(self, script: Callable[[], Script[T]]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            value = self._drive(script())
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return value

    def _drive(self, script: Script[T]) -> T:
        try:
            statement = next(script)
            while True:
                sql = render(statement.sql, SQLITE).replace("$", "?")
                if isinstance(statement, Many):
                    self._connection.executemany(sql, statement.parameters)
                    statement = script.send(())
                else:
                    rows = self._connection.execute(sql, statement.parameters).fetchall()
                    statement = script.send(rows)
        except StopIteration as end:
            value: T = end.value
            return value


async def claim_and_complete(ledger: SqlLedger, subject: str) -> None:
    key = ClaimKey(subject, "merge")
    claim = await ledger.claim(key, cause=CAUSE, owner="w", now=NOW, lease_seconds=60)
    if not isinstance(claim, Claim):
        raise SystemExit(f"{key} was not free")
    event = Outgoing(subject, "shard-merged", b"{}" * 100, {"ce-id": subject}, NOW)
    await ledger.complete(claim, Receipt("sha256:0", {"rows": 60}), [event], now=NOW)


async def per_second(ledger: SqlLedger, steps: int, concurrency: int) -> float:
    """Steps claimed and completed in a second."""
    subjects = iter(range(steps))

    async def caller() -> None:
        for number in subjects:
            await claim_and_complete(ledger, f"smoke/1/shard/{number}")

    await ledger.open()
    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    elapsed = time.perf_counter() - began
    await ledger.close()
    return steps / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6_400)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    figures: dict[str, list[float]] = {"grouped": [], "plain": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.rounds):
            for name, ledger_type in (("plain", PlainLedger), ("grouped", SqliteLedger)):
                ledger = ledger_type(Path(folder) / f"{name}-{number}.db")
                figure = asyncio.run(per_second(ledger, asked.steps, asked.concurrency))
                figures[name].append(figure)
                print(f"{name}: {figure:.0f} claim+complete/s", file=sys.stderr)
    grouped, plain = median(figures["grouped"]), median(figures["plain"])
    document = {
        "benchmark": "ledger",
        "concurrency": asked.concurrency,
        "grouped_per_second": round(grouped),
        "plain_per_second": round(plain),
        "ratio": round(grouped / plain, 2),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
