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
    seed's personas and items are others; a family without a common item is another instrument
    of the same name.
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
    return f"the versions promoted before, in iterations {tried}, are of other items or cohorts"


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
    items = {item["item"] for item in json.loads(grm)["items"]}
    return grm if items & set(event.scale.items) else None


def _truth(evaluator: object) -> object:
    """What two simulated cohorts must share; real ones need share nothing but items."""
    return evaluator if isinstance(evaluator, SimulatorEvaluator) else None
