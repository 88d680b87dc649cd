"""Google's Pub/Sub emulator, where gcloud has it: the reference that ours is compared with."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

READY_SECONDS = 60


class GoogleEmulator:
    """The emulator as a child process on one port, which it keeps from start to start.

    Making one skips the test when the emulator is not installed.
    """

    def __init__(self) -> None:
        java, jar = shutil.which("java"), _jar()
        if java is None or jar is None:
            pytest.skip("Google's Pub/Sub emulator (gcloud component and java) is not installed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._command = [
            java,
            *("-cp", str(jar), "com.google.cloud.pubsub.testing.v1.Main"),
            *("--host=127.0.0.1", f"--port={port}"),
        ]
        self.target = f"127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with grpc.insecure_channel(self.target) as channel:
            grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def google_emulator() -> Iterator[str]:
    """A running emulator's address; skips the test when it is not installed."""
    emulator = GoogleEmulator()
    try:
        emulator.start()
        yield emulator.target
    finally:
        emulator.kill()


def _jar() -> Path | None:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return None
    asked = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    roots = [Path(asked.stdout.strip() or "/nowhere"), Path(gcloud).resolve().parents[1]]
    for root in roots:
        jars = root.glob("platform/pubsub-emulator/lib/cloud-pubsub-emulator-*.jar")
        if jar := next(jars, None):
            return jar
    return None
