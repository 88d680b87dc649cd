"""``NetworkEnded``, ``IterationAmended``, ``IterationFailed`` -> draws the run's report."""

import asyncio
import io
import json
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.catalogue import IterationAmended, IterationFailed, NetworkEnded
from events.model import (
    Family,
    FitFigures,
    GateVerdict,
    Parameters,
    ResponsesEvaluator,
    SimulatorEvaluator,
    family_subject,
    iteration_subject,
    namespace_of,
)
from handlers.digests import sha256, short
from infra.once import Step
from infra.outcome import Ack, Outcome, Retry
from infra.personas import truth_of
from infra.ports import Claim, ClaimKey, Ports, Receipt, StepStatus
from infra.profiles import PROFILES
from infra.report.data import FamilyReport, ReportData, ShardCounts
from infra.telemetry import trace_id
from infra.waivers import waivers_of
from schemas.tables import INVARIANCE, SCORES, TRAIT_SCORES


async def write_report(
    event: NetworkEnded | IterationAmended | IterationFailed,
    claim: Claim,  # noqa: ARG001 - every handler is called alike
    ports: Ports,
) -> Outcome:
    """Draw the report and keep it."""
    data = await report_data(event.iteration, ports)
    if data is None:
        return Retry(f"iteration {event.iteration} has no saga in the ledger yet")
    uri, digest = await draw(data, ports)
    return Ack(Receipt(digest=digest, uris={"report": uri}))


async def draw(data: ReportData, ports: Ports) -> tuple[str, str]:
    """Render and store; the report's URI and digest."""
    from infra.report.render import render  # noqa: PLC0415 - loads matplotlib

    page = await asyncio.to_thread(render, data)
    digest = sha256(page)
    key = f"{iteration_subject(data.iteration)}/report/{short(digest)}/report.html"
    return (await ports.objects.put_once(key, page)).uri, digest


async def report_data(iteration: int, ports: Ports) -> ReportData | None:
    """All that the ledger, the warehouse and the objects know of an iteration."""
    subject = iteration_subject(iteration)
    record = await ports.ledger.saga("iteration", subject)
    if record is None:
        return None
    state: Mapping[str, Any] = record.state
    parameters = Parameters.model_validate(state["parameters"])
    steps = await ports.ledger.steps(subject)
    merged = [step for step in steps if step.key.step == "merge" and step.receipt]
    families = [
        await _family(iteration, family, state, parameters, ports) for family in parameters.families
    ]
    return ReportData(
        iteration=iteration,
        status=state["phase"] if state["phase"] in {"completed", "partial"} else "failed",
        parameters=parameters,
        families=tuple(families),
        timeline=steps,
        command=command_of(iteration, parameters),
        reason=state["reason"],
        shards=ShardCounts(
            requested=parameters.shards,
            merged=len(state["merged"]),
            failed=len(state["failed_shards"]),
        ),
        rows_merged=sum(step.receipt.counts["rows"] for step in merged if step.receipt),
        trace_id=trace_id(steps[0].cause.traceparent) if steps else None,
        versions=_versions(families),
        network=await _network(subject, ports),
    )


def command_of(iteration: int, parameters: Parameters) -> str:
    """The command line that starts the same run; the files are those of the data's digest."""
    command = f"nexus run --iteration {iteration} --profile {parameters.profile}"
    if parameters.method != "nuts":
        command += f" --method {parameters.method}"
    profile = PROFILES.get(parameters.profile)
    if profile is None or parameters.structure != profile.structure:
        command += f" --structure {parameters.structure}"
    if profile is None or parameters.priors != profile.priors:
        command += f" --priors {parameters.priors}"
    command += f" --seed {parameters.seed}"
    match parameters.evaluator:
        case SimulatorEvaluator():
            return command
        case ResponsesEvaluator(groups=str(column)):
            column = shlex.quote(column)
            return f"{command} --responses FILE.csv --scales FILE.toml --groups {column}"
        case _:
            return f"{command} --responses FILE.csv --scales FILE.toml"


