"""Official clients in other languages, unmodified, where they are installed.

Each runs a program of its own beside this file, which prints a line of JSON for every check.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from embedded_pubsub import Server
from embedded_pubsub.testing import ThreadedServer

HERE = Path(__file__).parent
GO_PACKAGES = Path("/usr/share/gocode/src/cloud.google.com/go/pubsub")
NODE_CHECKS = {
    "batching", "deadLetter", "errors", "exactlyOnce", "filter", "flowControl", "iam", "lease",
    "nack", "ordering", "publish", "resources", "schema", "seek", "snapshot",
}  # fmt: skip


@pytest.fixture(scope="module")
def target():
    with ThreadedServer(Server()) as running:
        yield running.server.target


def outcomes(command, target, **environment):
    environment = {
        **os.environ,
        "PUBSUB_EMULATOR_HOST": target,
        "METADATA_SERVER_DETECTION": "none",
        **environment,
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found = [json.loads(line) for line in lines]
    assert found, done.stderr
    return {each["check"]: "passed" if each["passed"] else each["error"] for each in found}


def test_node(target):
    node = shutil.which("node")
    if node is None or not (HERE / "node" / "node_modules").exists():
        pytest.skip("@google-cloud/pubsub is not installed: npm install in tests/conformance/node")
    found = outcomes([node, str(HERE / "node" / "conformance.js")], target)
    assert found == dict.fromkeys(NODE_CHECKS, "passed")


GO_CHECKS = NODE_CHECKS - {"exactlyOnce", "filter", "schema"}  # Debian's package is older than they


def test_go(target, tmp_path):
    go = shutil.which("go")
    if go is None or not GO_PACKAGES.exists():
        pytest.skip("Go and its Pub/Sub client (golang-google-cloud-dev) are not installed")
    program = tmp_path / "conformance"
    built = subprocess.run(
        [go, "build", "-o", str(program), str(HERE / "go" / "conformance.go")],
        env={**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_PACKAGES.parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert outcomes([str(program)], target) == dict.fromkeys(GO_CHECKS, "passed")
