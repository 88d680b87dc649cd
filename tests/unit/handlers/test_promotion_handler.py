import pytest

from events.catalogue import FamilyCalibrated, FamilyHeld, FamilyPromoted
from events.model import FitFigures, GateVerdict
from handlers.promotion import decide_promotion, promote_family, promotion_lost
from schemas.tables import PROMOTIONS


def gate(number, *, passed, holds=True):
    return GateVerdict(
        number=number,
        name=f"g{number}",
        value=1.0,
        threshold="below 1",
        passed=passed,
        holds=holds,
        reason="it is 1.0",
    )


def calibrated(*gates):
    figures = FitFigures(
        method="nuts", r_hat_max=1.0, ess_bulk_min=500.0, ess_tail_min=500.0, divergences=0,
        sampling_seconds=1.0, n_respondents=10, n_responses=60,
    )  # fmt: skip
    return FamilyCalibrated(
        iteration=4,
        family="openness",
        grm_uri="file:///grm.json",
        draws_uri=None,
        digest="sha256:" + "2" * 64,
        figures=figures,
        gates=gates,
    )


PROMOTED = FamilyPromoted(iteration=4, family="openness", grm_uri="file:///grm.json")


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        ([], None),
        ([gate(1, passed=True), gate(2, passed=True)], None),
        ([gate(1, passed=True), gate(2, passed=False, holds=False)], None),
        ([gate(1, passed=False)], "gate 1 (g1): it is 1.0; wanted below 1"),
        (
            [gate(1, passed=False), gate(2, passed=True), gate(3, passed=False)],
            "gate 1 (g1): it is 1.0; wanted below 1; gate 3 (g3): it is 1.0; wanted below 1",
        ),
    ],
)
def test_only_a_failed_gate_that_holds_holds(gates, reason):
    held = FamilyHeld(iteration=4, family="openness", reason=reason) if reason else None
    assert decide_promotion(calibrated(*gates)) == (held or PROMOTED)


@pytest.mark.parametrize(("passed", "status"), [(True, "promoted"), (False, "held")])
async def test_the_decision_is_merged_either_way_and_once(real, claim, passed, status):
    event = calibrated(gate(1, passed=passed))
    outcomes = [
        await promote_family(event, claim(event, "promotion", attempt), real.ports)
        for attempt in (1, 2)
    ]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].events == [decide_promotion(event)]
    assert outcomes[0].receipt.digest == event.digest
    assert outcomes[0].receipt.details["status"] == status
    assert (outcomes[0].receipt.details["reason"] is None) == passed
    where = {"namespace": "smoke", "iteration": 4}
    [row] = (await real.ports.warehouse.read(PROMOTIONS, where=where)).to_pylist()
    assert (row["family"], row["status"], row["digest"]) == ("openness", status, event.digest)
    assert (row["grm_uri"], row["decided_at"]) == (event.grm_uri, real.clock.now)


def test_what_the_saga_is_told():
    told = promotion_lost(calibrated(), "why")
    assert (told.subject, told.step, told.reason) == ("smoke/4/family/openness", "promotion", "why")
