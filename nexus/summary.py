"""What came of an iteration, as ``run`` and ``status`` tell it, from the ledger alone."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from events.model import family_subject, iteration_subject, namespace_of
from infra.effects import Effects
from infra.ports import ClaimKey, Ledger, StepRecord, StepStatus
from infra.waivers import waivers_of
from sagas.iteration import ENDED

Document = dict[str, Any]


async def summary(
    iteration: int, ledger: Ledger, *, replayed: bool = False, effects: Effects | None = None
) -> Document | None:
    """The document of ``nexus run --json``; None when the ledger knows no such iteration."""
    subject = iteration_subject(iteration)
    record = await ledger.saga("iteration", subject)
    steps = {step.key: step for step in await ledger.steps(subject)}
    start = steps.get(ClaimKey(subject, "start"))
    if record is None:
        return _only_started(iteration) if start else None
    state = record.state
    merged = [step for step in steps.values() if step.key.step == "merge" and step.receipt]
    return {
        "iteration": iteration,
        "namespace": namespace_of(iteration),
        "structure": state["parameters"].get("structure", "unidimensional"),
        "priors": state["parameters"].get("priors", "default"),
        "status": state["phase"] if state["phase"] in ENDED else "running",
        "phase": state["phase"],
        "reason": state["reason"],
        "replayed": replayed,
        "shards": {
            "requested": state["parameters"]["shards"],
            "merged": len(state["merged"]),
            "failed": len(state["failed_shards"]),
        },
        "rows_merged": sum(step.receipt.counts["rows"] for step in merged if step.receipt),
        "effects": asdict(effects or Effects()),
        "families": [
            _family(iteration, family["family"], state["families"], steps)
            for family in state["parameters"]["families"]
        ],
        "receipts": _receipts(steps),
        "network": _network(subject, steps),
        "report": _report(steps),
    }


def _report(steps: Mapping[ClaimKey, StepRecord]) -> str | None:
    """The newest: a waiver after the end has it drawn again."""
    drawn = [
        (step.ended_at, step.receipt.uris["report"])
        for step in steps.values()
        if step.key.step == "reports" and step.receipt and step.ended_at
    ]
    return max(drawn)[1] if drawn else None


def _network(subject: str, steps: Mapping[ClaimKey, StepRecord]) -> str | None:
    """Where the network over the families is kept."""
    step = steps.get(ClaimKey(subject, "network"))
    return step.receipt.uris.get("network") if step and step.receipt else None


def _only_started(iteration: int) -> Document:
    return {
        "iteration": iteration,
        "namespace": namespace_of(iteration),
        "structure": None,
        "priors": None,
        "status": "running",
        "phase": "started",
        "reason": None,
        "replayed": False,
        "shards": {"requested": 0, "merged": 0, "failed": 0},
        "rows_merged": 0,
        "effects": asdict(Effects()),
        "families": [],
        "receipts": [],
        "network": None,
        "report": None,
    }


def _family(
    iteration: int,
    family: str,
    statuses: Mapping[str, str],
    steps: Mapping[ClaimKey, StepRecord],
) -> Document:
    subject = family_subject(iteration, family)
    training = steps.get(ClaimKey(subject, "training"))
    promotion = steps.get(ClaimKey(subject, "promotion"))
    receipt = training.receipt if training else None
    figures = receipt.details["figures"] if receipt else {}
    gates = receipt.details["gates"] if receipt else []
    waivers = waivers_of([step for key, step in steps.items() if _is_below(key, subject)])
    waived = {waiver["number"] for waiver in waivers}
    status = statuses.get(family, "waiting")
    reason = promotion.receipt.details["reason"] if promotion and promotion.receipt else None
    failed = next(
        (
            step.reason
            for step in (training, promotion)
            if step and step.status is StepStatus.FAILED
        ),
        None,
    )
    return {
        "family": family,
        "status": status,
        "reason": None if status == "promoted" else reason or failed,
        **{
            name: figures.get(name)
            for name in (
                "method",
                "r_hat_max",
                "ess_bulk_min",
                "ess_tail_min",
                "divergences",
                "sampling_seconds",
                "compile_seconds",
                "checks_seconds",
            )
        },
        "gates": {str(gate["number"]): _word(gate, waived) for gate in gates},
        "gate_details": [{**gate, "verdict": _word(gate, waived)} for gate in gates],
        "waivers": waivers,
        "grm": receipt.uris["grm"] if receipt else None,
        "inference_data": receipt.uris.get("inference") if receipt else None,
        "calibration_metrics_rows": receipt.counts["calibration_metrics"] if receipt else 0,
        "invariance_rows": receipt.counts["invariance"] if receipt else 0,
    }


def _is_below(key: ClaimKey, subject: str) -> bool:
    return key.subject.startswith(f"{subject}/")


def _word(gate: Mapping[str, Any], waived: Collection[int | str]) -> str:
    if not gate.get("judged", True):
        return "not judged"
    if gate["passed"]:
        return "passed"
    if gate["number"] in waived:
        return "waived"
    return "failed" if gate["holds"] else "noted"


def _receipts(steps: Mapping[ClaimKey, StepRecord]) -> list[Document]:
    """One for each step of each shard, in order."""
    found = [
        (int(shard), step)
        for step in steps.values()
        for _, kind, shard in (step.key.subject.rpartition("/shard/"),)
        if kind and step.receipt is not None
    ]
    return [
        {"shard_index": shard, "step": step.key.step, "digest": step.receipt.digest}
        for shard, step in sorted(found, key=lambda pair: (pair[0], pair[1].key.step))
        if step.receipt is not None
    ]
