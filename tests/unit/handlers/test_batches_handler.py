import asyncio

import pytest

from events.catalogue import BatchCompleted, BatchPollRequested, ShardSubmitted
from handlers.batches import LONGEST_PAUSE_SECONDS, await_batch, batch_lost
from handlers.shards import submit_shard
from infra.outcome import Ack, Terminal, Wait
from infra.ports import Job, JobState


class OneJob:
    """A batch service that knows one job, in the state that it is given."""

    def __init__(self, state, **more):
        self._job = Job("job-1", "shown", state, **more)

    async def get(self, name):
        assert name == "job-1"
        return self._job


@pytest.fixture
def submitted(requests):
    return ShardSubmitted(
        iteration=4,
        shard_index=2,
        job="job-1",
        requests_uri="file:///requests",
        n_requests=7,
        families=requests[0].families,
    )


async def test_a_job_that_ended_well_is_passed_on(real, submitted, claim):
    batch = OneJob(JobState.SUCCEEDED, output_uri="file:///home/of/predictions-1a.jsonl")
    ports = real.ports_with(batch=batch)
    outcome = await await_batch(submitted, claim(submitted, "batches"), ports)
    assert outcome.events == [
        BatchCompleted(
            iteration=4,
            shard_index=2,
            job="job-1",
            requests_uri="file:///requests",
            output_uri="file:///home/of/predictions-1a.jsonl",
            n_requests=7,
            families=submitted.families,
        )
    ]
    assert outcome.receipt.uris == {"output": "file:///home/of/predictions-1a.jsonl"}


async def test_the_receipt_does_not_depend_on_where_the_home_lies(real, submitted, claim):
    digests = set()
    for home in ("/here", "/there"):
        batch = OneJob(JobState.SUCCEEDED, output_uri=f"file://{home}/predictions-1a.jsonl")
        ports = real.ports_with(batch=batch)
        outcome = await await_batch(submitted, claim(submitted, "batches"), ports)
        digests.add(outcome.receipt.digest)
    assert len(digests) == 1


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
async def test_a_job_that_runs_is_looked_at_again(real, submitted, claim, state):
    ports = real.ports_with(batch=OneJob(state), poll_seconds=0.1)
    outcome = await await_batch(submitted, claim(submitted, "batches", attempt=3), ports)
    assert outcome == Wait(
        f"batch job is {state}",
        BatchPollRequested(iteration=4, shard_index=2, poll=3, submitted=submitted),
        pytest.approx(0.1 * 1.5**2),
    )
    again = await await_batch(outcome.event, claim(submitted, "batches", attempt=4), ports)
    assert (again.event.poll, again.event.submitted) == (4, submitted)


async def test_the_pauses_grow_up_to_a_minute(real, submitted, claim):
    ports = real.ports_with(batch=OneJob(JobState.RUNNING), poll_seconds=0.1)
    pauses = [
        (await await_batch(submitted, claim(submitted, "batches", attempt), ports)).after_seconds
        for attempt in (1, 5, 20, 10_000)
    ]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.1, LONGEST_PAUSE_SECONDS)


@pytest.mark.parametrize(
    "state",
    [JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED, JobState.PARTIALLY_SUCCEEDED],
)
@pytest.mark.parametrize(("error", "said"), [("quota", "quota"), (None, "it says no more")])
async def test_a_job_that_ended_badly_ends_the_shard(real, submitted, claim, state, error, said):
    ports = real.ports_with(batch=OneJob(state, error=error))
    outcome = await await_batch(submitted, claim(submitted, "batches"), ports)
    assert outcome == Terminal(f"batch job job-1 ended {state}: {said}")


async def test_a_job_that_succeeded_without_an_output_has_not(real, submitted, claim):
    ports = real.ports_with(batch=OneJob(JobState.SUCCEEDED))
    outcome = await await_batch(submitted, claim(submitted, "batches"), ports)
    assert isinstance(outcome, Terminal)


async def test_every_state_of_a_job_ends_in_something(real, submitted, claim):
    for state in JobState:
        ports = real.ports_with(batch=OneJob(state, output_uri="file:///x"))
        outcome = await await_batch(submitted, claim(submitted, "batches"), ports)
        assert isinstance(outcome, Ack | Wait | Terminal)


async def test_the_local_service_ends_its_jobs(real, requests, claim):
    [submitted] = (await submit_shard(requests[0], claim(requests[0], "shards"), real.ports)).events
    event = submitted
    async with asyncio.timeout(60):
        while True:
            outcome = await await_batch(event, claim(submitted, "batches"), real.ports)
            if isinstance(outcome, Ack):
                break
            event = outcome.event
            await asyncio.sleep(0)
    [completed] = outcome.events
    output = await real.ports.objects.get(completed.output_uri)
    assert len(output.splitlines()) == submitted.n_requests == completed.n_requests


def test_what_the_saga_is_told(submitted):
    poll = BatchPollRequested(iteration=4, shard_index=2, poll=1, submitted=submitted)
    for event in (submitted, poll):
        told = batch_lost(event, "why")
        assert (told.subject, told.step, told.reason) == ("smoke/4/shard/2", "batches", "why")
