"""Six concurrent re-fires of one ``(iteration, shard_index)``: one effect, six equal receipts."""

import asyncio
from dataclasses import replace

from drills.ledgers import NoClaimLedger, Seen, WatchedLedger
from drills.model import Check, Drill, Mutate, Outcome
from events.catalogue import IterationStarted, ShardRequested
from events.cloudevents import derived_id, encode
from events.model import namespace_of
from infra.ports import Outgoing, Ports
from infra.profiles import parameters_for
from infra.settings import Settings
from infra.telemetry import traceparent
from nexus.app import System, connected, consuming
from sagas.iteration import decide
from schemas.tables import GRADES

FIRES = 6
ITERATION = 0
SHARD = 3
HANDLERS = ("shards", "batches", "merge")
QUIET_SECONDS = 1.5
DEADLINE_SECONDS = 60.0


async def run(settings: Settings, seed: int, mutate: Mutate) -> Outcome:
    """Fire the same request six times at once and count what came of it."""
    seen = Seen()

    def adapt(ports: Ports) -> Ports:
        mutated = mutate(ports)
        return replace(mutated, ledger=WatchedLedger(mutated.ledger, seen))

    async with connected(settings, adapt=adapt) as system:
        request = shard_request(seed, system.ports)
        async with consuming(system, HANDLERS):
            await system.ports.publisher.publish(
                [refire(request, number, system.ports) for number in range(FIRES)]
            )
            await quiet(seen)
        checks = await judge(system, request, seen)
    return Outcome(checks, (f"{FIRES} concurrent re-fires of {request.subject}",))


def shard_request(seed: int, ports: Ports) -> ShardRequested:
    """One of the requests that the iteration saga would make."""
    started = IterationStarted(
        iteration=ITERATION, parameters=parameters_for(ITERATION, "smoke", seed=seed)
    )
    commands = decide(None, started, ports.clock()).commands
    return next(
        command
        for command in commands
        if isinstance(command, ShardRequested) and command.shard_index == SHARD
    )


def refire(request: ShardRequested, number: int, ports: Ports) -> Outgoing:
    """The request as another message: what differs is its id and time."""
    now = ports.clock()
    identity = derived_id(f"re-fire {number}", request)
    data, attributes = encode(
        request, id=identity, source="/nexus/drill", time=now, traceparent=traceparent()
    )
    return Outgoing(identity, request.topic(), data, attributes, now)


async def quiet(seen: Seen) -> None:
    """Wait until every re-fire was handled, a merge has come of it, and nothing more comes."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        before = -1
        while before != seen.deliveries or not _handled(seen):
            before = seen.deliveries
            await asyncio.sleep(QUIET_SECONDS)


def _handled(seen: Seen) -> bool:
    return len(seen.of_step("shards")) >= FIRES and bool(seen.of_step("merge"))


async def judge(system: System, request: ShardRequested, seen: Seen) -> tuple[Check, ...]:
    """What must hold: one set of rows, one batch, one merge, equal receipts."""
    where = {
        "namespace": namespace_of(request.iteration),
        "iteration": request.iteration,
        "shard_index": request.shard_index,
    }
    rows = await system.ports.warehouse.read(GRADES, where=where)
    constructs = sum(len(family.items) for family in request.families)
    talks = request.end_talk - request.first_talk
    submitted, merged = seen.of_step("shards"), seen.of_step("merge")
    return (
        Check("rows", talks * request.corpus.turns * constructs, rows.num_rows),
        Check("batches created", 1, system.effects.batches_created),
        Check("merges", 1, system.effects.merges),
        Check("objects written", 2, system.effects.objects_written),
        Check("receipts", FIRES, len(submitted)),
        Check("different receipts", 1, len({receipt.digest for receipt in submitted})),
        Check("different merges", 1, len({receipt.digest for receipt in merged})),
    )


def no_claim(ports: Ports) -> Ports:
    """Take the ledger's claims away."""
    return replace(ports, ledger=NoClaimLedger(ports.ledger))


IDEMPOTENCY_STORM = Drill(
    name="idempotency-storm",
    summary=f"{FIRES} concurrent re-fires of one shard leave one set of rows and one batch.",
    run=run,
    mutants={"no-claim": no_claim},
)
