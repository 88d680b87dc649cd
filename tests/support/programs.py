"""The real program in processes of its own: what flow and chaos tests run and look into."""

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

import nexus as front_door
from infra.ledger import open_ledger
from infra.ports import StepRecord
from tests.support.google_emulator import google_emulator

ROOT = Path(front_door.__file__).parents[1]
PATIENCE_SECONDS = 60.0
"""Ends a hang; no test passes or fails by it on a machine that works."""

OWN = re.compile(r"^(NEXUS|PUBSUB|BIGQUERY|OTEL|GOOGLE|JAX|SMTP)_")
"""Environment that would point the program elsewhere."""


def clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not OWN.match(name)}
    return {**kept, "COLUMNS": "200"}


@dataclass(frozen=True)
class Ended:
    """What a process said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its stdout, which must be exactly one JSON document."""
        return json.loads(self.out)

    def succeeded(self) -> "Ended":
        assert self.code == 0, f"exit {self.code}\n{self.out}\n{self.err}"
        return self


class Running:
    """A program under way, in a process group of its own; its stderr goes to a file."""

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,  # a buffered line would hide from select
                start_new_session=True,
            )

    @property
    def err(self) -> str:
        return self._log.read_text()

    def line(self) -> str:
        """The next line of stdout, waited for."""
        stdout = self.process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], PATIENCE_SECONDS)
        said = stdout.readline().decode() if ready else ""
        assert said, f"it said nothing; exit {self.process.poll()}\n{self.err}"
        return said

    def ready_document(self) -> Any:
        """The first JSON document on stdout, over as many lines as it takes."""
        said = ""
        while True:
            said += self.line()
            with contextlib.suppress(json.JSONDecodeError):
                return json.loads(said)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the whole group with no chance to put things away."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ended(self, seconds: float = PATIENCE_SECONDS) -> Ended:
        try:
            out, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end after {seconds} s\n{self.err}") from None
        return Ended(self.process.returncode, out.decode(), self.err)

    def close(self) -> None:
        self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()


@dataclass
class Nexus:
    """The ``nexus`` command on one home."""

    home: Path
    env: dict[str, str] = field(default_factory=clean_environment)
    _started: list[Running] = field(default_factory=list)

    def start(self, *arguments: str, **env: str) -> Running:
        log = self.home.parent / f"{uuid.uuid4().hex[:8]}.stderr"
        command = [sys.executable, "-m", "nexus", "--home", str(self.home), *arguments]
        running = Running(command, self.env | env, log)
        self._started.append(running)
        return running

    def run(self, *arguments: str, seconds: float = PATIENCE_SECONDS, **env: str) -> Ended:
        running = self.start(*arguments, **env)
        try:
            return running.ended(seconds)
        finally:
            running.close()

    def close(self) -> None:
        for running in self._started:
            running.close()

    def steps(self, subject: str = "smoke/0") -> dict[str, StepRecord]:
        """The ledger's steps by ``subject/step``; none where there is no ledger yet."""
        url = self.env.get("NEXUS_LEDGER", f"sqlite:///{self.home / 'ledger.sqlite'}")
        if url.startswith("sqlite") and not (self.home / "ledger.sqlite").exists():
            return {}
        return asyncio.run(_steps(url, subject))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the home's warehouse answers; nothing else may have it open."""
        with duckdb.connect(str(self.home / "warehouse.duckdb"), read_only=True) as connection:
            return connection.sql(sql).fetchall()

    def files(self) -> dict[str, bytes]:
        """Everything in the home, byte for byte."""
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in sorted(self.home.rglob("*"))
            if path.is_file()
        }


async def _steps(url: str, subject: str) -> dict[str, StepRecord]:
    ledger = open_ledger(url)
    await ledger.open()
    try:
        return {str(step.key): step for step in await ledger.steps(subject)}
    finally:
        await ledger.close()


def until(condition, what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Look again and again until the condition gives something; that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return found


def children_of_training(home: Path) -> list[int]:
    """Process ids of the training processes that serve this home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            ended = (folder / "stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
            if "infra.trainer.child" in command and str(home) in command and not ended:
                found.append(int(folder.name))
    return found


# --- fixtures, taken into the conftest of each folder that runs the program ---------------------


@pytest.fixture(scope="session")
def compiled_programs(tmp_path_factory) -> Path:
    """JAX's compiled programs, shared by every home of the session."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def new_nexus(tmp_path_factory, compiled_programs) -> Iterator[Any]:
    """Makes the command on a fresh home."""
    made: list[Nexus] = []

    def make(**env: str) -> Nexus:
        home = tmp_path_factory.mktemp("run") / "home"
        (home / "cache").mkdir(parents=True)
        (home / "cache" / "jax").symlink_to(compiled_programs)
        made.append(Nexus(home, clean_environment() | env))
        return made[-1]

    yield make
    for nexus in made:
        nexus.close()


@pytest.fixture
def nexus(new_nexus) -> Iterator[Nexus]:
    """The command on a home of the test's own."""
    made = new_nexus()
    yield made
    made.close()


@pytest.fixture(scope="session")
def google_target() -> Iterator[str]:
    with google_emulator() as target:
        yield target


@pytest.fixture
def project() -> str:
    """A project that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def bus(nexus) -> dict[str, str]:
    """``nexus emulator`` in a process of its own; the environment that leads to it."""
    ready = nexus.start("emulator", "--port", "0").ready_document()
    return {"PUBSUB_EMULATOR_HOST": ready["grpc"]}
