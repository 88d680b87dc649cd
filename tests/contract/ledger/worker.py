"""A process of its own for test_ledger_processes: works on a ledger as its arguments say."""

import asyncio
import itertools
import sys
from datetime import UTC, datetime

from infra.ledger import open_ledger
from infra.ports import Cause, Claim, ClaimKey, Ledger, Outgoing, Receipt

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CAUSE = Cause("event-1", "nexus.shard.requested.v1", NOW)


async def work(ledger: Ledger, owner: str, subject: str) -> bool:
    """Claim and complete a step with two events; whether this process got it."""
    claim = await ledger.claim(
        ClaimKey(subject, "merge"), cause=CAUSE, owner=owner, now=NOW, lease_seconds=60
    )
    if not isinstance(claim, Claim):
        return False
    events = [Outgoing(f"{subject}/{n}", "topic", b"{}", {}, NOW) for n in range(2)]
    await ledger.complete(claim, Receipt(subject), events, now=NOW)
    return True


async def race(ledger: Ledger, owner: str, prefix: str) -> None:
    """Try for every subject of the prefix; print those that were got."""
    subjects = [f"{prefix}/{n}" for n in range(300)]
    got = await asyncio.gather(*(work(ledger, owner, subject) for subject in subjects))
    sys.stdout.writelines(f"{s}\n" for s, mine in zip(subjects, got, strict=True) if mine)


async def storm(ledger: Ledger, owner: str, prefix: str) -> None:
    """Work for ever, 16 at a time; print each subject when it is saved."""

    async def worker(number: int) -> None:
        for n in itertools.count():
            subject = f"{prefix}/{number}/{n}"
            await work(ledger, owner, subject)
            print(subject, flush=True)  # noqa: T201 - the parent reads it

    await asyncio.gather(*map(worker, range(16)))


async def main(mode: str, url: str, owner: str, prefix: str) -> None:
    ledger = open_ledger(url)
    await ledger.open()
    print("ready", flush=True)  # noqa: T201 - the parent reads it
    await asyncio.to_thread(sys.stdin.readline)
    await (race if mode == "race" else storm)(ledger, owner, prefix)
    await ledger.close()


asyncio.run(main(*sys.argv[1:]))
