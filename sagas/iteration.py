"""The iteration saga: asks for the shards, counts them in, asks for the fits, ends the run."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from events.catalogue import (
    FamilyFailed,
    FamilyHeld,
    FamilyPromoted,
    IterationAmended,
    IterationCompleted,
    IterationFailed,
    IterationStarted,
    ShardFailed,
    ShardMerged,
    ShardRequested,
    TrainingRequested,
)
from events.model import Event, Frozen, Parameters, iteration_subject
from sagas.engine import Decision, Saga

Phase = Literal["grading", "training", "completed", "partial", "failed"]
FamilyStatus = Literal["training", "promoted", "held", "failed"]
ENDED: frozenset[str] = frozenset({"completed", "partial", "failed"})


class IterationState(Frozen):
    """What the saga knows: which shards are in, how each family stands, why some failed."""

    iteration: int
    parameters: Parameters
    phase: Phase = "grading"
    merged: frozenset[int] = frozenset()
    failed_shards: frozenset[int] = frozenset()
    families: Mapping[str, FamilyStatus] = Field(default_factory=dict)
    failures: Mapping[str, str] = Field(default_factory=dict)
    reason: str | None = None
    started_at: datetime
    ended_at: datetime | None = None


def decide(state: IterationState | None, event: Event, now: datetime) -> Decision[IterationState]:
    """What follows from an event; what comes late, twice or unasked changes nothing."""
    if isinstance(event, IterationStarted):
        return _start(event, now) if state is None else Decision(state)
    if state is None:
        return Decision(state)
    if state.phase in ENDED:
        return _amended(state, event)
    return _graded(state, event, now) if state.phase == "grading" else _judged(state, event, now)


def _graded(state: IterationState, event: Event, now: datetime) -> Decision[IterationState]:
    """Count a shard in; one that was merged at a later try has not failed."""
    merged, failed = state.merged, state.failed_shards
    match event:
        case ShardMerged(shard_index=index) if index < state.parameters.shards:
            merged, failed = merged | {index}, failed - {index}
        case ShardFailed(shard_index=index) if index < state.parameters.shards:
            failed = (failed | {index}) - merged
    counted = state.model_copy(update={"merged": merged, "failed_shards": failed})
    return _after_shard(counted, now)


def _judged(state: IterationState, event: Event, now: datetime) -> Decision[IterationState]:
    """Note how a family stands; one that was calibrated at a later try has not failed."""
    match event:
        case FamilyPromoted(family=family) if family in state.families:
            return _after_family(_with_family(state, family, "promoted"), now)
        # A family that a waiver promoted stays so, whichever of the two events comes last.
        case FamilyHeld(family=family) if state.families.get(family, "promoted") != "promoted":
            return _after_family(_with_family(state, family, "held"), now)
        case FamilyFailed(family=family, reason=why) if state.families.get(family) == "training":
            failing = _with_family(state, family, "failed")
            failures = {**state.failures, family: why}
            return _after_family(failing.model_copy(update={"failures": failures}), now)
        case _:
            return Decision(state)


def _amended(state: IterationState, event: Event) -> Decision[IterationState]:
    """Of what comes after the end, only a held family's promotion, by a waiver, counts."""
    match event:
        case FamilyPromoted(family=family) if state.families.get(family) == "held":
            told = IterationAmended(iteration=state.iteration, family=family)
            return Decision(_with_family(state, family, "promoted"), (told,))
        case _:
            return Decision(state)


def _start(event: IterationStarted, now: datetime) -> Decision[IterationState]:
    state = IterationState(iteration=event.iteration, parameters=event.parameters, started_at=now)
    return Decision(state, tuple(_shard(event, index) for index in range(event.parameters.shards)))


def _shard(event: IterationStarted, index: int) -> ShardRequested:
    asked = event.parameters
    first, end = (asked.corpus.talks * place // asked.shards for place in (index, index + 1))
    return ShardRequested(
        iteration=event.iteration,
        shard_index=index,
        first_talk=first,
        end_talk=end,
        corpus=asked.corpus,
        families=asked.families,
        evaluator=asked.evaluator,
    )


def _after_shard(state: IterationState, now: datetime) -> Decision[IterationState]:
    if len(state.merged) + len(state.failed_shards) < state.parameters.shards:
        return Decision(state)
    if state.failed_shards:
        lost = ", ".join(str(index) for index in sorted(state.failed_shards)[:10])
        return _fail(state, f"shards failed: {lost}", now)
    families = dict.fromkeys((family.family for family in state.parameters.families), "training")
    training = state.model_copy(update={"phase": "training", "families": families})
    return Decision(training, _trainings(state))


def _trainings(state: IterationState) -> tuple[TrainingRequested, ...]:
    asked = state.parameters
    return tuple(
        TrainingRequested(
            iteration=state.iteration,
            family=family.family,
            scale=family,
            corpus=asked.corpus,
            evaluator=asked.evaluator,
            method=asked.method,
            structure=asked.structure,
            priors=asked.priors,
            sampler=asked.sampler,
            seed=asked.seed,
        )
        for family in asked.families
    )


def _with_family(state: IterationState, family: str, status: FamilyStatus) -> IterationState:
    return state.model_copy(update={"families": {**state.families, family: status}})


def _after_family(state: IterationState, now: datetime) -> Decision[IterationState]:
    statuses = state.families
    if "training" in statuses.values():
        return Decision(state)
    if all(status == "failed" for status in statuses.values()):
        why = "; ".join(f"{family}: {reason}" for family, reason in sorted(state.failures.items()))
        return _fail(state, f"no family could be calibrated: {why}", now)
    status = "partial" if "failed" in statuses.values() else "completed"
    done = IterationCompleted(
        iteration=state.iteration,
        status=status,
        promoted=_names(statuses, "promoted"),
        held=_names(statuses, "held"),
        failed=_names(statuses, "failed"),
    )
    return Decision(state.model_copy(update={"phase": status, "ended_at": now}), (done,))


def _names(statuses: Mapping[str, FamilyStatus], wanted: FamilyStatus) -> tuple[str, ...]:
    return tuple(sorted(name for name, status in statuses.items() if status == wanted))


def _fail(state: IterationState, reason: str, now: datetime) -> Decision[IterationState]:
    ended = state.model_copy(update={"phase": "failed", "ended_at": now, "reason": reason})
    return Decision(ended, (IterationFailed(iteration=state.iteration, reason=reason),))


ITERATION = Saga(
    name="iteration",
    state=IterationState,
    consumes=(
        IterationStarted,
        ShardMerged,
        ShardFailed,
        FamilyPromoted,
        FamilyHeld,
        FamilyFailed,
    ),
    emits=(
        ShardRequested,
        TrainingRequested,
        IterationCompleted,
        IterationAmended,
        IterationFailed,
    ),
    key=lambda event: iteration_subject(event.iteration),
    decide=decide,
)
