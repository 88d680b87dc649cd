"""``nexus status``: where iterations stand, from the ledger alone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from events.model import iteration_subject
from infra.errors import InputError
from infra.ledger import open_ledger
from infra.ports import Ledger
from infra.settings import Settings
from nexus.run import LOOK_SECONDS, ended
from nexus.summary import Document, summary


async def status(settings: Settings, iteration: int) -> Document:
    """One iteration. Raises InputError when it was never started."""
    async with _ledger(settings) as ledger:
        return await _known(iteration, ledger)


async def statuses(settings: Settings) -> list[Document]:
    """All iterations, the newest first."""
    async with _ledger(settings) as ledger:
        records = await ledger.sagas("iteration")
        found = [await summary(record.state["iteration"], ledger) for record in records]
    return [document for document in found if document is not None]


async def watch(
    settings: Settings,
    iteration: int,
    on_state: Callable[[Document], None],
    on_waiting: Callable[[], None],
) -> Document:
    """Tell of one iteration until it ends, from wherever it runs; wait for it to be started."""
    async with _ledger(settings) as ledger:
        if await summary(iteration, ledger) is None:
            on_waiting()
        while True:
            document = await summary(iteration, ledger)
            if document is not None:
                on_state(document)
                if await ended(iteration, ledger):
                    return document
            await asyncio.sleep(LOOK_SECONDS * 3)


async def gates(settings: Settings, iteration: int, family: str | None) -> list[Document]:
    """The gates of an iteration's families. Raises InputError when there is no such family."""
    families = (await status(settings, iteration))["families"]
    names = [known["family"] for known in families]
    if family is not None and family not in names:
        raise InputError(f"iteration {iteration} has no family {family!r}: use {', '.join(names)}")
    kept = ("family", "status", "gate_details", "waivers")
    return [
        {name: known[name] for name in kept}
        for known in families
        if family in {None, known["family"]}
    ]


async def _known(iteration: int, ledger: Ledger) -> Document:
    document = await summary(iteration, ledger)
    if document is None:
        raise InputError(
            f"iteration {iteration} ({iteration_subject(iteration)}) was never started: "
            f"nexus status lists those that were, nexus start {iteration} starts it"
        )
    return document


@asynccontextmanager
async def _ledger(settings: Settings) -> AsyncIterator[Ledger]:
    settings.home.mkdir(parents=True, exist_ok=True)
    ledger = open_ledger(settings.ledger)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()
