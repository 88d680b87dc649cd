import pytest

from events.catalogue import IterationStarted, ShardRequested
from infra.batch import LocalBatchService
from infra.effects import (
    CountedBatch,
    CountedObjects,
    CountedPublisher,
    CountedWarehouse,
    Effects,
)
from infra.ledger import open_ledger
from infra.mail import open_mailer
from infra.objects import open_objects
from infra.ports import Claim, ClaimKey
from infra.profiles import parameters_for
from infra.settings import Settings
from infra.warehouse import open_warehouse
from sagas.iteration import decide
from schemas.tables import TABLES
from tests.support.world import START, World


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


@pytest.fixture
async def real(settings):
    """A world on the embedded parts, and its ports with what they did counted."""
    ledger, warehouse = open_ledger(settings.ledger), open_warehouse(settings.warehouse)
    objects = open_objects(settings.objects)
    batch = LocalBatchService(settings.home / "batch", objects)
    await ledger.open()
    await warehouse.open(TABLES)
    world = World(ledger)
    world.effects = Effects()
    world.ports = world.ports_with(
        warehouse=CountedWarehouse(warehouse, world.effects),
        objects=CountedObjects(objects, world.effects),
        batch=CountedBatch(batch, world.effects),
        publisher=CountedPublisher(world.publisher, world.effects),
        mailer=open_mailer(
            settings.mail, sender=settings.mail_sender, recipients=settings.mail_recipients
        ),
        poll_seconds=0.1,
    )
    yield world
    await batch.close()
    await warehouse.close()
    await ledger.close()


@pytest.fixture
def requests():
    """The requests for the shards of a smoke run, as the saga makes them."""
    started = IterationStarted(iteration=4, parameters=parameters_for(4, "smoke", seed=3))
    commands = decide(None, started, START).commands
    assert all(isinstance(command, ShardRequested) for command in commands)
    return commands


@pytest.fixture
def claim():
    """A claim on a step of a subject; handlers are called with one."""

    def claimed(event, step, attempt=1):
        return Claim(ClaimKey(event.subject, step), attempt, attempt, "worker-1", START)

    return claimed
