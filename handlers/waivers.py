"""``GateWaived`` -> keeps the waiver; with no gate left that holds -> ``FamilyPromoted``."""

from collections.abc import Sequence

from events.catalogue import FamilyPromoted, GateWaived
from events.model import GateVerdict, family_subject
from handlers.promotion import keep_decision
from infra.once import Step
from infra.outcome import Ack, Outcome, Retry
from infra.ports import Claim, ClaimKey, Ports, Receipt, StepRecord
from infra.waivers import waivers_of
from schemas.rows import arrow_rows
from schemas.tables import WAIVERS


async def apply_waiver(event: GateWaived, claim: Claim, ports: Ports) -> Outcome:
    """Keep the waiver and promote the family if the last gate that held it is waived."""
    subject = family_subject(event.iteration, event.family)
    steps = await ports.ledger.steps(subject)
    fit = _receipt(steps, ClaimKey(subject, "training"))
    decision = _receipt(steps, ClaimKey(subject, "promotion"))
    if fit is None or decision is None:
        return Retry(f"{subject} is not judged yet")
    await _keep(event, claim, ports)
    waived = {event.number, *(waiver["number"] for waiver in waivers_of(steps))}
    gates = [GateVerdict.model_validate(gate) for gate in fit.details["gates"]]
    left = [gate.number for gate in gates if _holds(gate) and gate.number not in waived]
    if left or decision.details["status"] == "promoted":
        return Ack(Receipt(fit.digest, details={"promoted": False, "left": left}))
    grm_uri = fit.uris["grm"]
    promoted = FamilyPromoted(iteration=event.iteration, family=event.family, grm_uri=grm_uri)
    await keep_decision(promoted, "promoted", (grm_uri, fit.digest), claim, ports)
    return Ack(Receipt(fit.digest, details={"promoted": True, "left": []}), [promoted])


def _holds(gate: GateVerdict) -> bool:
    return gate.holds and not gate.passed


def _receipt(steps: Sequence[StepRecord], key: ClaimKey) -> Receipt | None:
    return next((step.receipt for step in steps if step.key == key), None)


async def _keep(event: GateWaived, claim: Claim, ports: Ports) -> None:
    key = {
        "namespace": event.namespace,
        "iteration": event.iteration,
        "family": event.family,
        "number": event.number,
    }
    row = {
        **key,
        "gate": event.gate,
        "reason": event.reason,
        "waived_by": event.waived_by,
        "waived_at": event.waived_at,
    }
    await ports.warehouse.merge(
        WAIVERS, arrow_rows(WAIVERS, [row]), claim=f"{claim.key}/{claim.token}", constants=key
    )


WAIVING = Step(handler="waivers", consumes=(GateWaived,), emits=(FamilyPromoted,), run=apply_waiver)
