"""``TrainingRequested`` -> fits the family, merges its metrics -> ``FamilyCalibrated``."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from calibration.simulate import Truth
from events.catalogue import FamilyCalibrated, FamilyFailed, TrainingRequested
from events.model import FitFigures, GateVerdict, ResponsesEvaluator, SimulatorEvaluator
from handlers.digests import sha256, short
from handlers.former import grm_of_former
from infra.once import Step
from infra.outcome import Ack, Outcome
from infra.ports import Claim, Ports, Receipt, Training, TrainingJob
from infra.responses import read_labels
from infra.telemetry import traceparent
from schemas.rows import arrow_rows
from schemas.spec import TableSpec
from schemas.tables import (
    CALIBRATION_METRICS,
    GATES,
    GRADES,
    INVARIANCE,
    ITEM_CHECKS,
    MODEL_COMPARISONS,
    SCORES,
    TRAIT_CORRELATIONS,
    TRAIT_SCORES,
)

_STORED = {"respondent": "persona"}


async def calibrate_family(event: TrainingRequested, claim: Claim, ports: Ports) -> Outcome:
    """Fit the family on every merged grade and keep the fit."""
    training = await ports.trainer.train(await training_job(event, ports), ports.on_training)
    digest = sha256(training.grm_json)
    place = f"{event.subject}/{short(digest)}"
    grm = await ports.objects.put_once(f"{place}/grm.json", training.grm_json)
    uris = {"grm": grm.uri, **await _beside(place, training, ports)}
    await _merge_all(training, event, claim, ports)
    calibrated = FamilyCalibrated(
        iteration=event.iteration,
        family=event.family,
        grm_uri=grm.uri,
        draws_uri=uris.get("draws"),
        digest=digest,
        figures=FitFigures.model_validate(training.figures),
        gates=tuple(GateVerdict.model_validate(gate) for gate in training.gates),
    )
    return Ack(_receipt(digest, uris, training, calibrated), [calibrated])


async def training_job(event: TrainingRequested, ports: Ports) -> TrainingJob:
    """The family's grades, counted in the warehouse, its groups, and the version before."""
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
        structure=event.structure,
        priors=event.priors,
        groups=await _groups(event, ports),
        promoted=await grm_of_former(event, ports),
        traceparent=traceparent(),
    )


async def _groups(event: TrainingRequested, ports: Ports) -> tuple[str | None, ...] | None:
    """Who is in which group: the simulator's personas, or a column of the responses."""
    match event.evaluator:
        case SimulatorEvaluator(seed=seed):
            truth = Truth(seed, event.corpus.personas, event.scale.items)
            return tuple(f"group {group}" for group in truth.groups.tolist())
        case ResponsesEvaluator(uri=uri, groups=str(column)):
            return read_labels(await ports.objects.get(uri), column, source=uri)
        case _:
            return None


async def _beside(place: str, training: Training, ports: Ports) -> dict[str, str]:
    """What is kept beside ``grm.json``, by name: the checks, and the draws where there are any."""
    documents = [
        ("checks", "json", training.checks_json),
        ("draws", "npz", training.draws_npz),
        ("inference", "nc", training.inference_nc),
    ]
    stored = {}
    for name, kind, data in documents:
        if data is not None:
            key = f"{place}/{name}-{short(sha256(data))}.{kind}"
            stored[name] = (await ports.objects.put_once(key, data)).uri
    return stored


async def _merge_all(
    training: Training, event: TrainingRequested, claim: Claim, ports: Ports
) -> None:
    constants = {
        "namespace": event.namespace,
        "iteration": event.iteration,
        "family": event.family,
    }
    by_table: tuple[tuple[TableSpec, Sequence[Mapping[str, Any]]], ...] = (
        (CALIBRATION_METRICS, training.metrics),
        (INVARIANCE, training.invariance),
        (ITEM_CHECKS, training.item_checks),
        (MODEL_COMPARISONS, training.models),
        (TRAIT_CORRELATIONS, training.correlations),
        (GATES, [_gate_row(gate) for gate in training.gates]),
    )
    tables = [
        (spec, arrow_rows(spec, [{**constants, **row} for row in rows])) for spec, rows in by_table
    ]
    tables.append((SCORES, _score_rows(training.scores, constants)))
    if training.trait_scores is not None:
        tables.append((TRAIT_SCORES, _score_rows(training.trait_scores, constants)))
    for spec, rows in tables:
        claimed = f"{claim.key}/{claim.token}/{spec.name}"
        await ports.warehouse.merge(spec, rows, claim=claimed, constants=constants)


def _score_rows(scores: pa.Table, constants: Mapping[str, str | int]) -> pa.Table:
    """Columns, not rows: there may be a hundred thousand respondents."""
    same = {name: pa.repeat(value, scores.num_rows) for name, value in constants.items()}
    own = {_STORED.get(name, name): scores[name] for name in scores.schema.names}
    return pa.table({**same, **own})


def _gate_row(gate: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in gate.items() if name != "name"} | {"gate": gate["name"]}


def _receipt(
    digest: str, uris: Mapping[str, str], training: Training, said: FamilyCalibrated
) -> Receipt:
    return Receipt(
        digest=digest,
        counts={
            "calibration_metrics": len(training.metrics),
            "invariance": len(training.invariance),
        },
        uris=uris,
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
