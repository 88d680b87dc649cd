"""What is SQLite's alone: waiting for the file, full disks, broken files, group commit."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

import infra
from infra.errors import ServiceUnavailableError, SettingsError, TransientError
from infra.ledger.sqlite import SqliteLedger
from infra.ports import Cause, Claim, ClaimKey

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CAUSE = Cause("event-1", "nexus.shard.requested.v1", NOW)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "ledger.db"


@pytest.fixture
async def ledger(path):
    ledger = SqliteLedger(path)
    await ledger.open()
    yield ledger
    await ledger.close()


@pytest.fixture
def neighbour(ledger):
    """A connection of somebody else."""
    path = ledger._path
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def claim(ledger, step="merge"):
    key = ClaimKey("smoke/1", step)
    return ledger.claim(key, cause=CAUSE, owner="w", now=NOW, lease_seconds=60)


def claim_many(ledger, n):
    calls = (claim(ledger, str(number)) for number in range(n))
    return asyncio.gather(*calls, return_exceptions=True)


async def test_the_file_is_safe_against_power_loss(ledger, neighbour):
    assert neighbour.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    full = 2
    assert ledger._writer._connection.raw.execute("PRAGMA synchronous").fetchone() == (full,)


async def test_a_writing_neighbour_stops_neither_the_loop_nor_reading(ledger, neighbour):
    neighbour.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(claim(ledger))
    assert await ledger.step(ClaimKey("smoke/1", "merge")) is None
    assert not waiting.done()
    neighbour.execute("COMMIT")
    assert isinstance(await waiting, Claim)


async def test_a_neighbour_that_never_lets_go_is_worth_another_try(path):
    ledger = SqliteLedger(path, busy_timeout_seconds=0.05)
    await ledger.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as neighbour:
        neighbour.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match="locked"):
            await claim(ledger)
        neighbour.execute("COMMIT")
        assert isinstance(await claim(ledger), Claim)
    await ledger.close()


async def test_waiting_calls_share_a_transaction(ledger, neighbour):
    raw = ledger._writer._connection.raw
    neighbour.execute("BEGIN IMMEDIATE")
    waiting = claim_many(ledger, 100)
    await ledger.sagas()  # once this is answered, all claims wait
    statements = []
    raw.set_trace_callback(statements.append)
    neighbour.execute("COMMIT")
    answers = await waiting
    raw.set_trace_callback(None)
    assert all(isinstance(answer, Claim) for answer in answers)
    # The first of them may have begun before the others came.
    assert statements.count("COMMIT") <= 2


async def test_a_call_given_up_under_way_takes_nothing_from_its_neighbours(ledger, neighbour):
    neighbour.execute("BEGIN IMMEDIATE")
    calls = [asyncio.create_task(claim(ledger, str(number))) for number in range(20)]
    await ledger.sagas()  # once this is answered, all claims wait
    while not ledger._writer._waiting.empty():  # noqa: ASYNC110 - the thread's state
        await asyncio.sleep(0.001)
    calls[0].cancel()
    neighbour.execute("COMMIT")
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, Claim) for answer in answers[1:])


async def test_a_full_disk_is_told_to_all_and_leaves_the_ledger_usable(ledger):
    raw = ledger._writer._connection.raw
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.execute(f"PRAGMA max_page_count = {pages}")
    answers = await claim_many(ledger, 500)
    refused = [answer for answer in answers if not isinstance(answer, Claim)]
    assert refused
    assert all(isinstance(answer, TransientError) for answer in refused)
    assert len(await ledger.steps("smoke/1")) == len(answers) - len(refused)
    raw.execute(f"PRAGMA max_page_count = {pages * 1000}")
    assert isinstance(await claim(ledger, "after"), Claim)


async def test_a_value_that_sqlite_cannot_hold_fails_its_call_alone(ledger):
    stale = Claim(ClaimKey("smoke/1", "huge"), 2**70, 1, "w", NOW)
    answers = await asyncio.gather(
        claim(ledger, "before"),
        ledger.release(stale, now=NOW, reason="x"),
        claim(ledger, "after"),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Claim, OverflowError, Claim]
    assert len(await ledger.steps("smoke/1")) == 2


@pytest.mark.parametrize("make", ["no database", "folder", "below a file"])
async def test_a_path_that_holds_no_ledger_is_refused(tmp_path, make):
    path = tmp_path / "ledger.db"
    match make:
        case "no database":
            path.write_text("these are not the bytes of a database" * 100)
        case "folder":
            path.mkdir()
        case "below a file":
            path.write_text("")
            path /= "ledger.db"
    with pytest.raises(ServiceUnavailableError, match=r"ledger\.db can't be opened"):
        await SqliteLedger(path).open()


async def test_a_newer_schema_is_refused_with_the_way_out(neighbour, path):
    neighbour.execute("INSERT INTO schema_version (version) VALUES (7)")
    with pytest.raises(SettingsError, match="has schema version 7, this program knows 1: use"):
        await SqliteLedger(path).open()


async def test_a_second_opening_migrates_nothing(neighbour, path):
    second = SqliteLedger(path)
    await second.open()
    await second.close()
    assert neighbour.execute("SELECT version FROM schema_version").fetchall() == [(1,)]


def test_a_program_that_never_closes_its_ledger_ends(path):
    program = f"""
import asyncio, pathlib
from infra.ledger.sqlite import SqliteLedger
async def main():
    ledger = SqliteLedger(pathlib.Path({str(path)!r}))
    await ledger.open()
    asyncio.ensure_future(ledger.sagas())
    await asyncio.sleep(0)
asyncio.run(main())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(infra.__file__).parents[1],
    )
    assert (ended.returncode, ended.stderr) == (0, "")
