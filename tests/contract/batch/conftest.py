"""Every adapter of the batch port, with an evaluator and requests that it can grade."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from events.model import Evaluator, ResponsesEvaluator, SimulatorEvaluator
from infra.batch import LocalBatchService
from infra.objects import StoredObjects, open_objects
from infra.ports import BatchService, Job, JobState

ENDED = {JobState.SUCCEEDED, JobState.FAILED}
CSV = b"calm,kind,shy\n1,2,3\n4,NA,2\n5,1,\n"


@dataclass(frozen=True)
class Setting:
    """A batch service, its objects, and a way to a second service over the same state."""

    service: BatchService
    another: Callable[[], BatchService]
    objects: StoredObjects
    evaluator: Evaluator

    async def create(self, name: str, rows: list[dict[str, object]]) -> Job:
        requests = await self.objects.put_once(f"requests/{name}.jsonl", lines(rows))
        return await self.service.create(
            display_name=name, requests_uri=requests.uri, evaluator=self.evaluator
        )

    async def grades(self, job: Job) -> dict[str, dict[str, int]]:
        output = await self.objects.get(job.output_uri or "")
        rows = [json.loads(line) for line in output.splitlines()]
        return {row["row_id"]: row["grades"] for row in rows}


def lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def request_row(persona: int, *, session: int = 0, turn: int = 0, constructs=("calm", "kind")):
    return {
        "row_id": f"{persona}/{session}/{turn}",
        "persona": persona,
        "session": session,
        "turn": turn,
        "constructs": list(constructs),
    }


@pytest.fixture
def row() -> Callable[..., dict[str, object]]:
    return request_row


@pytest.fixture
def ended() -> Callable[[BatchService, str], Awaitable[Job]]:
    async def until_ended(service: BatchService, name: str) -> Job:
        while (job := await service.get(name)).state not in ENDED:  # noqa: ASYNC110 - a batch service publishes no event
            await asyncio.sleep(0.001)
        return job

    return until_ended


@pytest.fixture
def objects(tmp_path: Path) -> StoredObjects:
    return open_objects((tmp_path / "objects").as_uri())


@pytest.fixture(params=["simulator", "responses"])
async def setting(request, tmp_path, objects) -> AsyncIterator[Setting]:
    stored = await objects.put_once("responses.csv", CSV)
    evaluator: Evaluator = (
        SimulatorEvaluator(seed=7)
        if request.param == "simulator"
        else ResponsesEvaluator(uri=stored.uri, digest=stored.digest)
    )
    services: list[BatchService] = []

    def service() -> BatchService:
        services.append(LocalBatchService(tmp_path / "jobs", objects))
        return services[-1]

    yield Setting(service(), service, objects, evaluator)
    await asyncio.gather(*(one.close() for one in services))
