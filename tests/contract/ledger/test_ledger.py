"""What every ledger promises, on SQLite and on PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from infra.errors import (
    ServiceUnavailableError,
    SettingsError,
    StaleClaimError,
    TransientError,
)
from infra.ledger import open_ledger
from infra.ports import (
    Cause,
    Claim,
    ClaimKey,
    Completed,
    Held,
    Outgoing,
    Receipt,
    SagaStep,
    StepStatus,
)

NOW = datetime(2026, 11, 21, 12, 30, 15, 123_457, tzinfo=UTC)
CAUSE = Cause("event-1", "nexus.shard.requested.v1", NOW - timedelta(seconds=5), "00-ab-cd-01")
KEY = ClaimKey("smoke/1/shard/3", "merge")
RECEIPT = Receipt(
    digest="sha256:" + "a" * 64,
    counts={"rows": 60},
    uris={"staged": "file:///ü"},
    details={"nested": {"list": [1, 2.5, None, True]}, "z": 1e20, "a": "\x00 and ✓"},
)


def later(seconds):
    return NOW + timedelta(seconds=seconds)


def event(event_id, *, due=NOW, data=b"\x00\xff{}", **others):
    return Outgoing(
        id=event_id,
        topic="shard-merged",
        data=data,
        attributes={"ce-id": event_id},
        due=due,
        **others,
    )


async def claim(ledger, key=KEY, *, owner="worker-1", now=NOW, lease_seconds=60.0, cause=CAUSE):
    return await ledger.claim(key, cause=cause, owner=owner, now=now, lease_seconds=lease_seconds)


def take(ledger, *, now=NOW, owner="relay-1", lease_seconds=30.0, limit=100):
    return ledger.take_due(now=now, owner=owner, lease_seconds=lease_seconds, limit=limit)


def ids(outgoing):
    return [one.id for one in outgoing]


def advance(ledger, key="1", *, version=0, event_id="e-1", outgoing=(), state=None, now=NOW):
    return ledger.advance_saga(
        "iteration",
        key,
        expected_version=version,
        state={"merged": version} if state is None else state,
        step=SagaStep(version + 1, event_id, "nexus.x.y.v1", now, {"n": 1}, {"commands": [2]}),
        subject=f"smoke/{key}",
        outgoing=outgoing,
        now=now,
    )


# --- claims --------------------------------------------------------------------------------


async def test_a_free_step_is_claimed(ledger):
    assert await claim(ledger) == Claim(KEY, 1, 1, "worker-1", later(60))


async def test_a_held_step_is_refused_to_its_owner_too(ledger):
    await claim(ledger)
    held = Held(KEY, "worker-1", later(60))
    assert await claim(ledger, owner="worker-2", now=later(59)) == held
    assert await claim(ledger, owner="worker-1", now=later(59)) == held


async def test_steps_and_subjects_are_claimed_apart(ledger):
    for key in (KEY, ClaimKey(KEY.subject, "submit"), ClaimKey("smoke/1/shard/30", "merge")):
        assert isinstance(await claim(ledger, key), Claim)


async def test_a_lease_runs_out_at_its_last_microsecond(ledger):
    await claim(ledger)
    just_before = later(60) - timedelta(microseconds=1)
    assert isinstance(await claim(ledger, owner="worker-2", now=just_before), Held)
    taken = await claim(ledger, owner="worker-2", now=later(60))
    assert (taken.token, taken.attempt, taken.owner) == (2, 2, "worker-2")


async def test_tokens_grow_across_release_failure_and_expiry(ledger):
    first = await claim(ledger)
    await ledger.release(first, now=NOW, reason="shutdown")
    second = await claim(ledger)
    await ledger.release(second, now=NOW, reason="gave up", failed=True)
    third = await claim(ledger)
    fourth = await claim(ledger, now=later(60))
    assert [one.token for one in (first, second, third, fourth)] == [1, 2, 3, 4]
    assert [one.attempt for one in (first, second, third, fourth)] == [1, 2, 3, 4]


async def test_the_first_cause_is_kept(ledger):
    first = await claim(ledger)
    await ledger.release(first, now=NOW, reason="shutdown")
    await claim(ledger, cause=Cause("event-2", "other", later(1)))
    assert (await ledger.step(KEY)).cause == CAUSE


async def test_renewal_lengthens_and_never_shortens(ledger):
    first = await claim(ledger)
    renewed = await ledger.renew(first, now=later(30), lease_seconds=60)
    assert renewed == Claim(KEY, 1, 1, "worker-1", later(90))
    assert (await ledger.renew(first, now=later(30), lease_seconds=5)).lease_until == later(90)
    assert isinstance(await claim(ledger, owner="worker-2", now=later(89)), Held)


async def test_a_lease_that_ran_out_but_was_not_overtaken_can_be_renewed(ledger):
    first = await claim(ledger)
    assert (await ledger.renew(first, now=later(100), lease_seconds=1)).lease_until == later(101)


async def stale_claim(ledger, how):
    """A claim on KEY whose token counts no more."""
    first = await claim(ledger)
    match how:
        case "overtaken":
            await claim(ledger, owner="worker-2", now=later(60))
        case "completed":
            await ledger.complete(first, RECEIPT, [], now=NOW)
        case "released" | "failed":
            await ledger.release(first, now=NOW, reason="why", failed=how == "failed")
        case "unknown":
            return Claim(ClaimKey("smoke/9", "merge"), 1, 1, "worker-1", later(60))
    return first


STALE_CALLS = {
    "renew": lambda ledger, stale: ledger.renew(stale, now=later(61), lease_seconds=60),
    "complete": lambda ledger, stale: ledger.complete(
        stale, Receipt("sha256:other"), [event("stale")], now=later(61)
    ),
    "release": lambda ledger, stale: ledger.release(
        stale, now=later(61), reason="x", outgoing=[event("stale")]
    ),
}


@pytest.mark.parametrize("how", ["overtaken", "completed", "released", "failed", "unknown"])
@pytest.mark.parametrize("call", STALE_CALLS)
async def test_a_stale_token_saves_nothing(ledger, how, call):
    stale = await stale_claim(ledger, how)
    before = await ledger.steps("smoke")
    with pytest.raises(StaleClaimError, match=r"merge: token 1 of worker-1"):
        await STALE_CALLS[call](ledger, stale)
    assert await ledger.steps("smoke") == before
    assert await take(ledger, now=later(1000)) == ()


async def test_a_completed_step_gives_its_receipt_and_all_its_events(ledger):
    first = await claim(ledger)
    sent = [event("b", ordering_key="1"), event("a", due=later(900)), event("c", data=b"")]
    await ledger.complete(first, RECEIPT, sent, now=later(1))
    await ledger.published(["b"], now=later(2))
    for now in (later(2), later(10_000)):
        assert await claim(ledger, owner="worker-2", now=now) == Completed(
            KEY, RECEIPT, tuple(sent)
        )


async def test_an_event_named_twice_is_one(ledger):
    first = await claim(ledger)
    await ledger.complete(first, RECEIPT, [event("a"), event("b"), event("a")], now=NOW)
    assert ids((await claim(ledger)).outgoing) == ["a", "b"]
    assert ids(await take(ledger)) == ["a", "b"]


async def test_a_completed_step_gives_events_that_another_step_saved_first(ledger):
    await ledger.release(await claim(ledger), now=NOW, reason="x", outgoing=[event("a")])
    await ledger.published(["a"], now=NOW)
    await ledger.complete(await claim(ledger), RECEIPT, [event("b"), event("a")], now=NOW)
    assert ids((await claim(ledger)).outgoing) == ["b", "a"]
    assert ids(await take(ledger)) == ["b"]


async def test_a_completion_gives_no_events_of_an_attempt_that_failed(ledger):
    first = await claim(ledger)
    await ledger.release(first, now=NOW, reason="x", failed=True, outgoing=[event("failed")])
    await ledger.complete(await claim(ledger), RECEIPT, [event("merged")], now=NOW)
    assert ids((await claim(ledger)).outgoing) == ["merged"]


async def test_a_failed_release_saves_its_events(ledger):
    first = await claim(ledger)
    await ledger.release(first, now=later(3), reason="3 tries", failed=True, outgoing=[event("f")])
    record = await ledger.step(KEY)
    assert (record.status, record.reason, record.ended_at) == (
        StepStatus.FAILED,
        "3 tries",
        later(3),
    )
    assert await take(ledger) == (event("f"),)


@pytest.mark.parametrize("bad", [float("nan"), object()])
async def test_a_receipt_that_json_cannot_hold_is_the_callers_error(ledger, bad):
    first = await claim(ledger)
    with pytest.raises((ValueError, TypeError), match="JSON"):
        await ledger.complete(first, Receipt("d", details={"x": bad}), [event("a")], now=NOW)
    assert (await ledger.step(KEY)).status == StepStatus.CLAIMED
    assert await ledger.unpublished("smoke") == 0


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
async def test_a_lease_of_no_length_is_refused(ledger, seconds):
    with pytest.raises(ValueError, match="lease_seconds"):
        await claim(ledger, lease_seconds=seconds)


async def test_a_time_without_a_zone_is_refused(ledger):
    with pytest.raises(ValueError, match="has no zone"):
        await claim(ledger, now=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused


async def test_one_of_many_claimers_wins(ledger_url, opened):
    ledgers = [await opened(ledger_url) for _ in range(2)]
    answers = await asyncio.gather(*(claim(ledgers[n % 2], owner=f"worker-{n}") for n in range(64)))
    winners = [answer for answer in answers if isinstance(answer, Claim)]
    assert len(winners) == 1
    losers = [answer for answer in answers if isinstance(answer, Held)]
    assert [loser.owner for loser in losers] == [winners[0].owner] * 63


async def test_one_of_many_completions_is_kept(ledger):
    first = await claim(ledger)
    answers = await asyncio.gather(
        *(ledger.complete(first, Receipt(f"d-{n}"), [event(f"e-{n}")], now=NOW) for n in range(32)),
        return_exceptions=True,
    )
    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, StaleClaimError) for answer in answers) == 31
    done = await claim(ledger)
    assert ids(done.outgoing) == [done.receipt.digest.replace("d", "e")]
    assert await take(ledger) == done.outgoing


async def test_a_refused_call_undoes_nothing_of_its_neighbours(ledger):
    keys = [ClaimKey(f"smoke/1/shard/{n}", "merge") for n in range(40)]
    claims = await asyncio.gather(*(claim(ledger, key) for key in keys))
    stale = [one for n, one in enumerate(claims) if n % 3 == 0]
    await asyncio.gather(*(ledger.release(one, now=NOW, reason="x") for one in stale))
    answers = await asyncio.gather(
        *(
            ledger.complete(one, RECEIPT, [event(f"e-{n}")], now=NOW)
            for n, one in enumerate(claims)
        ),
        return_exceptions=True,
    )
    assert [isinstance(answer, StaleClaimError) for answer in answers] == [
        one in stale for one in claims
    ]
    kept = [f"e-{n}" for n, one in enumerate(claims) if one not in stale]
    assert sorted(ids(await take(ledger))) == sorted(kept)


# --- the timeline --------------------------------------------------------------------------


async def test_an_unknown_step_has_no_record(ledger):
    assert await ledger.step(KEY) is None


async def test_a_record_follows_its_step(ledger):
    first = await claim(ledger)
    record = await ledger.step(KEY)
    assert (record.key, record.owner, record.attempt) == (KEY, "worker-1", 1)
    assert (record.status, record.claimed_at, record.ended_at) == (StepStatus.CLAIMED, NOW, None)
    await ledger.release(first, now=later(1), reason="shutdown")
    record = await ledger.step(KEY)
    assert (record.status, record.reason) == (StepStatus.RELEASED, "shutdown")
    assert record.ended_at == later(1)
    second = await claim(ledger, owner="worker-2", now=later(2))
    record = await ledger.step(KEY)
    assert (record.status, record.reason, record.ended_at) == (StepStatus.CLAIMED, None, None)
    assert (record.owner, record.attempt, record.claimed_at) == ("worker-2", 2, later(2))
    await ledger.complete(second, RECEIPT, [], now=later(3))
    record = await ledger.step(KEY)
    assert (record.status, record.receipt) == (StepStatus.COMPLETED, RECEIPT)
    assert record.ended_at == later(3)


async def test_steps_are_those_of_the_prefix_and_below(ledger):
    subjects = ["smoke/1", "smoke/1/shard/0", "smoke/1/", "smoke/10", "smoke/1-a", "smoke/1.", "x"]
    for place, subject in enumerate(subjects):
        await claim(ledger, ClaimKey(subject, "step"), now=later(-place))
    found = [record.key.subject for record in await ledger.steps("smoke/1")]
    assert found == ["smoke/1/", "smoke/1/shard/0", "smoke/1"]
    assert [record.key.subject for record in await ledger.steps("smoke/10")] == ["smoke/10"]
    assert await ledger.steps("smoke/2") == ()


@pytest.mark.parametrize("prefix", ["smoke/%", "smoke/_", "SMOKE/1", "' OR 1=1 --"])
async def test_a_prefix_is_no_pattern(ledger, prefix):
    await claim(ledger)
    assert await ledger.steps(prefix) == ()


# --- the outbox ----------------------------------------------------------------------------


async def save(ledger, *outgoing, subject="smoke/1/shard/3"):
    held = await claim(ledger, ClaimKey(subject, f"step-{outgoing[0].id}"))
    await ledger.complete(held, RECEIPT, outgoing, now=NOW)


async def test_events_come_back_as_they_were_saved(ledger):
    sent = Outgoing(
        "id-1", "topic", bytes(range(256)), {"k": "ü\x00", "": ""}, later(0.000_001), "7"
    )
    await save(ledger, sent)
    assert await take(ledger, now=later(1)) == (sent,)


async def test_due_events_come_oldest_first_and_no_more_than_asked(ledger):
    await save(ledger, event("late", due=later(10)), event("y"), event("x"))
    await save(ledger, event("early", due=later(-10)), event("future", due=later(11)))
    assert ids(await take(ledger, now=later(10), limit=3)) == ["early", "y", "x"]
    assert ids(await take(ledger, now=later(10), limit=3)) == ["late"]
    assert ids(await take(ledger, now=later(11), limit=3)) == ["future"]


async def test_a_leased_event_is_taken_again_only_after_its_lease(ledger):
    await save(ledger, event("a"))
    assert ids(await take(ledger)) == ["a"]
    assert await take(ledger, now=later(29), owner="relay-2") == ()
    assert await take(ledger, now=later(29), owner="relay-1") == ()
    assert ids(await take(ledger, now=later(30), owner="relay-2")) == ["a"]


async def test_a_published_event_is_never_taken(ledger):
    await save(ledger, event("a"), event("b"))
    await take(ledger)
    await ledger.published(["a", "unknown", "a"], now=NOW)
    await ledger.published(["a"], now=later(1))
    await ledger.published([], now=later(1))
    assert ids(await take(ledger, now=later(1000))) == ["b"]


async def test_unpublished_counts_the_subjects_events_due_or_not(ledger):
    await save(ledger, event("a"), event("b", due=later(1e6)), subject="smoke/1/shard/0")
    await save(ledger, event("c"), subject="smoke/10/shard/0")
    await take(ledger)
    assert [await ledger.unpublished(p) for p in ("smoke", "smoke/1", "smoke/10")] == [3, 2, 1]
    await ledger.published(["a"], now=NOW)
    assert [await ledger.unpublished(p) for p in ("smoke", "smoke/1", "smoke/10")] == [2, 1, 1]


async def test_relays_never_take_one_event_twice(ledger_url, opened):
    ledgers = [await opened(ledger_url) for _ in range(2)]
    await save(ledgers[0], *(event(f"e-{n}") for n in range(300)))
    taken = await asyncio.gather(
        *(take(ledgers[n % 2], owner=f"relay-{n}", limit=10) for n in range(40))
    )
    assert sorted(event_id for batch in taken for event_id in ids(batch)) == sorted(
        f"e-{n}" for n in range(300)
    )


async def test_the_same_events_saved_by_many_in_any_order_are_saved_once(ledger_url, opened):
    ledgers = [await opened(ledger_url) for _ in range(2)]
    events = [event(f"e-{n}") for n in range(50)]
    claims = [await claim(ledgers[0], ClaimKey("smoke/1", f"s-{n}")) for n in range(16)]
    await asyncio.gather(
        *(
            ledgers[n % 2].complete(one, RECEIPT, events[:: (-1) ** n], now=NOW)
            for n, one in enumerate(claims)
        )
    )
    assert sorted(ids(await take(ledgers[0]))) == sorted(ids(events))


# --- sagas ---------------------------------------------------------------------------------


async def test_a_saga_is_created_advanced_and_remembered(ledger):
    assert await ledger.saga("iteration", "1") is None
    assert await advance(ledger, state={"n": [1, {"x": None}]}, outgoing=[event("a")])
    assert await advance(ledger, version=1, event_id="e-2", now=later(1), outgoing=[event("b")])
    record = await ledger.saga("iteration", "1")
    assert (record.saga, record.key, record.version) == ("iteration", "1", 2)
    assert (record.state, record.updated_at) == ({"merged": 1}, later(1))
    assert await ledger.saga_history("iteration", "1") == (
        SagaStep(1, "e-1", "nexus.x.y.v1", NOW, {"n": 1}, {"commands": [2]}),
        SagaStep(2, "e-2", "nexus.x.y.v1", later(1), {"n": 1}, {"commands": [2]}),
    )
    assert ids(await take(ledger)) == ["a", "b"]
    assert await ledger.unpublished("smoke/1") == 2


@pytest.mark.parametrize("version", [0, 2])
async def test_a_version_that_moved_on_saves_nothing(ledger, version):
    await advance(ledger)
    before = await ledger.saga("iteration", "1")
    assert not await advance(ledger, version=version, event_id="e-2", outgoing=[event("a")])
    assert await ledger.saga("iteration", "1") == before
    assert len(await ledger.saga_history("iteration", "1")) == 1
    assert await ledger.saga_saw("iteration", "1", "e-2") is None
    assert await ledger.unpublished("smoke") == 0


async def test_a_saga_that_is_not_there_has_not_reached_a_later_version(ledger):
    assert not await advance(ledger, version=3)
    assert await ledger.sagas() == ()


async def test_an_event_seen_before_is_refused_and_saves_nothing(ledger):
    await advance(ledger)
    before = await ledger.saga("iteration", "1")
    with pytest.raises(ValueError, match="has seen event e-1: ask saga_saw"):
        await advance(ledger, version=1, event_id="e-1", outgoing=[event("a")], state={"x": 1})
    assert await ledger.saga("iteration", "1") == before
    assert await ledger.unpublished("smoke") == 0
    assert await advance(ledger, key="2", event_id="e-1")


async def test_a_step_must_follow_its_version(ledger):
    step = SagaStep(3, "e-1", "t", NOW, {}, {})
    with pytest.raises(ValueError, match=r"step\.version is 3: after expected_version 0"):
        await ledger.advance_saga(
            "iteration",
            "1",
            expected_version=0,
            state={},
            step=step,
            subject="smoke/1",
            outgoing=(),
            now=NOW,
        )


async def test_what_a_saga_said_when_it_saw_an_event(ledger):
    assert await ledger.saga_saw("iteration", "1", "e-1") is None
    await advance(ledger, outgoing=[event("b"), event("a", due=later(99))])
    await advance(ledger, version=1, event_id="e-2", outgoing=[event("c")])
    said = (event("b"), event("a", due=later(99)))
    assert await ledger.saga_saw("iteration", "1", "e-1") == said
    await ledger.published(["a", "b"], now=NOW)
    assert await ledger.saga_saw("iteration", "1", "e-1") == said
    assert ids(await ledger.saga_saw("iteration", "1", "e-2")) == ["c"]
    assert await ledger.saga_saw("iteration", "2", "e-1") is None
    assert await ledger.saga_saw("other", "1", "e-1") is None


async def test_sagas_come_newest_first(ledger):
    await advance(ledger, key="1", now=later(1))
    await advance(ledger, key="2", now=later(3))
    await advance(ledger, key="3", now=later(2))
    assert [record.key for record in await ledger.sagas()] == ["2", "3", "1"]
    assert [record.key for record in await ledger.sagas("iteration")] == ["2", "3", "1"]
    assert await ledger.sagas("other") == ()


@pytest.mark.parametrize("version", [0, 1])
async def test_one_of_many_advances_wins(ledger_url, opened, version):
    ledgers = [await opened(ledger_url) for _ in range(2)]
    if version:
        await advance(ledgers[0], event_id="first")
    answers = await asyncio.gather(
        *(
            advance(ledgers[n % 2], version=version, event_id=f"e-{n}", outgoing=[event(f"o-{n}")])
            for n in range(32)
        )
    )
    assert sum(answers) == 1
    assert ids(await take(ledgers[0])) == [f"o-{answers.index(True)}"]
    assert (await ledgers[0].saga("iteration", "1")).version == version + 1


async def test_of_many_deliveries_of_one_event_one_counts(ledger):
    answers = await asyncio.gather(*(advance(ledger) for _ in range(16)))
    assert sum(answers) == 1


# --- opening and closing -------------------------------------------------------------------


async def test_a_ledger_outlives_its_process(ledger_url, opened):
    first = await opened(ledger_url)
    await first.complete(await claim(first), RECEIPT, [event("a")], now=NOW)
    await first.close()
    second = await opened(ledger_url)
    assert await claim(second) == Completed(KEY, RECEIPT, (event("a"),))


async def test_many_can_create_one_ledger_together(ledger_url, opened):
    ledgers = await asyncio.gather(*(opened(ledger_url) for _ in range(8)))
    assert isinstance(await claim(ledgers[0]), Claim)
    assert isinstance(await claim(ledgers[7]), Held)


async def test_close_finishes_what_is_under_way(ledger_url, opened):
    ledger = await opened(ledger_url)
    keys = [ClaimKey("smoke/1", f"s-{n}") for n in range(50)]
    calls = [asyncio.create_task(claim(ledger, key)) for key in keys]
    await asyncio.sleep(0)  # lets every call begin
    await ledger.close()
    assert all(isinstance(answer, Claim) for answer in await asyncio.gather(*calls))


async def test_a_closed_ledger_says_so(ledger_url, opened):
    ledger = await opened(ledger_url)
    await ledger.close()
    await ledger.close()
    with pytest.raises(RuntimeError, match="closed"):
        await claim(ledger)


async def test_a_call_that_is_given_up_leaves_the_ledger_usable(ledger):
    calls = [asyncio.create_task(claim(ledger, ClaimKey("s", str(n)))) for n in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Claim) for answer in answers[1::2])
    assert isinstance(await claim(ledger), Claim)


# --- PostgreSQL alone ----------------------------------------------------------------------


async def test_a_lost_connection_is_worth_another_try(postgres_url, opened):
    ledger = await opened(postgres_url)
    lock = await asyncpg.connect(postgres_url)
    async with lock.transaction():
        await lock.execute("LOCK TABLE steps")
        waiting = asyncio.create_task(claim(ledger))
        while not await lock.fetchval(END_WAITING_SESSIONS):  # noqa: ASYNC110 - the server's state
            await asyncio.sleep(0.01)
        with pytest.raises(TransientError, match="PostgreSQL does not answer"):
            await waiting
    await lock.close()
    assert isinstance(await claim(ledger), Claim)


END_WAITING_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
"""


