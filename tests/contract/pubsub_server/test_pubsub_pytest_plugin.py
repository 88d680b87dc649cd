"""The pytest plugin, in a pytest of its own."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from embedded_pubsub import Server
from embedded_pubsub.testing import ThreadedServer

ROOT = Path(__file__).parents[3]
README = ROOT / "embedded_pubsub" / "testing" / "README.md"

TESTS = """
import os
import pytest
from google.cloud.pubsub_v1 import PublisherClient

SEEN = set()

@pytest.mark.parametrize("n", range(3))
def test_project_is_empty_and_its_own(pubsub_server, embedded_pubsub_server, n):
    publisher = PublisherClient()
    assert os.environ["PUBSUB_EMULATOR_HOST"] == pubsub_server.target
    assert os.environ["GOOGLE_CLOUD_PROJECT"] == pubsub_server.project
    project = f"projects/{pubsub_server.project}"
    assert list(publisher.list_topics(project=project)) == []
    assert all(list(publisher.list_topics(project=other)) == [] for other in SEEN)
    publisher.create_topic(name=pubsub_server.topic("topic"))
    assert [t.name for t in publisher.list_topics(project=project)] == [f"{project}/topics/topic"]
    assert project not in SEEN
    SEEN.add(project)
    publisher.transport.close()
"""


def pytest_in(folder):
    command = [sys.executable, "-m", "pytest", "-q", "-c", "pytest.ini", "--rootdir", "."]
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    (folder / "conftest.py").write_text('pytest_plugins = ["embedded_pubsub.testing.plugin"]\n')
    return subprocess.run(
        [*command, "-p", "no:bqemulator"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_every_test_has_a_project_of_its_own(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    done = pytest_in(tmp_path)
    assert "3 passed" in done.stdout, done.stdout


def test_example_of_the_readme_passes(tmp_path):
    example = next(part for part in README.read_text().split("```python\n") if "def test" in part)
    (tmp_path / "test_it.py").write_text(example.partition("```")[0])
    done = pytest_in(tmp_path)
    assert "1 passed" in done.stdout, done.stdout


def test_threaded_server_that_cant_start_says_why():
    with ThreadedServer(Server()) as running:
        port = int(running.server.target.rpartition(":")[2])
        with pytest.raises(OSError, match="can't listen"), ThreadedServer(Server(port=port)):
            pass


def test_clear_needs_a_running_server():
    with pytest.raises(RuntimeError, match="not running"):
        asyncio.run(Server().clear("p"))
