"""The README's examples do what it says, as they stand there."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faststream import TestApp

from faststream_pubsub import TestPubSubBroker

README = Path(__file__).parents[3] / "faststream_pubsub" / "README.md"


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One module of all examples, one after the other."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL
    )
    assert len(blocks) >= 3
    (tmp_path / "readme_examples.py").write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("readme_examples")
    del sys.modules["readme_examples"]


async def test_readmes_application_runs(readme, target, monkeypatch, capsys, until):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", target)
    printed: list[str] = []
    async with TestApp(readme.app):
        await until(lambda: printed.append(capsys.readouterr().out) or "shipped 7" in printed[-1])


async def test_readmes_test_passes(readme):
    await readme.test_order_is_packed()


async def test_readmes_batches_are_settled_one_by_one(readme):
    async with TestPubSubBroker(readme.broker, raise_errors=False) as broker:
        await broker.publish_batch({"number": 1}, {"number": 2}, topic="orders")
        readme.count.mock.assert_called_once_with([{"number": 1}, {"number": 2}])