INSERT_EVENT = """
INSERT INTO outbox (id, subject, topic, data, attributes, due, ordering_key, saved_at, place)
VALUES ($1, 'smoke/2', 'topic', '', '{}', 0, '', 0, 0)
"""


async def test_a_deadlock_is_tried_again(postgres_url, opened):
    ledger = await opened(f"{postgres_url}&deadlock_timeout=500ms")
    held = await claim(ledger)
    neighbour = await asyncpg.connect(f"{postgres_url}&deadlock_timeout=60s")
    transaction = neighbour.transaction()
    await transaction.start()
    await neighbour.execute(INSERT_EVENT, "b")
    events = [event("a"), event("b")]
    waiting = asyncio.create_task(ledger.complete(held, RECEIPT, events, now=NOW))
    while not await neighbour.fetchval(COUNT_WAITING_SESSIONS):  # noqa: ASYNC110 - the server's state
        await asyncio.sleep(0.001)
    # Each now waits for the other's event, until the server ends the ledger's transaction.
    await neighbour.execute(INSERT_EVENT, "a")
    await transaction.rollback()
    await waiting
    assert await take(ledger) == tuple(events)
    await neighbour.close()


COUNT_WAITING_SESSIONS = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
"""


@pytest.mark.parametrize(
    "url", ["postgresql://user:secret@127.0.0.1:1/x", "postgresql:///x?host=/none"]
)
async def test_a_server_that_is_not_there_is_unavailable(url):
    with pytest.raises(ServiceUnavailableError, match="can't be opened") as raised:
        await open_ledger(url).open()
    assert "secret" not in str(raised.value)


async def test_a_database_that_is_not_there_is_unavailable(postgres_dsn):
    with pytest.raises(ServiceUnavailableError, match="does not exist"):
        await open_ledger(postgres_dsn.replace("/postgres?", "/nowhere?")).open()


async def test_a_url_that_cannot_be_read_is_a_setting():
    with pytest.raises(SettingsError, match="write postgresql://user:password@host:port/database"):
        await open_ledger("postgresql://host/database?sslmode=perhaps").open()
