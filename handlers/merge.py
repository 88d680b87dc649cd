"""``BatchCompleted`` -> stages the grades, merges them by key -> ``ShardMerged``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from events.catalogue import BatchCompleted, ShardFailed, ShardMerged
from handlers.digests import sha256_of_lines
from infra.errors import BatchJobError
from infra.once import Step
from infra.outcome import Ack, Outcome
from infra.ports import Claim, Ports, Receipt
from schemas.rows import arrow_rows
from schemas.tables import GRADES

Row = Mapping[str, Any]


async def merge_shard(event: BatchCompleted, claim: Claim, ports: Ports) -> Outcome:
    """Bring every grade of the shard into the warehouse, each once."""
    requests = await ports.objects.get(event.requests_uri)
    output = await ports.objects.get(event.output_uri)
    rows = list(grade_rows(requests, output, event))
    await ports.warehouse.merge(
        GRADES,
        arrow_rows(GRADES, rows),
        claim=f"{claim.key}/{claim.token}",
        constants={
            "namespace": event.namespace,
            "iteration": event.iteration,
            "shard_index": event.shard_index,
        },
    )
    digest = sha256_of_lines(json.dumps(list(row.values())) for row in rows)
    merged = ShardMerged(
        iteration=event.iteration, shard_index=event.shard_index, rows=len(rows), digest=digest
    )
    return Ack(Receipt(digest=digest, counts={"rows": len(rows)}), [merged])


def grade_rows(requests: bytes, output: bytes, event: BatchCompleted) -> Iterator[Row]:
    """The warehouse's rows of a batch output, joined to its requests, whatever their order.

    Raises:
        BatchJobError: A line is bad, answers another request, or a request has no line.
    """
    asked = {json.loads(line)["row_id"] for line in requests.splitlines()}
    answers = [_answer(line, number) for number, line in enumerate(output.splitlines(), start=1)]
    answered = {row_id for row_id, _ in answers}
    if answered != asked:
        raise BatchJobError(
            f"{event.output_uri} lacks {len(asked - answered)} of {len(asked)} requests and "
            f"answers {len(answered - asked)} others: the job's output is cut or mixed up"
        )
    for row_id, grades in answers:
        yield from _rows(row_id, grades, event)


def _rows(row_id: str, grades: Mapping[str, int], event: BatchCompleted) -> Iterator[Row]:
    persona, session, turn = _place(row_id)
    for family in event.families:
        for construct in family.items:
            if construct in grades:
                yield {
                    "namespace": event.namespace,
                    "iteration": event.iteration,
                    "shard_index": event.shard_index,
                    "family": family.family,
                    "persona": persona,
                    "session": session,
                    "turn": turn,
                    "construct": construct,
                    "grade": grades[construct],
                }


def _place(row_id: str) -> Sequence[int]:
    parts = row_id.split("/")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise BatchJobError(f"row_id {row_id!r} is not persona/session/turn")
    return [int(part) for part in parts]


def _answer(line: bytes, number: int) -> tuple[str, Mapping[str, int]]:
    try:
        document = json.loads(line)
        row_id, grades = document["row_id"], document["grades"]
    except (ValueError, TypeError, KeyError) as error:
        raise BatchJobError(f"output line {number} is no answer: {error!r}") from error
    if not isinstance(row_id, str) or not isinstance(grades, dict):
        raise BatchJobError(f"output line {number} needs a text row_id and an object grades")
    for construct, grade in grades.items():
        if type(grade) is not int:
            raise BatchJobError(
                f"output line {number}: the grade of {construct!r} is {grade!r}, not a whole number"
            )
    return row_id, grades


def merge_lost(event: BatchCompleted, reason: str) -> ShardFailed:
    """What the saga is told."""
    return ShardFailed(
        iteration=event.iteration, shard_index=event.shard_index, step="merge", reason=reason
    )


MERGE = Step(
    handler="merge",
    consumes=(BatchCompleted,),
    emits=(ShardMerged, ShardFailed),
    run=merge_shard,
    lost=merge_lost,
)
