import pytest

from infra.ledger import open_ledger
from tests.support.world import World


@pytest.fixture
async def world(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    await ledger.open()
    yield World(ledger)
    await ledger.close()
