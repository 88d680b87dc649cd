"""Several processes on one ledger, and processes that are killed while they write."""

import os
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

import infra
from infra.ports import StepStatus

ROOT = Path(infra.__file__).parents[1]
LATER = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def start(ledger_url):
    """Starts a worker process that waits for ``go``."""
    with ExitStack() as stack:

        def start_one(mode, owner, prefix):
            worker = Path(__file__).with_name("worker.py")
            process = subprocess.Popen(
                [sys.executable, worker, mode, ledger_url, owner, prefix],
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
        process.kill()
        saved += [line.strip() for line in process.stdout if line.endswith("\n")]
        process.wait()
        ledger = await opened(ledger_url)
        await assert_whole(ledger, prefix, set(saved))


async def test_a_killed_owners_lease_runs_out(ledger_url, opened, start):
    process = start("storm", "victim", "smoke/1")
    go(process)
    process.stdout.readline()
    process.kill()
    process.wait()
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
