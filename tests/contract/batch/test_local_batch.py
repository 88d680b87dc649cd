"""What the local batch service does for its own part."""

import asyncio
import json
import sys

import pytest

import infra.errors
from events.model import ResponsesEvaluator, SimulatorEvaluator
from infra.batch import LocalBatchService
from infra.batch.grading import grade_lines, parse_requests, simulated
from infra.errors import BatchJobError, ServiceUnavailableError, TerminalError
from infra.ports import JobState

GOOD = {"row_id": "0/0/0", "persona": 0, "session": 0, "turn": 0, "constructs": ["calm"]}


def as_lines(*rows):
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()


def graded(rows, *, seed=7, categories=5):
    output = grade_lines(
        as_lines(*rows), simulated(SimulatorEvaluator(seed=seed, categories=categories))
    )
    parsed = [json.loads(line) for line in output.splitlines()]
    return {one["row_id"]: one["grades"] for one in parsed}


def test_a_grade_depends_on_its_own_coordinates_alone(row):
    rows = [row(p, session=s, constructs="abc") for p in range(5) for s in range(3)]
    together = graded(rows)
    alone = {
        one["row_id"]: {
            name: graded([{**one, "constructs": [name]}])[one["row_id"]][name]
            for name in reversed(one["constructs"])
        }
        for one in reversed(rows)
    }

    assert together == alone


def test_simulated_grades_cover_the_categories_and_follow_the_seed(row):
    rows = [row(persona, constructs="abc") for persona in range(200)]
    grades = [grade for one in graded(rows, categories=4).values() for grade in one.values()]

    assert set(grades) == {1, 2, 3, 4}
    assert graded(rows, seed=8) != graded(rows, seed=7)


def test_the_output_is_in_no_useful_order(row):
    rows = [row(persona, constructs=("a",)) for persona in range(50)]
    ids = list(graded(rows))

    assert ids != sorted(ids)
    assert ids != [one["row_id"] for one in rows]
    assert ids == list(graded(rows[::-1]))


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ("{", "line 2: line: Invalid JSON"),
        ("", "line 2: line: Invalid JSON"),
        ("[]", "line 2: line: Input should be an object"),
        ({**GOOD, "row_id": ""}, "line 2: row_id"),
        ({**GOOD, "row_id": "0/0/0"}, "line 2: row_id '0/0/0' is that of line 1 too"),
        ({**GOOD, "row_id": "x", "persona": -1}, "line 2: persona"),
        ({**GOOD, "row_id": "x", "persona": 1_000_000}, "line 2: persona"),
        ({**GOOD, "row_id": "x", "turn": "many"}, "line 2: turn"),
        ({**GOOD, "row_id": "x", "constructs": []}, "line 2: constructs"),
        ({**GOOD, "row_id": "x", "constructs": ["a b"]}, "line 2: constructs.0"),
        ({**GOOD, "row_id": "x", "other": 1}, "line 2: other"),
    ],
)
def test_a_bad_request_is_named_by_line_and_field(bad, word):
    with pytest.raises(BatchJobError) as refused:
        parse_requests(as_lines(GOOD, bad) + b"\n")

    assert word in str(refused.value)


def test_no_request_at_all_is_an_error():
    with pytest.raises(BatchJobError, match="no line"):
        parse_requests(b"")


@pytest.fixture
async def service(tmp_path, objects):
    service = LocalBatchService(tmp_path / "jobs", objects)
    yield service
    await service.close()


async def run(service, objects, requests, evaluator, ended):
    stored = await objects.put_once("requests", requests)
    job = await service.create(display_name="one", requests_uri=stored.uri, evaluator=evaluator)
    return await ended(service, job.name)


async def test_a_bad_request_fails_the_job_for_good(service, objects, ended, tmp_path):
    job = await run(service, objects, b"{}\n", SimulatorEvaluator(seed=1), ended)

    assert job.state is JobState.FAILED
    assert job.output_uri is None
    assert "line 1: row_id" in job.error
    assert await LocalBatchService(tmp_path / "jobs", objects).get(job.name) == job


async def test_missing_requests_fail_the_job(service, objects, ended):
    job = await service.create(
        display_name="one", requests_uri=objects.uri("none"), evaluator=SimulatorEvaluator(seed=1)
    )

    job = await ended(service, job.name)
    assert job.state is JobState.FAILED
    assert objects.uri("none") in job.error


