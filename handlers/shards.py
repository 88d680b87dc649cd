"""``ShardRequested`` -> writes the requests, submits the batch job -> ``ShardSubmitted``."""

import json
from collections.abc import Iterator

from events.catalogue import ShardFailed, ShardRequested, ShardSubmitted
from handlers.digests import sha256, short
from infra.once import Step
from infra.outcome import Ack, Outcome
from infra.ports import Claim, Job, Ports, Receipt


async def submit_shard(
    event: ShardRequested,
    claim: Claim,  # noqa: ARG001 - every handler is called alike
    ports: Ports,
) -> Outcome:
    """Write the requests once and find or create the job that grades them."""
    lines = list(request_lines(event))
    data = ("\n".join(lines) + "\n").encode()
    digest = sha256(data)
    stored = await ports.objects.put_once(f"{event.subject}/{short(digest)}/requests.jsonl", data)
    job = await _job(event, stored.uri, ports)
    receipt = Receipt(
        digest=digest,
        counts={"requests": len(lines)},
        uris={"requests": stored.uri},
        details={"job": job.name},
    )
    submitted = ShardSubmitted(
        iteration=event.iteration,
        shard_index=event.shard_index,
        job=job.name,
        requests_uri=stored.uri,
        n_requests=len(lines),
        families=event.families,
    )
    return Ack(receipt, [submitted])


def request_lines(event: ShardRequested) -> Iterator[str]:
    """One request per turn; its ``row_id`` is what the grades are joined on."""
    constructs = list(dict.fromkeys(item for family in event.families for item in family.items))
    for talk in range(event.first_talk, event.end_talk):
        persona, session = divmod(talk, event.corpus.sessions)
        for turn in range(event.corpus.turns):
            request = {
                "row_id": f"{persona}/{session}/{turn}",
                "persona": persona,
                "session": session,
                "turn": turn,
                "constructs": constructs,
            }
            yield json.dumps(request, separators=(",", ":"))


async def _job(event: ShardRequested, requests_uri: str, ports: Ports) -> Job:
    name = f"nexus/{event.subject}"
    found = await ports.batch.find(name)
    if found is not None:
        return found
    return await ports.batch.create(
        display_name=name, requests_uri=requests_uri, evaluator=event.evaluator
    )


def shard_lost(event: ShardRequested, reason: str) -> ShardFailed:
    """What the saga is told."""
    return ShardFailed(
        iteration=event.iteration, shard_index=event.shard_index, step="shards", reason=reason
    )


SHARDS = Step(
    handler="shards",
    consumes=(ShardRequested,),
    emits=(ShardSubmitted, ShardFailed),
    run=submit_shard,
    lost=shard_lost,
)
