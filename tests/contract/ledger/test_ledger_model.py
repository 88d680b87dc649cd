"""Random histories, told to a ledger and to a few lines of plain Python, must read the same."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import StaleClaimError
from infra.ports import Cause, Claim, ClaimKey, Completed, Held, Outgoing, Receipt

START = datetime(2026, 11, 21, tzinfo=UTC)
CAUSE = Cause("event-1", "nexus.shard.requested.v1", START)

# One ledger serves all examples of a test: each has a subject and a time of its own.
_examples = count()

a_history = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def seconds(number):
    return timedelta(seconds=number)


# --- one step ------------------------------------------------------------------------------


@dataclass
class ModelStep:
    """What a ledger knows of one step."""

    key: ClaimKey
    status: str = "free"
    token: int = 0
    owner: str = ""
    lease_until: datetime = START
    receipt: Receipt | None = None
    saved: set[str] = field(default_factory=set)

    def claim(self, owner, now, lease):
        if self.status == "completed":
            return Completed(self.key, self.receipt, ())
        if self.status == "claimed" and self.lease_until > now:
            return Held(self.key, self.owner, self.lease_until)
        self.status, self.owner = "claimed", owner
        self.token, self.lease_until = self.token + 1, now + seconds(lease)
        return Claim(self.key, self.token, self.token, owner, self.lease_until)

    def fence(self, claim):
        if (self.status, self.token) != ("claimed", claim.token):
            raise StaleClaimError

    def renew(self, claim, now, lease):
        self.fence(claim)
        self.lease_until = max(self.lease_until, now + seconds(lease))
        return Claim(self.key, claim.token, claim.attempt, claim.owner, self.lease_until)

    def complete(self, claim, receipt):
        self.fence(claim)
        self.status, self.receipt = "completed", receipt

    def release(self, claim, *, failed, event_id):
        self.fence(claim)
        self.status = "failed" if failed else "released"
        self.saved.add(event_id)


step_operations = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from("abc"), st.integers(1, 9)),
    st.tuples(st.just("claim"), st.sampled_from("abc"), st.integers(1, 9)),
    st.tuples(st.just("wait"), st.integers(1, 12)),
    st.tuples(st.just("renew"), st.integers(0, 5), st.integers(1, 9)),
    st.tuples(st.just("release"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("complete"), st.integers(0, 5), st.integers(0, 9)),
)


def told_to_model(model, operation, now, claims):
    match operation:
        case "claim", owner, lease:
            return model.claim(owner, now, lease)
        case "renew", which, lease:
            return model.renew(claims[which % len(claims)], now, lease)
        case "release", which, failed:
            stale = claims[which % len(claims)]
            event_id = f"{model.key}/{stale.token}"
            return model.release(stale, failed=failed, event_id=event_id)
        case "complete", which, n:
            return model.complete(claims[which % len(claims)], Receipt(str(n)))


async def told_to_ledger(ledger, key, operation, now, claims):
    match operation:
        case "claim", owner, lease:
            return await ledger.claim(key, cause=CAUSE, owner=owner, now=now, lease_seconds=lease)
        case "renew", which, lease:
            return await ledger.renew(claims[which % len(claims)], now=now, lease_seconds=lease)
        case "release", which, failed:
            stale = claims[which % len(claims)]
            sent = Outgoing(f"{key}/{stale.token}", "topic", b"", {}, START)
            return await ledger.release(stale, now=now, reason="r", failed=failed, outgoing=[sent])
        case "complete", which, n:
            receipt = Receipt(str(n))
            return await ledger.complete(claims[which % len(claims)], receipt, [], now=now)


@a_history
@given(operations=st.lists(step_operations, max_size=20))
async def test_a_step_follows_the_model(ledger, operations):
    key = ClaimKey(f"smoke/{next(_examples)}", "merge")
    model, now, claims = ModelStep(key), START, []
    for operation in operations:
        if operation[0] == "wait":
            now += seconds(operation[1])
        elif operation[0] == "claim" or claims:
            try:
                expected = told_to_model(model, operation, now, claims)
            except StaleClaimError:
                expected = StaleClaimError
            try:
                answer = await told_to_ledger(ledger, key, operation, now, claims)
            except StaleClaimError:
                answer = StaleClaimError
            assert answer == expected
            if isinstance(answer, Claim):
                claims.append(answer)
    record = await ledger.step(key)
    assert model.status == ("free" if record is None else record.status)
    assert await ledger.unpublished(key.subject) == len(model.saved)


# --- the outbox ----------------------------------------------------------------------------

outbox_operations = st.one_of(
    st.tuples(st.just("save"), st.lists(st.integers(-5, 15), min_size=1, max_size=3)),
    st.tuples(st.just("take"), st.integers(1, 9), st.integers(1, 4)),
    st.tuples(st.just("publish"), st.lists(st.integers(0, 9), max_size=3)),
    st.tuples(st.just("wait"), st.integers(1, 12)),
)


@dataclass
class ModelEvent:
    """What a ledger knows of one outgoing event."""

    sent: Outgoing
    saved_at: datetime
    place: int
    leased_until: datetime = START
    published: bool = False


def taken_by_model(events, now, lease, limit):
    free = [e for e in events if not e.published and e.sent.due <= now and e.leased_until <= now]
    taken = sorted(free, key=lambda one: (one.sent.due, one.saved_at, one.place, one.sent.id))[
        :limit
    ]
    for one in taken:
        one.leased_until = now + seconds(lease)
    return tuple(one.sent for one in taken)


async def save(ledger, subject, number, delays, now):
    sent = [
        Outgoing(f"{subject}/{number}/{n}", "topic", b"{}", {}, now + seconds(delay))
        for n, delay in enumerate(delays)
    ]
    key = ClaimKey(subject, str(number))
    claim = await ledger.claim(key, cause=CAUSE, owner="a", now=now, lease_seconds=1)
    await ledger.complete(claim, Receipt("d"), sent, now=now)
    return [ModelEvent(one, now, place) for place, one in enumerate(sent)]


async def assert_outbox_follows(ledger, subject, operations, events):
    now = START
    for number, operation in enumerate(operations):
        match operation:
            case "save", delays:
                events += await save(ledger, subject, number, delays, now)
            case "take", lease, limit:
                expected = taken_by_model(events, now, lease, limit)
                answer = await ledger.take_due(now=now, owner="r", lease_seconds=lease, limit=limit)
                assert answer == expected
            case "publish", chosen:
                for one in (events[n % len(events)] for n in chosen if events):
                    one.published = True
                    await ledger.published([one.sent.id], now=now)
            case "wait", pause:
                now += seconds(pause)
        open_events = sum(not one.published for one in events)
        assert await ledger.unpublished(subject) == open_events


@a_history
@given(operations=st.lists(outbox_operations, max_size=20))
async def test_an_outbox_follows_the_model(ledger, operations):
    events: list[ModelEvent] = []
    try:
        await assert_outbox_follows(ledger, f"smoke/{next(_examples)}", operations, events)
    finally:
        # The next example must not be given what this one left.
        await ledger.published([one.sent.id for one in events], now=START)
