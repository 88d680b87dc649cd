import json

import pytest

from handlers.digests import sha256, short
from handlers.shards import request_lines, shard_lost, submit_shard
from infra.errors import TerminalError
from infra.outcome import Ack


async def test_a_shard_s_requests_are_written_and_its_job_created(real, requests, claim):
    event = requests[2]
    outcome = await submit_shard(event, claim(event, "shards"), real.ports)
    assert isinstance(outcome, Ack)
    data = await real.ports.objects.get(outcome.receipt.uris["requests"])
    assert outcome.receipt.digest == sha256(data)
    assert short(sha256(data)) in outcome.receipt.uris["requests"]
    lines = [json.loads(line) for line in data.splitlines()]
    talks = event.end_talk - event.first_talk
    assert outcome.receipt.counts == {"requests": len(lines)} == {"requests": talks * 10}
    assert {len(line["constructs"]) for line in lines} == {6}
    job = await real.ports.batch.find("nexus/smoke/4/shard/2")
    assert job.name == outcome.receipt.details["job"]
    [submitted] = outcome.events
    assert (submitted.job, submitted.n_requests) == (job.name, len(lines))
    assert submitted.requests_uri == outcome.receipt.uris["requests"]
    assert submitted.families == event.families


async def test_the_effect_twice_is_once(real, requests, claim):
    event = requests[0]
    outcomes = [
        await submit_shard(event, claim(event, "shards", attempt), real.ports) for attempt in (1, 2)
    ]
    assert outcomes[0] == outcomes[1]
    assert (real.effects.objects_written, real.effects.batches_created) == (1, 1)


async def test_a_job_with_other_requests_is_no_job_of_ours(real, requests, claim):
    event = requests[0]
    other = event.model_copy(update={"end_talk": event.end_talk - 1})
    await submit_shard(event, claim(event, "shards"), real.ports)
    with pytest.raises(TerminalError, match="exists with other requests"):
        await real.ports.batch.create(
            display_name=f"nexus/{event.subject}",
            requests_uri=real.ports.objects.uri("other.jsonl"),
            evaluator=other.evaluator,
        )


def test_the_shards_ask_for_every_turn_once(requests):
    rows = [json.loads(line)["row_id"] for event in requests for line in request_lines(event)]
    corpus = requests[0].corpus
    wanted = {
        f"{persona}/{session}/{turn}"
        for persona in range(corpus.personas)
        for session in range(corpus.sessions)
        for turn in range(corpus.turns)
    }
    assert len(rows) == len(wanted)
    assert set(rows) == wanted


def test_a_construct_of_two_families_is_asked_for_once(requests):
    event = requests[0].model_copy(update={"families": requests[0].families * 2})
    for line in request_lines(event):
        constructs = json.loads(line)["constructs"]
        assert len(constructs) == len(set(constructs)) == 6


def test_what_the_saga_is_told(requests):
    told = shard_lost(requests[1], "why")
    assert (told.shard_index, told.step, told.reason) == (1, "shards", "why")
