"""`nexus emulator`: the server alone, as the command line starts it."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.support.programs import ROOT, Running, clean_environment

COMMAND = [sys.executable, "-m", "nexus", "emulator"]


@pytest.fixture
def emulator(tmp_path):
    command = [*COMMAND, "--port", "0", "--rest-port", "0", "--in-memory"]
    running = Running(command, clean_environment(), tmp_path / "stderr")
    yield running
    running.close()


def test_rest_is_served_where_it_is_asked_for(emulator):
    addresses = json.loads(emulator.line())
    assert addresses["grpc"] != addresses["rest"]
    url = f"http://{addresses['rest']}/v1/projects/p/topics/topic"
    with urllib.request.urlopen(urllib.request.Request(url, b"{}", method="PUT"), timeout=30):
        pass
    with urllib.request.urlopen(f"http://{addresses['rest']}/", timeout=30) as page:
        assert "projects/p/topics/topic" in page.read().decode()
    emulator.process.send_signal(signal.SIGTERM)
    assert emulator.process.wait(30) in {0, 130, 143}
    assert emulator.err == ""


def test_other_than_loopback_needs_a_flag():
    done = subprocess.run(
        [*COMMAND, "--host", "0.0.0.0", "--port", "0"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "--allow-remote" in done.stderr


def test_loads_the_server_and_nothing_of_the_flow():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:], "--host", "0.0.0.0", "--port", "0"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "embedded_pubsub.server" in loaded
    assert not loaded & {"google.pubsub_v1.services.publisher", "faststream", "nexus.app"}


def test_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--port", str(port)],
            cwd=ROOT,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert str(port) in line
    assert "Address already in use" in line
