"""``TrainingRequested`` -> fits the family, merges its metrics -> ``FamilyCalibrated``."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from events.catalogue import FamilyCalibrated, FamilyFailed, TrainingRequested
from events.model import FitFigures, GateVerdict
from handlers.digests import sha256, short
from infra.once import Step
from infra.outcome import Ack, Outcome
from infra.ports import Claim, Ports, Receipt, Stored, Training, TrainingJob
from infra.telemetry import traceparent
from schemas.rows import arrow_rows
from schemas.spec import TableSpec
from schemas.tables import CALIBRATION_METRICS, GRADES, INVARIANCE


async def calibrate_family(event: TrainingRequested, claim: Claim, ports: Ports) -> Outcome:
    """Fit the family on every merged grade and keep the fit."""
    training = await ports.trainer.train(await training_job(event, ports), ports.on_training)
    digest = sha256(training.grm_json)
    place = f"{event.subject}/{short(digest)}"
    grm = await ports.objects.put_once(f"{place}/grm.json", training.grm_json)
    draws = await _draws(place, training, ports)
    await _merge(CALIBRATION_METRICS, training.metrics, event, claim, ports)
    await _merge(INVARIANCE, training.invariance, event, claim, ports)
    calibrated = FamilyCalibrated(
        iteration=event.iteration,
        family=event.family,
        grm_uri=grm.uri,
        draws_uri=draws.uri if draws else None,
        digest=digest,
        figures=FitFigures.model_validate(training.figures),
        gates=tuple(GateVerdict.model_validate(gate) for gate in training.gates),
    )
    return Ack(_receipt(digest, grm, draws, training, calibrated), [calibrated])


async def training_job(event: TrainingRequested, ports: Ports) -> TrainingJob:
    """The family's grades, counted in the warehouse."""
    counts = await ports.warehouse.count(
        GRADES,
        where={
            "namespace": event.namespace,
            "iteration": event.iteration,
            "family": event.family,
        },
        by=("persona", "construct", "grade"),
    )
    return TrainingJob(
        family=event.scale,
        counts=pa.table(
            {
                "respondent": counts["persona"],
                "item": counts["construct"],
                "grade": counts["grade"],
                "n": counts["n"],
            }
        ),
        sampler=event.sampler,
        method=event.method,
        seed=event.seed,
        traceparent=traceparent(),
    )


async def _draws(place: str, training: Training, ports: Ports) -> Stored | None:
    if training.draws_npz is None:
        return None
    digest = short(sha256(training.draws_npz))
    return await ports.objects.put_once(f"{place}/draws-{digest}.npz", training.draws_npz)


async def _merge(
    table: TableSpec,
    rows: Sequence[Mapping[str, Any]],
    event: TrainingRequested,
    claim: Claim,
    ports: Ports,
) -> None:
    constants = {
        "namespace": event.namespace,
        "iteration": event.iteration,
        "family": event.family,
    }
    await ports.warehouse.merge(
        table,
        arrow_rows(table, [{**constants, **row} for row in rows]),
        claim=f"{claim.key}/{claim.token}/{table.name}",
        constants=constants,
    )


def _receipt(
    digest: str, grm: Stored, draws: Stored | None, training: Training, said: FamilyCalibrated
) -> Receipt:
    return Receipt(
        digest=digest,
        counts={
            "calibration_metrics": len(training.metrics),
            "invariance": len(training.invariance),
        },
        uris={"grm": grm.uri} | ({"draws": draws.uri} if draws else {}),
        details={
            "figures": said.figures.model_dump(mode="json"),
            "gates": [gate.model_dump(mode="json") for gate in said.gates],
        },
    )


def family_lost(event: TrainingRequested, reason: str) -> FamilyFailed:
    """What the saga is told."""
    return FamilyFailed(
        iteration=event.iteration, family=event.family, step="training", reason=reason
    )


TRAINING = Step(
    handler="training",
    consumes=(TrainingRequested,),
    emits=(FamilyCalibrated, FamilyFailed),
    run=calibrate_family,
    lost=family_lost,
    workers=1,
    max_lease_seconds=24 * 3600.0,
)
