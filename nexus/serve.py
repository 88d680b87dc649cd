"""The commands that run a part of the system, or look into it."""

import asyncio
from collections.abc import Callable
from typing import Any

from faststream_pubsub import PubSubBroker
from handlers.reports import draw, report_data
from infra.bus import subscription_name
from infra.dead_letters import peek
from infra.errors import InputError
from infra.pubsub import bus_address
from infra.settings import Settings
from nexus.app import HANDLERS, SAGAS, STEPS, connected, consuming
from nexus.producer import Request, start_iteration


async def start_only(settings: Settings, request: Request) -> bool:
    """Start an iteration and consume nothing; whether it is new."""
    async with connected(settings) as system:
        return await start_iteration(request, system.ports)


async def serve(
    settings: Settings, only: tuple[str, ...], ready: Callable[[tuple[str, ...], str], None]
) -> None:
    """Consume with the named handlers, or all, until cancelled."""
    handlers = only or HANDLERS
    async with connected(settings) as system, consuming(system, handlers):
        ready(handlers, system.bus.emulator_host or "pubsub.googleapis.com")
        await asyncio.Event().wait()


async def draw_report(settings: Settings, iteration: int) -> str:
    """Draw the report anew; its URI. Raises InputError when there is no such iteration."""
    async with connected(settings) as system:
        data = await report_data(iteration, system.ports)
        if data is None:
            raise InputError(f"iteration {iteration} was never started: see nexus status")
        uri, _ = await draw(data, system.ports)
        return uri


async def dead_letters(settings: Settings, limit: int) -> list[dict[str, Any]]:
    """The dead letters of every subscription of the flow, as JSON."""
    async with bus_address(settings) as bus:
        broker = PubSubBroker(bus.project, emulator_host=bus.emulator_host, logger=None)
        await broker.connect()
        try:
            letters = await peek(broker, _subscriptions(settings.topic_prefix), limit=limit)
        finally:
            await broker.stop()
    return [
        {
            "subscription": letter.subscription,
            "message_id": letter.message_id,
            "reason": letter.reason,
            "publish_time": letter.publish_time.isoformat(),
            "attributes": dict(letter.attributes),
            "data": letter.data.decode(errors="replace"),
        }
        for letter in letters
    ]


def _subscriptions(prefix: str) -> list[str]:
    arrows = [(step.handler, consumed) for step in STEPS for consumed in step.consumes]
    arrows += [(saga.name, consumed) for saga in SAGAS for consumed in saga.consumes]
    return [subscription_name(prefix, handler, consumed.topic()) for handler, consumed in arrows]
