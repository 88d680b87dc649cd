"""Official clients in other languages, unmodified, where they are installed.

Each runs a program of its own beside this file, which prints a line of JSON for every check.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

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
def server():
    with ThreadedServer(Server(rest_port=0)) as running:
        yield running.server


def outcomes(command, server):
    environment = {
        **os.environ,
        "PUBSUB_EMULATOR_HOST": server.target,
        "PUBSUB_REST_HOST": server.rest_target,
        "METADATA_SERVER_DETECTION": "none",
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found = [json.loads(line) for line in lines]
    assert found, done.stderr
    return {each["check"]: "passed" if each["passed"] else each["error"] for each in found}


def test_node(server):
    node = shutil.which("node")
    if node is None or not (HERE / "node" / "node_modules").exists():
        pytest.skip("@google-cloud/pubsub is not installed: npm install in tests/conformance/node")
    found = outcomes([node, str(HERE / "node" / "conformance.js")], server)
    assert found == dict.fromkeys(NODE_CHECKS, "passed")


GO_CHECKS = NODE_CHECKS - {"exactlyOnce", "filter", "schema"}  # Debian's package is older than they


def test_go(server, tmp_path):
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
    assert outcomes([str(program)], server) == dict.fromkeys(GO_CHECKS, "passed")


JAVA_CHECKS = NODE_CHECKS | {"compression", "rest"}
JAVA_JARS = HERE / "java" / "lib"


def test_java(server, tmp_path):
    java, javac = shutil.which("java"), shutil.which("javac")
    if java is None or javac is None or not JAVA_JARS.exists():
        pytest.skip(
            "google-cloud-pubsub is not installed: it wants a JDK, and the jars of the client and "
            "of all that it needs in tests/conformance/java/lib"
        )
    classpath = os.pathsep.join(sorted(map(str, JAVA_JARS.glob("*.jar"))))
    source = str(HERE / "java" / "Conformance.java")
    built = subprocess.run(
        [javac, "-cp", classpath, "-d", str(tmp_path), source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    command = [java, "-cp", f"{tmp_path}{os.pathsep}{classpath}", "Conformance"]
    assert outcomes(command, server) == dict.fromkeys(JAVA_CHECKS, "passed")


CPP_CHECKS = NODE_CHECKS - {"exactlyOnce", "iam"}  # not to be had through version 1's clients
CPP_PACKAGE = "google_cloud_cpp_pubsub"


def test_cpp(server, tmp_path):
    compiler, pkg_config = shutil.which("g++"), shutil.which("pkg-config")
    if compiler is None or pkg_config is None or not _flags(pkg_config, "--exists").ok:
        pytest.skip(f"google-cloud-cpp is not installed: g++, pkg-config and {CPP_PACKAGE}")
    program = tmp_path / "conformance"
    source = str(HERE / "cpp" / "conformance.cc")
    flags = [_flags(pkg_config, wanted).words for wanted in ("--cflags", "--libs")]
    built = subprocess.run(
        [compiler, "-std=c++17", *flags[0], source, "-o", str(program), *flags[1], "-pthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert outcomes([str(program)], server) == dict.fromkeys(CPP_CHECKS, "passed")


class Flags(NamedTuple):
    ok: bool
    words: list[str]


def _flags(pkg_config, wanted):
    command = [pkg_config, wanted, CPP_PACKAGE]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return Flags(asked.returncode == 0, asked.stdout.split())