async def _family(
    iteration: int,
    family: Family,
    state: Mapping[str, Any],
    parameters: Parameters,
    ports: Ports,
) -> FamilyReport:
    name, subject = family.family, family_subject(iteration, family.family)
    training = await ports.ledger.step(ClaimKey(subject, "training"))
    promotion = await ports.ledger.step(ClaimKey(subject, "promotion"))
    status = state["families"].get(name, "failed")
    reason = promotion.receipt.details["reason"] if promotion and promotion.receipt else None
    if training is None or training.status is not StepStatus.COMPLETED or not training.receipt:
        why = training.reason if training else "it was never trained"
        return FamilyReport(family=name, status="failed", reason=why)
    kept = training.receipt
    draws = await _draws(kept.uris.get("draws"), ports)
    return FamilyReport(
        family=name,
        status=status if status in {"promoted", "held"} else "failed",
        reason=reason if status == "held" else None,
        grm=json.loads(await ports.objects.get(kept.uris["grm"])),
        figures=FitFigures.model_validate(kept.details["figures"]),
        gates=tuple(GateVerdict.model_validate(gate) for gate in kept.details["gates"]),
        invariance=await _invariance(iteration, name, ports),
        discrimination=draws.get("discrimination"),
        thresholds=draws.get("thresholds"),
        correlation=draws.get("correlation"),
        truth=_truth(family, parameters),
        true_correlations=_true_correlations(family, parameters),
        checks=await _checks(kept.uris.get("checks"), ports),
        scores=await _scores(iteration, name, ports),
        trait_scores=await _trait_scores(iteration, family, parameters, ports),
        waivers=tuple(waivers_of(await ports.ledger.steps(subject))),
    )


async def _draws(uri: str | None, ports: Ports) -> Mapping[str, Any]:
    if uri is None:
        return {}
    with np.load(io.BytesIO(await ports.objects.get(uri))) as arrays:
        return dict(arrays)


async def _checks(uri: str | None, ports: Ports) -> Mapping[str, Any] | None:
    """What the gates looked at; fits of before it was kept have none."""
    if uri is None:
        return None
    found: Mapping[str, Any] = json.loads(await ports.objects.get(uri))
    return found


async def _invariance(iteration: int, family: str, ports: Ports) -> tuple[Mapping[str, Any], ...]:
    where = {"namespace": namespace_of(iteration), "iteration": iteration, "family": family}
    rows = (await ports.warehouse.read(INVARIANCE, where=where)).to_pylist()
    levels = ("configural", "metric", "scalar")
    return tuple(sorted(rows, key=lambda row: levels.index(row["level"])))


async def _scores(
    iteration: int, family: str, ports: Ports
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Means and sds; fits of before they were kept have none."""
    where = {"namespace": namespace_of(iteration), "iteration": iteration, "family": family}
    rows = await ports.warehouse.read(SCORES, where=where, columns=("mean", "sd"))
    if rows.num_rows == 0:
        return None
    return rows["mean"].to_numpy(), rows["sd"].to_numpy()


async def _trait_scores(
    iteration: int, family: Family, parameters: Parameters, ports: Ports
) -> Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Means and sds by trait; nothing where there is one."""
    if parameters.structure == "unidimensional":
        return {}
    where = {
        "namespace": namespace_of(iteration),
        "iteration": iteration,
        "family": family.family,
    }
    rows = await ports.warehouse.read(TRAIT_SCORES, where=where)
    traits = rows["trait"].to_numpy(zero_copy_only=False)
    mean, sd = rows["mean"].to_numpy(), rows["sd"].to_numpy()
    return {
        trait: (mean[traits == trait], sd[traits == trait])
        for trait in dict.fromkeys(family.trait_of_item.values())
    }


async def _network(subject: str, ports: Ports) -> Mapping[str, Any] | str | None:
    """The network over the families, or why there is none; None where it was not looked for."""
    step = await ports.ledger.step(ClaimKey(subject, "network"))
    if step is None or step.receipt is None:
        return step.reason if step else None
    if "network" not in step.receipt.uris:
        return str(step.receipt.details["reason"])
    found: Mapping[str, Any] = json.loads(await ports.objects.get(step.receipt.uris["network"]))
    return found


def _truth(
    family: Family, parameters: Parameters
) -> dict[str, tuple[float, tuple[float, ...]]] | None:
    evaluator = parameters.evaluator
    if not isinstance(evaluator, SimulatorEvaluator):
        return None
    truth = truth_of(evaluator, parameters.corpus.personas, family.items)
    return {
        item: (float(a), tuple(float(cut) for cut in cuts))
        for item, a, cuts in zip(family.items, truth.discrimination, truth.thresholds, strict=True)
    }


def _true_correlations(family: Family, parameters: Parameters) -> Mapping[tuple[str, str], float]:
    """Of the simulator's constructs, each with a trait of its own."""
    evaluator = parameters.evaluator
    if not isinstance(evaluator, SimulatorEvaluator) or family.traits:
        return {}
    truth = truth_of(evaluator, parameters.corpus.personas, family.items)
    root = np.sqrt(truth.common_share)
    return {
        (first, second): float(root[i] * root[j])
        for i, first in enumerate(family.items)
        for j, second in enumerate(family.items)
    }


def _versions(families: list[FamilyReport]) -> Mapping[str, str]:
    fitted = next((family.grm for family in families if family.grm), None)
    return fitted["diagnostics"]["versions"] if fitted else {}


REPORTS = Step(
    handler="reports",
    consumes=(NetworkEnded, IterationAmended, IterationFailed),
    emits=(),
    run=write_report,
    workers=1,
)
