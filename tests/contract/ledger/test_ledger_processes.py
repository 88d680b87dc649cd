"""Several processes on one ledger, and processes that are killed while they write."""

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import asyncpg
import pytest

import infra
from infra.ports import StepStatus

ROOT = Path(infra.__file__).parents[1]
LATER = datetime(2026, 11, 22, tzinfo=UTC)


COUNT_VICTIMS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'worker'"


async def end(process, ledger_url):
    """Kill a process; back when nothing that it sent is under way any more."""
    process.kill()
    said = process.stdout.read()
    process.wait()
    if ledger_url.startswith("postgresql"):
        connection = await asyncpg.connect(ledger_url)
        while await connection.fetchval(COUNT_VICTIMS):  # noqa: ASYNC110 - the server's state
            await asyncio.sleep(0.01)
        await connection.close()
    return said


@pytest.fixture
def start(ledger_url):
    """Starts a worker process that waits for ``go``."""
    with ExitStack() as stack:

        def start_one(mode, owner, prefix):
            is_postgres = ledger_url.startswith("postgresql")
            url = f"{ledger_url}&application_name=worker" if is_postgres else ledger_url
            worker = Path(__file__).with_name("worker.py")
            process = subprocess.Popen(
                [sys.executable, worker, mode, url, owner, prefix],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout.readline() == "ready\n"
            return process

        yield start_one


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


async def assert_whole(ledger, prefix, saved):
    """What a process said was saved is, and every completion has its two events."""
    completed = {
        record.key.subject
        for record in await ledger.steps(prefix)
        if record.status == StepStatus.COMPLETED
    }
    assert saved <= completed
    outgoing = await ledger.take_due(now=LATER, owner="r", lease_seconds=1, limit=1_000_000)
    found = sorted(event.id for event in outgoing if event.id.startswith(f"{prefix}/"))
    assert found == sorted(f"{subject}/{n}" for subject in completed for n in range(2))


async def test_two_processes_share_one_ledger(ledger, start):
    processes = [start("race", owner, "smoke/1") for owner in ("one", "two")]
    for process in processes:
        go(process)
    got = [set(process.communicate(timeout=60)[0].split()) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert not got[0] & got[1]
    assert got[0] | got[1] == {f"smoke/1/{n}" for n in range(300)}
    await assert_whole(ledger, "smoke/1", got[0] | got[1])


async def test_kill_9_leaves_no_half_saved_completion(ledger_url, opened, start):
    for round_number in range(3):
        prefix = f"smoke/{round_number}"
        process = start("storm", "victim", prefix)
        go(process)
        saved = [line.strip() for line in islice(process.stdout, 150)]
        said = await end(process, ledger_url)
        # What follows the last newline was cut short.
        saved += said.split("\n")[:-1]
        ledger = await opened(ledger_url)
        await assert_whole(ledger, prefix, set(saved))


async def test_a_killed_owners_lease_runs_out(ledger_url, opened, start):
    process = start("storm", "victim", "smoke/1")
    go(process)
    process.stdout.readline()
    await end(process, ledger_url)
    ledger = await opened(ledger_url)
    due = LATER + timedelta(days=1)
    for record in await ledger.steps("smoke/1"):
        answer = await ledger.claim(
            record.key, cause=record.cause, owner="heir", now=due, lease_seconds=1
        )
        if record.status == StepStatus.CLAIMED:
            assert (answer.owner, answer.token) == ("heir", 2)
        else:
            assert answer.receipt == record.receipt
