"""``ShardSubmitted`` -> looks at the batch job until it ends -> ``BatchCompleted``.

Vertex AI publishes no event when a job ends, so a durable timer brings the question back.
"""

from events.catalogue import BatchCompleted, BatchPollRequested, ShardFailed, ShardSubmitted
from handlers.digests import sha256
from infra.once import Step
from infra.outcome import Ack, Outcome, Terminal, Wait
from infra.ports import Claim, Job, JobState, Ports, Receipt

LONGEST_PAUSE_SECONDS = 60.0


async def await_batch(
    event: ShardSubmitted | BatchPollRequested, claim: Claim, ports: Ports
) -> Outcome:
    """Pass the job's output on when it is there; else ask again later."""
    submitted = event.submitted if isinstance(event, BatchPollRequested) else event
    job = await ports.batch.get(submitted.job)
    match job.state:
        case JobState.SUCCEEDED if job.output_uri is not None:
            return _completed(submitted, job.name, job.output_uri)
        case JobState.PENDING | JobState.RUNNING:
            return _again(submitted, job, claim, ports)
        case _:
            said = job.error or "it says no more"
            return Terminal(f"batch job {job.name} ended {job.state.value}: {said}")


def _completed(submitted: ShardSubmitted, job: str, output_uri: str) -> Ack:
    name = output_uri.rpartition("/")[2]
    completed = BatchCompleted(
        iteration=submitted.iteration,
        shard_index=submitted.shard_index,
        job=job,
        requests_uri=submitted.requests_uri,
        output_uri=output_uri,
        n_requests=submitted.n_requests,
        families=submitted.families,
    )
    return Ack(Receipt(digest=sha256(name.encode()), uris={"output": output_uri}), [completed])


def _again(submitted: ShardSubmitted, job: Job, claim: Claim, ports: Ports) -> Wait:
    pause = min(LONGEST_PAUSE_SECONDS, ports.poll_seconds * 1.5 ** min(claim.attempt - 1, 50))
    poll = BatchPollRequested(
        iteration=submitted.iteration,
        shard_index=submitted.shard_index,
        poll=claim.attempt,
        submitted=submitted,
    )
    return Wait(f"batch job is {job.state.value}", poll, pause)


def batch_lost(event: ShardSubmitted | BatchPollRequested, reason: str) -> ShardFailed:
    """What the saga is told."""
    return ShardFailed(
        iteration=event.iteration, shard_index=event.shard_index, step="batches", reason=reason
    )


BATCHES = Step(
    handler="batches",
    consumes=(ShardSubmitted, BatchPollRequested),
    emits=(BatchCompleted, BatchPollRequested, ShardFailed),
    run=await_batch,
    lost=batch_lost,
)
