"""Applications in processes of their own: `faststream run`, its end and its reloads."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
MESSAGES = 300

APP = """
import asyncio, os, pathlib
from faststream import FastStream
from faststream_pubsub import PubSubBroker

broker = PubSubBroker(logger=None)
app = FastStream(broker, logger=None)
log = pathlib.Path(os.environ["APP_LOG"])


def note(text):
    with log.open("a") as file:
        file.write(text + "\\n")


@app.after_startup
async def ready():
    note("ready VERSION")


@broker.subscriber("TOPIC", max_workers=5)
async def handle(number: int) -> None:
    note(f"began {number}")
    await asyncio.sleep(0.05)
    note(f"ended {number}")
"""


class App:
    """A module, and its log."""

    def __init__(self, folder: Path, topic: str, target: str) -> None:
        self._module = folder / "shop.py"
        self._log = folder / "log"
        self._log.touch()
        self._topic = topic
        self._environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), str(PROJECT)]),
            "PUBSUB_EMULATOR_HOST": target,
            "APP_LOG": str(self._log),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, version: str) -> None:
        text = APP.replace("TOPIC", self._topic).replace("VERSION", version)
        self._module.write_text(text)

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "faststream", "run", "shop:app", *options]
        # a group of its own: what reloads has a child, which must not outlive a failed test
        self._process = subprocess.Popen(
            command, cwd=self._module.parent, env=self._environ, start_new_session=True
        )
        return self._process

    def lines(self, word: str) -> list[str]:
        return [
            line.partition(" ")[2]
            for line in self._log.read_text().splitlines()
            if line.startswith(word)
        ]

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def app(tmp_path, name, target):
    shop = App(tmp_path, name, target)
    yield shop
    shop.kill()


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_sigterm_drains_and_loses_nothing(bench, name, app, until):
    app.write("one")
    process = app.start()
    await until(lambda: app.lines("ready"), seconds=40)
    async with bench.broker() as publisher:
        await publisher.publish_batch(*range(MESSAGES), topic=name)
    await until(lambda: len(app.lines("ended")) >= 20, seconds=20)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 0
    ended = app.lines("ended")
    assert sorted(app.lines("began")) == sorted(ended)
    assert len(ended) < MESSAGES

    successor = app.start()
    await until(lambda: len(app.lines("ended")) >= MESSAGES, seconds=40)
    successor.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(successor.wait, 30) == 0
    # all are handled, and none twice: what had ended was acknowledged before the process was
    assert sorted(map(int, app.lines("ended"))) == list(range(MESSAGES))


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_reload_runs_the_new_code_and_loses_nothing(bench, name, app, until):
    pytest.importorskip("watchfiles", reason="`faststream run --reload` needs watchfiles")
    app.write("one")
    process = app.start("--reload")
    await until(lambda: app.lines("ready") == ["one"], seconds=40)
    async with bench.broker() as publisher:
        await publisher.publish_batch(*range(100), topic=name)
        await until(lambda: app.lines("ended"), seconds=20)
        app.write("two")
        await until(lambda: app.lines("ready")[-1] == "two", seconds=40)
        await until(lambda: len(app.lines("ended")) >= 100, seconds=20)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 0
    assert sorted(map(int, app.lines("ended"))) == list(range(100))
