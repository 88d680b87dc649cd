import pytest

from events.catalogue import FamilyHeld, FamilyPromoted, ShardFailed, ShardMerged
from events.cloudevents import Envelope
from infra.effects import Effects
from infra.ports import Cause, ClaimKey, Receipt
from nexus.producer import request_for, start_iteration
from nexus.summary import summary
from sagas.engine import run_saga
from sagas.iteration import ITERATION
from tests.support.world import RETRYING

DIGEST = "sha256:" + "3" * 64
KEYS = {
    "iteration", "namespace", "structure", "priors", "status", "phase", "reason", "replayed",
    "shards", "rows_merged", "effects", "families", "receipts", "network", "report",
}  # fmt: skip


async def see(world, event, event_id):
    envelope = Envelope(event, event_id, "/test", event.type, event.subject, world.clock())
    await run_saga(ITERATION, envelope, world.ports)


async def done(world, subject, step, receipt):
    key = ClaimKey(subject, step)
    claim = await world.ledger.claim(
        key,
        cause=Cause("c", "t", world.clock()),
        owner="w",
        now=world.clock(),
        lease_seconds=RETRYING.lease_seconds,
    )
    await world.ledger.complete(claim, receipt, [], now=world.clock())


async def fail(world, subject, step, reason):
    key = ClaimKey(subject, step)
    claim = await world.ledger.claim(
        key, cause=Cause("c", "t", world.clock()), owner="w", now=world.clock(), lease_seconds=9
    )
    await world.ledger.release(claim, now=world.clock(), reason=reason, failed=True)


@pytest.fixture
async def started(world):
    """An iteration of which every shard but the last is merged."""
    request = request_for(0, "smoke", world.ports.objects)
    await start_iteration(request, world.ports)
    event = (await started_event(world)).event
    await see(world, event, "start")
    for index in range(5):
        await done(world, f"smoke/0/shard/{index}", "merge", Receipt(DIGEST, {"rows": 100}))
        await see(world, merged(index), f"m-{index}")
    return world


async def started_event(world):
    from events.catalogue import IterationStarted
    from events.cloudevents import decode

    sent = world.publisher.published[0]
    return decode(sent.data, sent.attributes, IterationStarted)


def merged(index):
    return ShardMerged(iteration=0, shard_index=index, rows=100, digest=DIGEST)


async def test_an_unknown_iteration_has_no_summary(world):
    assert await summary(0, world.ledger) is None


async def test_an_iteration_that_only_was_started_runs(world):
    await start_iteration(request_for(0, "smoke", world.ports.objects), world.ports)
    document = await summary(0, world.ledger)
    assert set(document) == KEYS
    assert (document["status"], document["phase"]) == ("running", "started")


async def test_a_run_under_way_says_how_far_it_is(started):
    document = await summary(0, started.ledger, effects=Effects(merges=5))
    assert set(document) == KEYS
    assert (document["status"], document["phase"]) == ("running", "grading")
    assert document["shards"] == {"requested": 6, "merged": 5, "failed": 0}
    assert document["rows_merged"] == 500
    assert document["effects"]["merges"] == 5
    assert document["receipts"] == [
        {"shard_index": index, "step": "merge", "digest": DIGEST} for index in range(5)
    ]
    assert document["report"] is None


async def test_a_failed_run_says_why(started):
    lost = ShardFailed(iteration=0, shard_index=5, step="merge", reason="cut")
    await see(started, lost, "lost")
    document = await summary(0, started.ledger)
    assert (document["status"], document["reason"]) == ("failed", "shards failed: 5")
    assert document["shards"] == {"requested": 6, "merged": 5, "failed": 1}


async def test_a_completed_run_shows_its_families(started):
    await see(started, merged(5), "m-5")
    figures = {
        "method": "nuts", "r_hat_max": 1.001, "ess_bulk_min": 900.0, "ess_tail_min": 800.0,
        "divergences": 0, "sampling_seconds": 2.5,
    }  # fmt: skip
    gates = [
        {"number": 1, "passed": True, "holds": True},
        {"number": 2, "passed": False, "holds": False},
        {"number": 3, "passed": False, "holds": True},
        {"number": 4, "passed": True, "holds": True, "judged": False},
    ]
    fit = Receipt(
        DIGEST,
        {"calibration_metrics": 6, "invariance": 3},
        {"grm": "file:///grm.json"},
        {"figures": figures, "gates": gates},
    )
    await done(started, "smoke/0/family/openness", "training", fit)
    verdict = Receipt(DIGEST, details={"status": "promoted", "reason": None})
    await done(started, "smoke/0/family/openness", "promotion", verdict)
    promoted = FamilyPromoted(iteration=0, family="openness", grm_uri="file:///grm.json")
    await see(started, promoted, "promoted")
    await done(started, "smoke/0", "reports", Receipt(DIGEST, uris={"report": "file:///r.html"}))
    document = await summary(0, started.ledger, replayed=True)
    assert (document["status"], document["replayed"]) == ("completed", True)
    assert document["report"] == "file:///r.html"
    [family] = document["families"]
    assert (family["family"], family["status"]) == ("openness", "promoted")
    assert {name: family[name] for name in figures} == figures
    assert family["gates"] == {"1": "passed", "2": "noted", "3": "failed", "4": "not judged"}
    assert family["gate_details"][2] == {**gates[2], "verdict": "failed"}
    assert family["waivers"] == []
    assert family["grm"] == "file:///grm.json"
    assert (family["calibration_metrics_rows"], family["invariance_rows"]) == (6, 3)


async def test_a_waiver_is_told_and_the_newest_report_is_the_report(started):
    await see(started, merged(5), "m-5")
    gates = [{"number": 3, "passed": False, "holds": True}]
    counts = {"calibration_metrics": 6, "invariance": 3}
    details = {"figures": {}, "gates": gates}
    family = "smoke/0/family/openness"
    await done(started, family, "training", Receipt(DIGEST, counts, {"grm": "g"}, details))
    verdict = Receipt(DIGEST, details={"status": "held", "reason": "gate 3"})
    await done(started, family, "promotion", verdict)
    await see(started, FamilyHeld(iteration=0, family="openness", reason="gate 3"), "held")
    await done(started, "smoke/0", "reports", Receipt(DIGEST, uris={"report": "file:///old"}))
    [held] = (await summary(0, started.ledger))["families"]
    assert (held["status"], held["reason"], held["gates"]) == ("held", "gate 3", {"3": "failed"})
    started.clock.advance(60)
    waiver = {"number": 3, "gate": "g", "reason": "why", "waived_by": "ada", "waived_at": "t"}
    await done(started, f"{family}/gate/3", "waive", Receipt(DIGEST, details=waiver))
    promoted = FamilyPromoted(iteration=0, family="openness", grm_uri="g")
    await see(started, promoted, "promoted")
    await done(started, family, "reports", Receipt(DIGEST, uris={"report": "file:///new"}))
    document = await summary(0, started.ledger)
    [told] = document["families"]
    assert (told["status"], told["reason"]) == ("promoted", None)
    assert (told["gates"], told["waivers"]) == ({"3": "waived"}, [waiver])
    assert document["report"] == "file:///new"


async def test_a_family_that_failed_says_why(started):
    from events.catalogue import FamilyFailed

    await see(started, merged(5), "m-5")
    await fail(started, "smoke/0/family/openness", "training", "item b: every answer is 1")
    lost = FamilyFailed(iteration=0, family="openness", step="training", reason="x")
    await see(started, lost, "lost")
    [family] = (await summary(0, started.ledger))["families"]
    assert (family["status"], family["reason"]) == ("failed", "item b: every answer is 1")
