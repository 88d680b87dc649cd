"""The same run on other parts: Google's emulator, PostgreSQL, BigQuery's API."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.support.postgres import postgres_server
from tests.support.programs import ROOT, Running, clean_environment

RUN = ("run", "--method", "mml", "--json")


def assert_whole(document):
    assert document["status"] == "completed"
    assert document["shards"] == {"requested": 6, "merged": 6, "failed": 0}
    assert document["rows_merged"] == 3_600
    assert document["families"][0]["calibration_metrics_rows"] == 6
    assert document["families"][0]["invariance_rows"] == 3


def test_the_run_passes_on_googles_emulator(nexus, google_target, project):
    there = {"PUBSUB_EMULATOR_HOST": google_target, "GOOGLE_CLOUD_PROJECT": project}
    assert_whole(nexus.run(*RUN, **there).succeeded().document)
    assert not (nexus.home / "pubsub").exists()
    again = nexus.run(*RUN, **there).succeeded().document
    assert again["replayed"] is True
    assert set(again["effects"].values()) == {0}


@pytest.fixture
def postgres_url():
    with postgres_server() as url:
        yield url


def test_the_run_passes_with_the_ledger_in_postgresql(new_nexus, postgres_url):
    nexus = new_nexus(NEXUS_LEDGER=postgres_url)
    document = nexus.run(*RUN).succeeded().document
    assert_whole(document)
    assert not (nexus.home / "ledger.sqlite").exists()
    of_the_iteration = ("start", "network", "reports")
    of_the_family = ("training", "promotion")
    assert len(nexus.steps()) == 6 * 3 + len(of_the_family) + len(of_the_iteration)
    again = nexus.run(*RUN).succeeded().document
    assert again["replayed"] is True
    assert again["receipts"] == document["receipts"]


@pytest.fixture
def bigquery(tmp_path):
    """BigQuery's API in a process of its own."""
    script = Path(ROOT) / "tests" / "support" / "bqemulator_server.py"
    running = Running([sys.executable, str(script)], clean_environment(), tmp_path / "bq.stderr")
    yield json.loads(running.line())["rest"]
    running.close()


def test_the_run_passes_with_the_warehouse_in_bigquery(new_nexus, bigquery):
    dataset = f"calibration_{uuid.uuid4().hex[:8]}"
    nexus = new_nexus(
        NEXUS_WAREHOUSE=f"bigquery://nexus-test/{dataset}?location=EU",
        BIGQUERY_EMULATOR_HOST=bigquery,
    )
    assert_whole(nexus.run(*RUN, seconds=240).succeeded().document)
    assert not (nexus.home / "warehouse.duckdb").exists()
    assert stored(bigquery, f"`nexus-test.{dataset}.grades`") == "[(3600, 6)]"


ASK = """
import sys
from google.auth.credentials import AnonymousCredentials
from google.cloud.bigquery import Client
there = {"api_endpoint": f"http://{sys.argv[1]}"}
client = Client("nexus-test", AnonymousCredentials(), client_options=there)
sql = f"SELECT count(*), count(DISTINCT shard_index) FROM {sys.argv[2]}"
print([tuple(row.values()) for row in client.query(sql).result()])
"""


def stored(server, table):
    """Rows and shards, asked in a process of its own: the client warns and keeps sockets open."""
    ask = [sys.executable, "-c", ASK, server, table]
    told = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()
