"""What bus, sagas and ledger cost: a smoke run without a sampler against the same work by hand.

Both grade 600 talks, merge 3,600 grades in six shards into DuckDB and keep a receipt; the run does
it through Pub/Sub over gRPC, claims, outbox and the iteration saga.

Run: python -m benchmarks.overhead
"""

import argparse
import asyncio
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from events.catalogue import BatchCompleted, IterationStarted, ShardRequested
from handlers.merge import grade_rows
from handlers.shards import request_lines
from infra import logs
from infra.batch import LocalBatchService
from infra.clock import utc_now
from infra.objects import open_objects
from infra.ports import (
    BatchService,
    JobState,
    Objects,
    Training,
    TrainingJob,
    TrainingProgress,
    Warehouse,
)
from infra.profiles import parameters_for
from infra.settings import Settings
from infra.warehouse import open_warehouse
from nexus.run import Watcher, checked_request, run
from sagas.iteration import decide
from schemas.rows import arrow_rows
from schemas.tables import GRADES, TABLES

SEED = 0
_NO_SCORES = pa.schema(
    [("respondent", pa.int64()), ("mean", pa.float64()), ("sd", pa.float64())]
).empty_table()


class NoTrainer:
    """Fits nothing: the gates hold the family for want of draws."""

    async def train(
        self,
        job: TrainingJob,
        progress: Callable[[TrainingProgress], None] | None = None,  # noqa: ARG002 - the port's
    ) -> Training:
        gate = {
            "number": 1,
            "name": "convergence",
            "value": None,
            "threshold": "a fit",
            "passed": False,
            "judged": True,
            "holds": True,
            "reason": "nothing was fitted",
        }
        figures = {
            "method": job.method,
            "r_hat_max": None,
            "ess_bulk_min": None,
            "ess_tail_min": None,
            "divergences": 0,
            "sampling_seconds": 0.0,
            "n_respondents": len(set(job.counts["respondent"].to_pylist())),
            "n_responses": sum(job.counts["n"].to_pylist()),
        }
        return Training(
            grm_json=b'{"items": [], "diagnostics": {"versions": {}}}',
            draws_npz=None,
            inference_nc=None,
            checks_json=b"{}",
            figures=figures,
            gates=(gate,),
            metrics=(),
            invariance=(),
            item_checks=(),
            models=(),
            scores=_NO_SCORES,
        )

    async def close(self) -> None:
        pass


async def through_nexus(home: Path) -> dict[str, Any]:
    settings = Settings(home=home, poll_seconds=0.02)
    request = checked_request(settings, 0, "smoke", seed=SEED)
    silent = Watcher(lambda _: None, lambda _: None)
    document = await run(settings, request, silent, trainer=NoTrainer())
    if document["status"] != "completed":
        raise RuntimeError(f"the run has {document['status']}: this would measure something else")
    return document


async def by_hand(home: Path) -> int:
    home.mkdir(parents=True)  # noqa: ASYNC240 - nothing else runs yet
    warehouse = open_warehouse(f"duckdb://{home / 'warehouse.duckdb'}")
    await warehouse.open(TABLES)
    objects = open_objects(f"file://{home / 'objects'}")
    batch = LocalBatchService(home / "batch", objects)
    started = IterationStarted(iteration=0, parameters=parameters_for(0, "smoke", seed=SEED))
    rows = 0
    for shard in decide(None, started, utc_now()).commands:
        assert isinstance(shard, ShardRequested)
        rows += await _shard(shard, warehouse, objects, batch)
    await batch.close()
    await warehouse.close()
    return rows


async def _shard(
    shard: ShardRequested, warehouse: Warehouse, objects: Objects, batch: BatchService
) -> int:
    lines = list(request_lines(shard))
    stored = await objects.put_once(f"{shard.subject}/requests.jsonl", "\n".join(lines).encode())
    job = await batch.create(
        display_name=shard.subject, requests_uri=stored.uri, evaluator=shard.evaluator
    )
    while job.state is not JobState.SUCCEEDED:
        await asyncio.sleep(0.02)
        job = await batch.get(job.name)
    completed = BatchCompleted(
        iteration=0,
        shard_index=shard.shard_index,
        job=job.name,
        requests_uri=stored.uri,
        output_uri=job.output_uri,
        n_requests=len(lines),
        families=shard.families,
    )
    requests, output = [await objects.get(uri) for uri in (stored.uri, job.output_uri)]
    table = arrow_rows(GRADES, list(grade_rows(requests, output, completed)))
    constants = {"namespace": "smoke", "iteration": 0, "shard_index": shard.shard_index}
    await warehouse.merge(GRADES, table, claim=shard.subject, constants=constants)
    return table.num_rows


def measure(rounds: int) -> dict[str, Any]:
    nexus, hand, events = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            start = time.perf_counter()
            document = asyncio.run(through_nexus(Path(folder) / f"nexus-{number}"))
            nexus.append(time.perf_counter() - start)
            assert document["rows_merged"] == 3_600, document
            events = document["effects"]["events_published"]
            start = time.perf_counter()
            assert asyncio.run(by_hand(Path(folder) / f"hand-{number}")) == 3_600
            hand.append(time.perf_counter() - start)
    wall = statistics.median(nexus)
    return {
        "rounds": rounds,
        "nexus_seconds": round(wall, 3),
        "by_hand_seconds": round(statistics.median(hand), 3),
        "ratio": round(wall / statistics.median(hand), 2),
        "events": events,
        "events_per_second": round(events / wall, 1),
        "rss_max_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    logs.configure("error")
    print(json.dumps(measure(parser.parse_args().rounds), indent=2))
