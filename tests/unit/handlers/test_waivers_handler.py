import pytest

from events.catalogue import FamilyPromoted, GateWaived
from events.model import family_subject
from handlers.promotion import keep_decision
from handlers.waivers import WAIVING, apply_waiver
from infra.once import Dead, Settled, run_once
from infra.outcome import Retry
from infra.ports import Cause, ClaimKey, Receipt
from infra.waivers import ASKED, waivers_of
from schemas.tables import PROMOTIONS, WAIVERS

SUBJECT = family_subject(4, "openness")
DIGEST = "sha256:" + "2" * 64
PROMOTED = FamilyPromoted(iteration=4, family="openness", grm_uri="file:///grm.json")


def gate(number, *, passed, holds=True):
    return {
        "number": number, "name": f"g{number}", "value": 1.0, "threshold": "below 1",
        "passed": passed, "holds": holds, "reason": "it is 1.0",
    }  # fmt: skip


async def done(real, key, receipt):
    cause = Cause("c", "t", real.clock())
    claim = await real.ledger.claim(
        key, cause=cause, owner="w", now=real.clock(), lease_seconds=9.0
    )
    await real.ledger.complete(claim, receipt, [], now=real.clock())
    return claim


async def judged(real, *gates, status="held"):
    """The ledger and the warehouse as training and promotion leave them."""
    details = {"gates": list(gates), "figures": {}}
    fit = Receipt(DIGEST, uris={"grm": PROMOTED.grm_uri}, details=details)
    await done(real, ClaimKey(SUBJECT, "training"), fit)
    decision = Receipt(DIGEST, details={"status": status, "reason": "why"})
    claim = await done(real, ClaimKey(SUBJECT, "promotion"), decision)
    await keep_decision(PROMOTED, status, (PROMOTED.grm_uri, DIGEST), claim, real.ports)


def waived(real, number, reason="seen and understood"):
    return GateWaived(
        iteration=4,
        family="openness",
        number=number,
        gate=f"g{number}",
        reason=reason,
        waived_by="ada@host",
        waived_at=real.clock(),
    )


async def asked(real, event):
    """The waiver as the command keeps it."""
    details = event.model_dump(mode="json", exclude={"iteration", "family"})
    await done(real, ClaimKey(event.subject, ASKED), Receipt(DIGEST, details=details))


async def rows(real, table):
    where = {"namespace": "smoke", "iteration": 4, "family": "openness"}
    return (await real.ports.warehouse.read(table, where=where)).to_pylist()


async def test_the_last_gate_that_held_lets_the_family_through(real, claim):
    await judged(
        real, gate(1, passed=True), gate(7, passed=False), gate(8, passed=False, holds=False)
    )
    event = waived(real, 7)
    await asked(real, event)
    outcome = await apply_waiver(event, claim(event, "waivers"), real.ports)
    assert outcome.events == [PROMOTED]
    assert outcome.receipt.details == {"promoted": True, "left": []}
    assert [row["status"] for row in await rows(real, PROMOTIONS)] == ["promoted"]
    [kept] = await rows(real, WAIVERS)
    assert (kept["number"], kept["gate"], kept["waived_by"]) == (7, "g7", "ada@host")
    assert (kept["reason"], kept["waived_at"]) == ("seen and understood", real.clock.now)


async def test_a_family_that_another_gate_holds_stays_held_until_that_is_waived_too(real, claim):
    await judged(real, gate(5, passed=False), gate(7, passed=False))
    first, second = waived(real, 7), waived(real, 5)
    await asked(real, first)
    outcome = await apply_waiver(first, claim(first, "waivers"), real.ports)
    assert (outcome.events, outcome.receipt.details["left"]) == ((), [5])
    assert [row["status"] for row in await rows(real, PROMOTIONS)] == ["held"]
    await asked(real, second)
    outcome = await apply_waiver(second, claim(second, "waivers"), real.ports)
    assert outcome.events == [PROMOTED]
    assert [row["number"] for row in await rows(real, WAIVERS)] == [5, 7]
    kept = waivers_of(await real.ledger.steps(SUBJECT))
    assert [waiver["number"] for waiver in kept] == [5, 7]


async def test_a_waiver_that_comes_again_promotes_once(real):
    await judged(real, gate(7, passed=False))
    event = waived(real, 7)
    await asked(real, event)
    for delivery in ("first", "second"):
        settled = await run_once(WAIVING, real.envelope(event, delivery), real.ports)
        assert isinstance(settled, Settled)
    assert len(set(real.publisher.ids("family-promoted"))) == 1
    assert real.effects.merges == 3


async def test_a_promoted_family_is_not_promoted_again(real, claim):
    await judged(real, gate(7, passed=True), status="promoted")
    event = waived(real, 7)
    outcome = await apply_waiver(event, claim(event, "waivers"), real.ports)
    assert outcome.events == ()


@pytest.mark.parametrize("step", [None, "training"])
async def test_what_is_not_judged_yet_comes_again_and_ends_with_the_dead_letters(real, step):
    if step:
        fit = Receipt(DIGEST, details={"gates": [gate(7, passed=False)]})
        await done(real, ClaimKey(SUBJECT, step), fit)
    event = waived(real, 7)
    outcome = await apply_waiver(event, None, real.ports)
    assert outcome == Retry("smoke/4/family/openness is not judged yet")
    assert isinstance(await run_once(WAIVING, real.envelope(event), real.ports), Dead)
