"""Waivers as the ledger keeps them: a step of the gate's subject, with the operator's word."""

from collections.abc import Sequence
from typing import Any

from infra.ports import StepRecord

ASKED = "waive"
"""The step under which a waiver is kept before its event goes out."""


def waivers_of(steps: Sequence[StepRecord]) -> list[dict[str, Any]]:
    """The waivers among a family's steps: number, gate, reason, waived_by, waived_at, by number."""
    found = [
        dict(step.receipt.details) for step in steps if step.key.step == ASKED and step.receipt
    ]
    return sorted(found, key=lambda waiver: int(waiver["number"]))
