"""Which promoted version a family's new calibration is to be stable against."""

import json
from typing import Any

from events.catalogue import TrainingRequested
from events.model import Parameters, SimulatorEvaluator, iteration_subject
from infra.errors import TerminalError
from infra.ports import Ports
from schemas.tables import PROMOTIONS


async def grm_of_former(event: TrainingRequested, ports: Ports) -> bytes | str:
    """The ``grm.json`` promoted last before the event's iteration, or why there is none.

    Of the same namespace and cohort: the simulator's truth follows from its seed, so another
    seed's personas and items are others; a family without a common item, or whose items belong to
    other traits, is another instrument of the same name.
    """
    where = {"namespace": event.namespace, "family": event.family}
    rows = (await ports.warehouse.read(PROMOTIONS, where=where)).to_pylist()
    before = [
        row for row in rows if row["iteration"] < event.iteration and row["status"] == "promoted"
    ]
    if not before:
        return f"no version was promoted before in {event.namespace}"
    for row in sorted(before, key=lambda row: -row["iteration"]):
        found = await _comparable(event, row, ports)
        if found is not None:
            return found
    tried = ", ".join(str(row["iteration"]) for row in before)
    told = f"the versions promoted before, in iterations {tried}"
    return f"{told}, are of other items, traits or cohorts"


async def _comparable(event: TrainingRequested, row: dict[str, Any], ports: Ports) -> bytes | None:
    record = await ports.ledger.saga("iteration", iteration_subject(row["iteration"]))
    if record is not None:
        former = Parameters.model_validate(record.state["parameters"])
        if _truth(former.evaluator) != _truth(event.evaluator):
            return None
    try:
        grm = await ports.objects.get(row["grm_uri"])
    except TerminalError:
        return None
    return grm if _structure(json.loads(grm)) & _asked(event) else None


def _structure(grm: dict[str, Any]) -> set[tuple[str, str | None]]:
    """Items, each with its trait; files of one trait name none."""
    return {(item["item"], item.get("trait")) for item in grm["items"]}


def _asked(event: TrainingRequested) -> set[tuple[str, str | None]]:
    if event.structure == "correlated":
        return set(event.scale.trait_of_item.items())
    return {(item, None) for item in event.scale.items}


def _truth(evaluator: object) -> object:
    """What two simulated cohorts must share; real ones need share nothing but items."""
    return evaluator if isinstance(evaluator, SimulatorEvaluator) else None
