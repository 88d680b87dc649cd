import pytest

from drills.catalogue import DRILLS
from drills.idempotency_storm import ITERATION, SHARD, refire, shard_request
from drills.ledgers import NoClaimLedger, Seen, WatchedLedger
from drills.model import Check, Drill, Outcome
from drills.runner import chosen, run_drill, unchanged
from events.catalogue import ShardRequested
from events.cloudevents import decode
from infra.errors import InputError
from infra.ledger import open_ledger
from infra.ports import Cause, Claim, ClaimKey, Completed, Held, Receipt
from infra.settings import Settings
from tests.support.world import World

KEY = ClaimKey("smoke/0/shard/3", "shards")


@pytest.fixture
async def world(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    await ledger.open()
    yield World(ledger)
    await ledger.close()


def claim(world, ledger):
    now = world.clock()
    return ledger.claim(KEY, cause=Cause("c", "t", now), owner="w", now=now, lease_seconds=9)


def test_an_outcome_holds_when_every_check_does():
    good, bad = Check("a", 1, 1), Check("b", 1, 2)
    assert Outcome((good, good), ()).passed
    assert not Outcome((good, bad), ()).passed


def test_drills_are_chosen_by_name_or_all():
    drill = DRILLS["idempotency-storm"]
    assert chosen(["idempotency-storm"], every=False, mutant=None) == [(drill, unchanged)]
    assert [found for found, _ in chosen([], every=True, mutant=None)] == list(DRILLS.values())
    [(_, mutate)] = chosen(["idempotency-storm"], every=False, mutant="no-claim")
    assert mutate is drill.mutants["no-claim"]


@pytest.mark.parametrize(
    ("names", "every", "mutant", "reason"),
    [
        ([], False, None, "name one or more drills, or give --all"),
        (["idempotency-storm"], True, None, "name one or more drills, or give --all"),
        (["fire"], False, None, "drill 'fire' is unknown: use idempotency-storm"),
        (["idempotency-storm"], False, "x", "has no mutant 'x': use no-claim"),
    ],
)
def test_what_cannot_be_chosen_is_named(names, every, mutant, reason):
    with pytest.raises(InputError, match=reason):
        chosen(names, every=every, mutant=mutant)


async def test_a_drill_runs_in_an_empty_home_of_its_own(tmp_path):
    homes = []

    async def run(settings, seed, mutate):  # noqa: ARG001 - a drill's signature
        assert not settings.home.exists()
        homes.append(settings)
        (settings.home).mkdir(parents=True)
        return Outcome((Check("same", 1, 1), Check("other", 1, 2)), ("a fault",))

    drill = Drill("a-drill", "what it shows", run, {})
    settings = Settings(home=tmp_path, topic_prefix="p-")
    for _ in range(2):
        document = await run_drill(drill, unchanged, seed=7, settings=settings)
    assert document == {
        "drill": "a-drill",
        "seed": 7,
        "passed": False,
        "checks": [
            {"name": "same", "expected": 1, "observed": 1, "passed": True},
            {"name": "other", "expected": 1, "observed": 2, "passed": False},
        ],
        "faults": ["a fault"],
    }
    assert {own.home for own in homes} == {tmp_path / "drills" / "a-drill-7"}
    assert {own.topic_prefix for own in homes} == {"p-a-drill-"}


async def test_a_drill_that_does_not_end_has_failed(tmp_path):
    async def run(*_):
        raise TimeoutError

    drill = Drill("a-drill", "", run, {})
    document = await run_drill(drill, unchanged, seed=0, settings=Settings(home=tmp_path))
    assert not document["passed"]


def test_re_fires_are_other_messages_of_one_request():
    world = World(None)
    request = shard_request(5, world.ports)
    assert (request.iteration, request.shard_index) == (ITERATION, SHARD)
    fires = [refire(request, number, world.ports) for number in range(6)]
    assert len({fire.id for fire in fires}) == 6
    events = [decode(fire.data, fire.attributes, ShardRequested).event for fire in fires]
    assert events == [request] * 6


async def test_a_watched_ledger_sees_the_receipt_of_every_delivery(world):
    seen = Seen()
    ledger = WatchedLedger(world.ledger, seen)
    first = await claim(world, ledger)
    assert isinstance(await claim(world, ledger), Held)
    assert seen.deliveries == 0
    await ledger.complete(first, Receipt("d"), [], now=world.clock())
    assert isinstance(await claim(world, ledger), Completed)
    assert [receipt.digest for receipt in seen.of_step("shards")] == ["d", "d"]
    assert seen.of_step("merge") == []


async def test_the_mutant_claims_for_everybody(world):
    """And the watch still knows which step its receipts are of."""
    seen = Seen()
    ledger = WatchedLedger(NoClaimLedger(world.ledger), seen)
    claims = [await claim(world, ledger) for _ in range(3)]
    assert all(isinstance(one, Claim) for one in claims)
    for number, one in enumerate(claims):
        await ledger.complete(one, Receipt(f"d-{number}"), [], now=world.clock())
    assert [receipt.digest for receipt in seen.of_step("shards")] == ["d-0", "d-1", "d-2"]
