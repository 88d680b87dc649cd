"""From request lines to output lines: pure functions of the requests and the evaluator.

A request: ``{"row_id": "3/2/5", "persona": 3, "session": 2, "turn": 5, "constructs": [...]}``.
Its output: ``{"row_id": "3/2/5", "grades": {"curiosity": 4, ...}}``, a missing answer left out.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from calibration.simulate import simulate_grades
from events.model import Frozen, Name, SimulatorEvaluator
from infra.errors import BatchJobError, ResponsesError
from infra.personas import truth_of
from infra.responses import ResponsesFile, read_items

Index = Annotated[int, Field(ge=0, lt=1_000_000)]


class GradeRequest(Frozen):
    """One turn to grade on some constructs; counts start at 0."""

    row_id: Annotated[str, Field(min_length=1, max_length=200)]
    persona: Index
    session: Index
    turn: Index
    constructs: Annotated[tuple[Name, ...], Field(min_length=1)]


Grade = Callable[[Sequence[GradeRequest]], list[dict[str, int]]]
"""The grades of each request, by construct."""


def grade_lines(requests: bytes, grade: Grade) -> bytes:
    """The output lines of a file of request lines.

    Their order is a shuffle that depends on the row ids alone: a batch service promises no order,
    so nobody may come to rely on one.

    Raises:
        BatchJobError: A line is bad or a row id comes twice; the text names line and field.
    """
    rows = parse_requests(requests)
    outputs = [
        (row.row_id, json.dumps({"row_id": row.row_id, "grades": grades}, separators=(",", ":")))
        for row, grades in zip(rows, grade(rows), strict=True)
    ]
    outputs.sort(key=lambda output: hashlib.blake2b(output[0].encode()).digest())
    return "".join(f"{line}\n" for _, line in outputs).encode()


def parse_requests(requests: bytes) -> tuple[GradeRequest, ...]:
    """The requests of a file, in its order.

    Raises:
        BatchJobError: A line is bad, a row id comes twice, or there is none.
    """
    rows = tuple(_parse(line, number) for number, line in enumerate(requests.splitlines(), start=1))
    if not rows:
        raise BatchJobError("requests: the file has no line: write at least one request")
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if seen.setdefault(row.row_id, number) != number:
            raise BatchJobError(
                f"requests line {number}: row_id {row.row_id!r} is that of line "
                f"{seen[row.row_id]} too: give each row its own"
            )
    return rows


def simulated(evaluator: SimulatorEvaluator) -> Grade:
    """Grades whose truth is a function of seed, persona and construct name."""

    def grade(rows: Sequence[GradeRequest]) -> list[dict[str, int]]:
        names = [construct for row in rows for construct in row.constructs]
        where = [(row.persona, row.session, row.turn) for row in rows for _ in row.constructs]
        persona, session, turn = np.array(where).T
        truth = truth_of(evaluator, int(persona.max()) + 1, tuple(sorted(set(names))))
        grades = iter(simulate_grades(truth, persona, session, turn, names).tolist())
        return [dict(zip(row.constructs, grades, strict=False)) for row in rows]

    return grade


def answered(data: bytes, source: str) -> Grade:
    """Grades from real responses: persona i is data row i; a missing answer has no grade."""

    def grade(rows: Sequence[GradeRequest]) -> list[dict[str, int]]:
        items = tuple(sorted({construct for row in rows for construct in row.constructs}))
        try:
            file = _read_items(data, items, source)
            return [file.answers(row.persona, row.constructs) for row in rows]
        except ResponsesError as error:
            raise BatchJobError(str(error)) from error

    return grade


@lru_cache(maxsize=4)
def _read_items(data: bytes, items: tuple[str, ...], source: str) -> ResponsesFile:
    """The shards of an iteration ask for the same columns of the same file."""
    return read_items(data, items, source=source)


def _parse(line: bytes, number: int) -> GradeRequest:
    try:
        return GradeRequest.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise BatchJobError(
            f"requests line {number}: {field}: {first['msg']} (got {first['input']!r:.80})"
        ) from error
