import pytest

from infra.ledger import open_ledger
from infra.objects import open_objects
from infra.settings import Settings
from tests.support.world import World


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


@pytest.fixture
async def world(settings):
    ledger = open_ledger(settings.ledger)
    await ledger.open()
    made = World(ledger)
    made.ports = made.ports_with(objects=open_objects(settings.objects))
    yield made
    await ledger.close()
