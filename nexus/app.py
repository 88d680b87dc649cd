"""The whole flow on one screen, and how it is put together.

IterationStarted -> [iteration] -> ShardRequested -> (shards) -> ShardSubmitted -> (batches)
-> BatchCompleted -> (merge) -> ShardMerged -> [iteration] -> TrainingRequested -> (training)
-> FamilyCalibrated -> (promotion) -> FamilyPromoted | FamilyHeld -> [iteration]
-> IterationCompleted -> (network) -> NetworkEnded -> (reports)
   | IterationFailed -> (reports), (audit);  audit-logs -> (audit) -> e-mail
GateWaived -> (waivers) -> FamilyPromoted -> [iteration] -> IterationAmended -> (reports)
"""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from events.audit import AuditLogEntry, decode_log_entry
from events.cloudevents import Envelope, decode
from faststream_pubsub import PubSubBroker, PubSubError
from handlers.audit import AUDIT
from handlers.batches import BATCHES
from handlers.merge import MERGE
from handlers.network import NETWORK
from handlers.promotion import PROMOTION
from handlers.reports import REPORTS
from handlers.shards import SHARDS
from handlers.training import TRAINING
from handlers.waivers import WAIVING
from infra.batch import LocalBatchService
from infra.bus import BusPublisher, subscribe
from infra.clock import utc_now
from infra.effects import (
    CountedBatch,
    CountedObjects,
    CountedPublisher,
    CountedWarehouse,
    Effects,
)
from infra.errors import InputError, ServiceUnavailableError
from infra.ledger import open_ledger
from infra.mail import open_mailer
from infra.objects import open_objects
from infra.once import run_once
from infra.outbox import relay, stop
from infra.ports import Ports, Retrying, Trainer, TrainingProgress
from infra.pubsub import BusAddress, bus_address
from infra.settings import Settings
from infra.trainer import ProcessTrainer
from infra.warehouse import open_warehouse
from sagas.engine import run_saga
from sagas.iteration import ITERATION
from schemas.tables import TABLES

STEPS = (SHARDS, BATCHES, MERGE, TRAINING, PROMOTION, WAIVING, NETWORK, REPORTS, AUDIT)
SAGAS = (ITERATION,)
HANDLERS = tuple(step.handler for step in STEPS) + tuple(saga.name for saga in SAGAS)

SAGA_WORKERS = 8
STOP_SECONDS = 3.0
"""How long what is under way may take to end at a stop; what takes longer is handed back."""


@dataclass(frozen=True, slots=True)
class System:
    """A process's share of the system, connected to its parts."""

    settings: Settings
    ports: Ports
    broker: PubSubBroker
    effects: Effects
    bus: BusAddress


@asynccontextmanager
async def connected(
    settings: Settings,
    *,
    on_training: Callable[[TrainingProgress], None] | None = None,
    trainer: Trainer | None = None,
    adapt: Callable[[Ports], Ports] = lambda ports: ports,
) -> AsyncIterator[System]:
    """Every part open and every topic and subscription there; nothing is consumed yet."""
    settings.home.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(bus_address(settings))
        broker = _broker(bus)
        effects = Effects()
        ports = adapt(await _ports(settings, broker, effects, trainer, stack, on_training))
        declared = _broker(bus)
        _subscribe_all(declared, ports, settings, HANDLERS)
        await _set_up(declared, bus)
        await broker.connect()
        stack.push_async_callback(broker.stop)
        yield System(settings, ports, broker, effects, bus)


async def _set_up(declared: PubSubBroker, bus: BusAddress) -> None:
    try:
        await declared.setup()
    except PubSubError as error:
        where = bus.emulator_host or "Cloud Pub/Sub"
        raise ServiceUnavailableError(f"the bus at {where} can't be set up: {error}") from error
    finally:
        await declared.stop()


@asynccontextmanager
async def consuming(system: System, only: Collection[str] = HANDLERS) -> AsyncIterator[None]:
    """Consume with the named handlers, and relay what is due, while the context lasts.

    Raises:
        InputError: A name is no handler.
    """
    unknown = sorted(set(only) - set(HANDLERS))
    if unknown:
        raise InputError(f"handler {unknown[0]!r} is unknown: use {', '.join(HANDLERS)}")
    consumer = _broker(system.bus)
    _subscribe_all(consumer, system.ports, system.settings, only)
    relaying = asyncio.create_task(relay(system.ports))
    try:
        await consumer.start()
        yield
    finally:
        await consumer.stop()
        await stop(relaying)


def _broker(bus: BusAddress) -> PubSubBroker:
    return PubSubBroker(
        bus.project, emulator_host=bus.emulator_host, graceful_timeout=STOP_SECONDS, logger=None
    )


def _subscribe_all(
    broker: PubSubBroker, ports: Ports, settings: Settings, only: Collection[str]
) -> None:
    common = partial(subscribe, broker, prefix=settings.topic_prefix)
    for step in STEPS:
        if step.handler in only:
            for consumed in step.consumes:
                common(
                    handler=step.handler,
                    topic=consumed.topic(),
                    decode=_decoder(consumed),
                    handle=partial(run_once, step, ports=ports),
                    workers=step.workers,
                    max_lease_seconds=step.max_lease_seconds,
                )
    for saga in SAGAS:
        if saga.name in only:
            for event in saga.consumes:
                common(
                    handler=saga.name,
                    topic=event.topic(),
                    decode=_decoder(event),
                    handle=partial(run_saga, saga, ports=ports),
                    workers=SAGA_WORKERS,
                    max_lease_seconds=600.0,
                )


def _decoder(consumed: type[Any]) -> Callable[[bytes, Mapping[str, str]], Envelope[Any]]:
    if consumed is AuditLogEntry:
        return decode_log_entry
    return partial(decode, expected=consumed)


async def _ports(
    settings: Settings,
    broker: PubSubBroker,
    effects: Effects,
    trainer: Trainer | None,
    stack: AsyncExitStack,
    on_training: Callable[[TrainingProgress], None] | None,
) -> Ports:
    ledger = open_ledger(settings.ledger)
    await ledger.open()
    stack.push_async_callback(ledger.close)
    warehouse = open_warehouse(settings.warehouse)
    await warehouse.open(TABLES)
    stack.push_async_callback(warehouse.close)
    objects = CountedObjects(open_objects(settings.objects), effects)
    batch = LocalBatchService(
        settings.home / "batch", objects, seconds_per_job=settings.batch_seconds
    )
    stack.push_async_callback(batch.close)
    fitting = trainer or ProcessTrainer(settings.home / "cache" / "jax")
    stack.push_async_callback(fitting.close)
    return Ports(
        ledger=ledger,
        warehouse=CountedWarehouse(warehouse, effects),
        objects=objects,
        batch=CountedBatch(batch, effects),
        trainer=fitting,
        mailer=open_mailer(
            settings.mail, sender=settings.mail_sender, recipients=settings.mail_recipients
        ),
        publisher=CountedPublisher(BusPublisher(broker, settings.topic_prefix), effects),
        clock=utc_now,
        sleep=asyncio.sleep,
        random=random.Random(),  # noqa: S311 - jitter, not secrets
        owner=f"{socket.gethostname()}/{os.getpid()}",
        retrying=Retrying(tries=settings.tries, lease_seconds=settings.claim_lease_seconds),
        poll_seconds=settings.poll_seconds,
        on_training=on_training,
    )
