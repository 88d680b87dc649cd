"""``FamilyCalibrated`` -> lets the gates decide -> ``FamilyPromoted`` or ``FamilyHeld``."""

from events.catalogue import FamilyCalibrated, FamilyFailed, FamilyHeld, FamilyPromoted
from events.model import FamilyEvent, GateVerdict
from infra.once import Step
from infra.outcome import Ack, Outcome
from infra.ports import Claim, Ports, Receipt
from schemas.rows import arrow_rows
from schemas.tables import PROMOTIONS


async def promote_family(event: FamilyCalibrated, claim: Claim, ports: Ports) -> Outcome:
    """Promote the fit unless a gate holds it; either way the decision is merged."""
    verdict = decide_promotion(event)
    status = "promoted" if isinstance(verdict, FamilyPromoted) else "held"
    await keep_decision(event, status, (event.grm_uri, event.digest), claim, ports)
    reason = verdict.reason if isinstance(verdict, FamilyHeld) else None
    details = {"status": status, "reason": reason}
    return Ack(Receipt(digest=event.digest, details=details), [verdict])


async def keep_decision(
    event: FamilyEvent, status: str, fit: tuple[str, str], claim: Claim, ports: Ports
) -> None:
    """Merge what became of a fit, given by its URI and digest."""
    key = {"namespace": event.namespace, "iteration": event.iteration, "family": event.family}
    grm_uri, digest = fit
    row = {
        **key,
        "status": status,
        "grm_uri": grm_uri,
        "digest": digest,
        "decided_at": ports.clock(),
    }
    await ports.warehouse.merge(
        PROMOTIONS,
        arrow_rows(PROMOTIONS, [row]),
        claim=f"{claim.key}/{claim.token}/decision",
        constants=key,
    )


def decide_promotion(event: FamilyCalibrated) -> FamilyEvent:
    """Held by every failed gate that is more than a note."""
    holding = [gate for gate in event.gates if gate.holds and not gate.passed]
    if holding:
        reason = "; ".join(_words(gate) for gate in holding)
        return FamilyHeld(iteration=event.iteration, family=event.family, reason=reason)
    return FamilyPromoted(iteration=event.iteration, family=event.family, grm_uri=event.grm_uri)


def _words(gate: GateVerdict) -> str:
    return f"gate {gate.number} ({gate.name}): {gate.reason}; wanted {gate.threshold}"


def promotion_lost(event: FamilyCalibrated, reason: str) -> FamilyFailed:
    """What the saga is told."""
    return FamilyFailed(
        iteration=event.iteration, family=event.family, step="promotion", reason=reason
    )


PROMOTION = Step(
    handler="promotion",
    consumes=(FamilyCalibrated,),
    emits=(FamilyPromoted, FamilyHeld, FamilyFailed),
    run=promote_family,
    lost=promotion_lost,
)