async def test_real_responses_are_the_cells_of_the_row(service, objects, ended, row):
    csv = await objects.put_once("r.csv", b"id,calm,kind\nx,1,NA\ny,,6\nz,3,2\n")
    evaluator = ResponsesEvaluator(uri=csv.uri, digest=csv.digest)
    requests = as_lines(*(row(persona) for persona in (2, 0, 1)))

    job = await run(service, objects, requests, evaluator, ended)

    rows = [json.loads(line) for line in (await objects.get(job.output_uri)).splitlines()]
    assert {one["row_id"]: one["grades"] for one in rows} == {
        "0/0/0": {"calm": 1},
        "1/0/0": {"kind": 6},
        "2/0/0": {"calm": 3, "kind": 2},
    }


@pytest.mark.parametrize(
    ("persona", "construct", "word"),
    [(3, "calm", "respondent 3"), (0, "shy", "no column 'shy'"), (0, "id", "row 1 (line 2)")],
)
async def test_responses_that_are_not_there_fail_the_job(
    service, objects, ended, row, persona, construct, word
):
    csv = await objects.put_once("r.csv", b"id,calm,kind\nx,1,NA\ny,,6\nz,3,2\n")
    evaluator = ResponsesEvaluator(uri=csv.uri, digest=csv.digest)

    requests = as_lines(row(persona, constructs=(construct,)))
    job = await run(service, objects, requests, evaluator, ended)

    assert job.state is JobState.FAILED
    assert word in job.error


async def test_another_file_than_the_iteration_s_fails_the_job(service, objects, ended, row):
    csv = await objects.put_once("r.csv", b"calm,kind\n1,2\n")
    evaluator = ResponsesEvaluator(uri=csv.uri, digest="sha256:" + "0" * 64)

    job = await run(service, objects, as_lines(row(0)), evaluator, ended)

    assert job.state is JobState.FAILED
    assert csv.digest in job.error
    assert "sha256:000" in job.error


async def test_a_display_name_with_other_parameters_is_refused(service, objects, row):
    stored = await objects.put_once("requests", as_lines(row(0)))
    for seed in (1, 1):
        await service.create(
            display_name="one", requests_uri=stored.uri, evaluator=SimulatorEvaluator(seed=seed)
        )

    with pytest.raises(TerminalError, match="'one' exists with other"):
        await service.create(
            display_name="one", requests_uri=stored.uri, evaluator=SimulatorEvaluator(seed=2)
        )


async def test_a_job_runs_while_its_time_lasts(tmp_path, objects, row):
    service = LocalBatchService(tmp_path / "jobs", objects, seconds_per_job=3600)
    stored = await objects.put_once("requests", as_lines(row(0)))
    job = await service.create(
        display_name="one", requests_uri=stored.uri, evaluator=SimulatorEvaluator(seed=1)
    )

    assert (await service.get(job.name)).state is JobState.RUNNING
    await service.close()
    assert await objects.list("batches") == ()
    found = await service.find("one")
    assert found.state is JobState.PENDING


class FlakyObjects:
    """Objects whose first reads of an object fail, as a bucket's do."""

    def __init__(self, objects, failures):
        self._objects = objects
        self._failures = failures

    async def get(self, uri):
        self._failures -= 1
        if self._failures >= 0:
            raise ServiceUnavailableError("the bucket is away")
        return await self._objects.get(uri)

    def __getattr__(self, name):
        return getattr(self._objects, name)


async def test_a_run_that_met_no_objects_is_told_and_started_again(tmp_path, objects, row, ended):
    service = LocalBatchService(tmp_path / "jobs", FlakyObjects(objects, 1))
    stored = await objects.put_once("requests", as_lines(row(0)))
    job = await service.create(
        display_name="one", requests_uri=stored.uri, evaluator=SimulatorEvaluator(seed=1)
    )

    with pytest.raises(ServiceUnavailableError, match="away"):
        await ended(service, job.name)
    assert (await ended(service, job.name)).state is JobState.SUCCEEDED
    await service.close()


async def test_a_folder_that_can_t_be_written_is_named(tmp_path, objects):
    (tmp_path / "file").write_bytes(b"")
    service = LocalBatchService(tmp_path / "file", objects)

    with pytest.raises(ServiceUnavailableError, match="file"):
        await service.create(
            display_name="one",
            requests_uri=objects.uri("requests"),
            evaluator=SimulatorEvaluator(seed=1),
        )


async def test_the_service_loads_neither_jax_nor_arrow():
    code = "import sys, infra.batch; print(sorted({'jax', 'pyarrow', 'pandas'} & set(sys.modules)))"
    root = infra.errors.__file__.removesuffix("/infra/errors.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={"PYTHONPATH": root}, stdout=asyncio.subprocess.PIPE
    )

    assert (await process.communicate())[0] == b"[]\n"
