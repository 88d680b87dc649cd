"""``nexus gate waive``: an operator lets a held family pass a gate, with a reason that is kept."""

import asyncio
import getpass
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from events.catalogue import GateWaived
from events.cloudevents import derived_id
from events.model import GateVerdict, family_subject, gate_subject, iteration_subject
from handlers.digests import sha256
from handlers.waivers import WAIVING
from infra.errors import InputError, NexusError
from infra.ledger import open_ledger
from infra.outbox import outgoing, publish
from infra.ports import Cause, ClaimKey, Completed, Ledger, Ports, Receipt, StepRecord, StepStatus
from infra.settings import Settings
from infra.telemetry import span
from infra.waivers import ASKED, waivers_of
from nexus.app import connected, consuming
from nexus.producer import take
from nexus.run import LOOK_SECONDS
from nexus.summary import Document, summary
from sagas.iteration import ENDED

_HANDLERS = (WAIVING.handler, "iteration", "reports")


async def waive(
    settings: Settings, iteration: int, family: str, gate: str, reason: str, by: str | None
) -> Document:
    """Waive a gate once and see it through.

    Args:
        settings: Where the ledger and the bus are.
        iteration: Of the held fit.
        family: That is held.
        gate: Number or name.
        reason: Why it may pass.
        by: Who says so; the user of this process without it.

    Raises:
        InputError: The family is not held by that gate.
    """
    known = await _known(settings, iteration, family, gate, reason)
    async with connected(settings) as system:
        event = GateWaived(
            iteration=iteration,
            family=family,
            number=known.number,
            gate=known.name,
            reason=reason.strip(),
            waived_by=by or operator(),
            waived_at=system.ports.clock(),
        )
        new = await record(event, system.ports)
        async with consuming(system, _HANDLERS):
            await _until_applied(event, system.ports.ledger)
        return await _told(event, system.ports.ledger, replayed=not new)


def operator() -> str:
    """Who runs this process, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


async def record(event: GateWaived, ports: Ports) -> bool:
    """Keep the waiver in the ledger and publish it; False when the gate was waived before.

    The first waiver stands; its event is published again.
    """
    key = ClaimKey(event.subject, ASKED)
    with span(f"waive gate {event.number} of {event.family}", kind="producer"):
        leaving = outgoing(event, cause=str(key), source="operator", ports=ports)
    traceparent = leaving.attributes.get("traceparent")
    cause = Cause(derived_id("operator", event), event.type, ports.clock(), traceparent)
    taken = await take(key, cause, ports)
    if isinstance(taken, Completed):
        await publish(taken.outgoing, ports)
        return False
    details = event.model_dump(mode="json", exclude={"iteration", "family"})
    receipt = Receipt(digest=sha256(event.model_dump_json().encode()), details=details)
    await ports.ledger.complete(taken, receipt, [leaving], now=ports.clock())
    await publish([leaving], ports)
    return True


async def _known(
    settings: Settings, iteration: int, family: str, gate: str, reason: str
) -> GateVerdict:
    """The gate, if it was waived or may be."""
    if not reason.strip():
        raise InputError("--reason is empty: say why the family may pass")
    settings.home.mkdir(parents=True, exist_ok=True)
    ledger = open_ledger(settings.ledger)
    await ledger.open()
    try:
        steps = await ledger.steps(family_subject(iteration, family))
        if await ledger.saga("iteration", iteration_subject(iteration)) is None:
            raise InputError(f"iteration {iteration} was never started: see nexus status")
    finally:
        await ledger.close()
    subject = family_subject(iteration, family)
    fit, decision = (_receipt(steps, ClaimKey(subject, s)) for s in ("training", "promotion"))
    if fit is None or decision is None:
        raise InputError(
            f"{subject} has no judged fit: only a family that a gate holds can be let through; "
            f"see nexus status {iteration}"
        )
    gates = [GateVerdict.model_validate(found) for found in fit.details["gates"]]
    return may_be_waived(_named(gate, gates), waivers_of(steps))


def may_be_waived(gate: GateVerdict, waivers: Sequence[Mapping[str, Any]]) -> GateVerdict:
    """The gate again. Raises InputError when it holds nothing and never did."""
    waived = any(waiver["number"] == gate.number for waiver in waivers)
    if waived or (gate.holds and not gate.passed):
        return gate
    word = "was passed" if gate.passed else "is advisory"
    raise InputError(f"gate {gate.number} ({gate.name}) {word}: it holds nothing back")


def _named(gate: str, gates: Sequence[GateVerdict]) -> GateVerdict:
    wanted = gate.strip().lower().replace("-", " ").replace("_", " ")
    for known in gates:
        if wanted in {str(known.number), known.name}:
            return known
    names = ", ".join(f"{known.number} ({known.name})" for known in gates)
    raise InputError(f"gate {gate!r} is none of this fit's: use {names}")


def _receipt(steps: Sequence[StepRecord], key: ClaimKey) -> Receipt | None:
    return next((step.receipt for step in steps if step.key == key), None)


async def _until_applied(event: GateWaived, ledger: Ledger) -> None:
    """Until the waiver is kept; if it promotes, until the saga and the report say so too."""
    while True:
        if await _applied(event, ledger):
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _applied(event: GateWaived, ledger: Ledger) -> bool:
    step = await ledger.step(ClaimKey(event.subject, WAIVING.handler))
    if step is not None and step.status is StepStatus.FAILED:
        raise NexusError(f"{event.subject} could not be waived: {step.reason}")
    if step is None or step.receipt is None:
        return False
    if not step.receipt.details["promoted"]:
        return True
    record = await ledger.saga("iteration", iteration_subject(event.iteration))
    if record is None or record.state["families"].get(event.family) != "promoted":
        return False
    if record.state["phase"] not in ENDED or not _ended_before(record.state, step):
        return True
    family = family_subject(event.iteration, event.family)
    report = await ledger.step(ClaimKey(family, "reports"))
    return report is not None and report.status in {StepStatus.COMPLETED, StepStatus.FAILED}


def _ended_before(state: Mapping[str, Any], step: StepRecord) -> bool:
    """Whether the iteration had ended when the waiver promoted: then its report is amended."""
    ended = datetime.fromisoformat(state["ended_at"])
    return step.ended_at is not None and ended < step.claimed_at


async def _told(event: GateWaived, ledger: Ledger, *, replayed: bool) -> Document:
    """What stands, which after a replay is the first waiver."""
    subject = gate_subject(event.iteration, event.family, event.number)
    kept = await ledger.step(ClaimKey(subject, ASKED))
    document = await summary(event.iteration, ledger)
    if kept is None or kept.receipt is None or document is None:
        raise NexusError(f"{subject} has left nothing in the ledger")
    family = next(found for found in document["families"] if found["family"] == event.family)
    return {
        "iteration": event.iteration,
        "family": event.family,
        "status": family["status"],
        "replayed": replayed,
        "waiver": dict(kept.receipt.details),
        "report": document["report"],
    }
