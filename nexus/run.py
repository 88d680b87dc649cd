"""``nexus run``: the whole system in one process until the iteration ends."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from events.model import iteration_subject
from infra.errors import NexusError
from infra.ledger import open_ledger
from infra.objects import open_objects
from infra.ports import ClaimKey, Ledger, StepStatus, Trainer, TrainingProgress
from infra.settings import Settings
from nexus.producer import Request, refuse_other_parameters, request_for, start_iteration
from nexus.summary import Document, summary
from sagas.iteration import ENDED

LOOK_SECONDS = 0.1
_OVER = frozenset({StepStatus.COMPLETED, StepStatus.FAILED})


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told how the run goes on."""

    on_state: Callable[[Document], None]
    on_training: Callable[[TrainingProgress], None]


async def run(
    settings: Settings,
    request: Request,
    watcher: Watcher,
    *,
    trainer: Trainer | None = None,
) -> Document:
    """Run an iteration to its end, or tell what came of it before.

    Raises:
        ParametersError: The iteration exists with other parameters.
    """
    known = await ended_before(settings, request)
    if known is not None:
        return known
    from nexus.app import connected, consuming  # noqa: PLC0415 - loads the whole system

    async with connected(settings, on_training=watcher.on_training, trainer=trainer) as system:
        async with consuming(system):
            await start_iteration(request, system.ports)
            await _until_ended(request.iteration, system.ports.ledger, watcher)
        document = await summary(request.iteration, system.ports.ledger, effects=system.effects)
    if document is None:
        raise NexusError(f"iteration {request.iteration} has left nothing in the ledger")
    return document


async def ended_before(settings: Settings, request: Request) -> Document | None:
    """What came of the iteration, if it has ended; the bus and the warehouse stay closed."""
    ledger = open_ledger(settings.ledger)
    settings.home.mkdir(parents=True, exist_ok=True)
    await ledger.open()
    try:
        start = await ledger.step(ClaimKey(iteration_subject(request.iteration), "start"))
        if start is None or start.receipt is None:
            return None
        refuse_other_parameters(request, start.receipt)
        if not await ended(request.iteration, ledger):
            return None
        return await summary(request.iteration, ledger, replayed=True)
    finally:
        await ledger.close()


async def ended(iteration: int, ledger: Ledger) -> bool:
    """Whether nothing more will come: report drawn, and the operators told if it failed."""
    subject = iteration_subject(iteration)
    record = await ledger.saga("iteration", subject)
    if record is None or record.state["phase"] not in ENDED:
        return False
    last = ("reports", "audit") if record.state["phase"] == "failed" else ("reports",)
    steps = [await ledger.step(ClaimKey(subject, step)) for step in last]
    return all(step is not None and step.status in _OVER for step in steps)


async def _until_ended(iteration: int, ledger: Ledger, watcher: Watcher) -> None:
    while True:
        over = await ended(iteration, ledger)
        state = await summary(iteration, ledger)
        if state is not None:
            watcher.on_state(state)
        if over:
            return
        await asyncio.sleep(LOOK_SECONDS)


def checked_request(settings: Settings, iteration: int, profile: str, **wanted: Any) -> Request:  # noqa: ANN401 - request_for's own
    """The request, checked before anything is opened."""
    return request_for(iteration, profile, open_objects(settings.objects), **wanted)
