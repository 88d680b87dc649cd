import importlib.util
import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from infra.warehouse import open_warehouse

SERVER = Path(__file__).parents[2] / "support" / "bqemulator_server.py"


@pytest.fixture(scope="session")
def bigquery_host():
    """A BigQuery emulator in a process of its own."""
    if importlib.util.find_spec("bqemulator") is None:
        pytest.skip("bqemulator is not installed: BigQuery's adapter is not tested")
    process = subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())["rest"]
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(params=["duckdb", "bigquery"])
def url(request, tmp_path, monkeypatch):
    match request.param:
        case "duckdb":
            return f"duckdb://{tmp_path}/warehouse.duckdb"
        case "bigquery":
            monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", request.getfixturevalue("bigquery_host"))
            return f"bigquery://nexus-test/contract_{uuid.uuid4().hex}?location=EU"


@pytest.fixture
async def connect(url):
    """Open warehouses on the same data, as separate workers do."""
    opened = []

    def build():
        opened.append(open_warehouse(url))
        return opened[-1]

    yield build
    for warehouse in opened:
        await warehouse.close()


@pytest.fixture
def warehouse(connect):
    return connect()
