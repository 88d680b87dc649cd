"""A batch service in this process, whose jobs outlive it."""

import asyncio
import hashlib
from pathlib import Path

from events.model import Evaluator, Frozen, ResponsesEvaluator, SimulatorEvaluator
from infra.batch.grading import Grade, answered, grade_lines, simulated
from infra.errors import BatchJobError, ServiceUnavailableError, TerminalError
from infra.objects.files import create_once
from infra.objects.keys import digest_of
from infra.ports import Job, JobState, Objects


class JobRecord(Frozen):
    """What a job was created with."""

    display_name: str
    requests_uri: str
    evaluator: Evaluator


class JobOutcome(Frozen):
    """How a job ended: with an output, or with an error."""

    output_uri: str | None = None
    error: str | None = None


class LocalBatchService:
    """Batch jobs that a task of this process runs; see ``infra.ports.BatchService``.

    A job is two files in a folder, each written once: its record, named by the hash of its display
    name, and its outcome. A job with no outcome that does not run here is started again by
    ``get``: whoever ran it has died, or runs it too, which does no harm, since the output is a
    function of the requests and is written once.
    """

    def __init__(self, folder: Path, objects: Objects, *, seconds_per_job: float = 0.0) -> None:
        """Keep jobs in ``folder``, and let each take ``seconds_per_job`` at least."""
        self._folder = folder
        self._objects = objects
        self._seconds_per_job = seconds_per_job
        self._running: dict[str, asyncio.Task[None]] = {}

    async def find(self, display_name: str) -> Job | None:
        """The job of that display name, if one was created; starts nothing."""
        name = _job_name(display_name)
        record = await asyncio.to_thread(self._record, name)
        return None if record is None else await self._job(name, record)

    async def create(self, *, display_name: str, requests_uri: str, evaluator: Evaluator) -> Job:
        """Create and start a job; of two creators with one display name, both get the one job.

        Raises:
            TerminalError: A job of that display name has other requests or another evaluator.
            ServiceUnavailableError: The folder can't be written.
        """
        name = _job_name(display_name)
        wanted = JobRecord(
            display_name=display_name, requests_uri=requests_uri, evaluator=evaluator
        )
        await self._write(f"{name}.json", wanted)
        record = await asyncio.to_thread(self._record, name)
        if record != wanted:
            raise TerminalError(
                f"batch job {display_name!r} exists with other requests or another evaluator: "
                "create it under another display name"
            )
        job = await self._job(name, record)
        if job.state is JobState.PENDING:
            self._start(name, record)
        return job

    async def get(self, name: str) -> Job:
        """The job's state now; starts it if it neither ended nor runs here.

        Raises:
            TerminalError: There is no such job.
            ServiceUnavailableError: The job's last run could not reach its objects; the next
                call starts it again.
        """
        record = await asyncio.to_thread(self._record, name)
        if record is None:
            raise TerminalError(f"batch job {name!r} does not exist in {self._folder}")
        self._raise_interruption(name)
        job = await self._job(name, record)
        if job.state is JobState.PENDING:
            self._start(name, record)
        return job

    async def close(self) -> None:
        """Stop what runs in this process; a later ``get`` takes it up again."""
        tasks = tuple(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()

    async def _job(self, name: str, record: JobRecord) -> Job:
        outcome = await asyncio.to_thread(self._outcome, name)
        match outcome:
            case None:
                task = self._running.get(name)
                runs = task is not None and not task.done()
                state = JobState.RUNNING if runs else JobState.PENDING
                return Job(name, record.display_name, state)
            case JobOutcome(output_uri=str(uri)):
                return Job(name, record.display_name, JobState.SUCCEEDED, output_uri=uri)
            case _:
                return Job(name, record.display_name, JobState.FAILED, error=outcome.error)

    def _start(self, name: str, record: JobRecord) -> None:
        if name not in self._running:
            self._running[name] = asyncio.create_task(self._run(name, record), name=name)

    def _raise_interruption(self, name: str) -> None:
        """Forget a run that is over, and raise what kept it from an outcome."""
        task = self._running.get(name)
        if task is None or not task.done():
            return
        del self._running[name]
        if not task.cancelled():
            task.result()

    async def _run(self, name: str, record: JobRecord) -> None:
        await asyncio.sleep(self._seconds_per_job)
        try:
            output = await self._output(record)
            key = f"batches/{name}/predictions-{digest_of(output).partition(':')[2][:16]}.jsonl"
            stored = await self._objects.put_once(key, output)
            outcome = JobOutcome(output_uri=stored.uri)
        except TerminalError as error:
            outcome = JobOutcome(error=str(error))
        await self._write(f"{name}.outcome.json", outcome)

    async def _output(self, record: JobRecord) -> bytes:
        requests = await self._objects.get(record.requests_uri)
        grade = await self._grade(record.evaluator)
        return await asyncio.to_thread(grade_lines, requests, grade)

    async def _grade(self, evaluator: Evaluator) -> Grade:
        match evaluator:
            case SimulatorEvaluator():
                return simulated(evaluator)
            case ResponsesEvaluator(uri=uri, digest=digest):
                data = await self._objects.get(uri)
                if digest_of(data) != digest:
                    raise BatchJobError(
                        f"responses {uri} has digest {digest_of(data)}, not {digest}: it is not "
                        "the file that the iteration was started with"
                    )
                return answered(data, uri)

    def _record(self, name: str) -> JobRecord | None:
        data = self._read(f"{name}.json")
        return None if data is None else JobRecord.model_validate_json(data)

    def _outcome(self, name: str) -> JobOutcome | None:
        data = self._read(f"{name}.outcome.json")
        return None if data is None else JobOutcome.model_validate_json(data)

    def _read(self, file_name: str) -> bytes | None:
        path = self._folder / file_name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ServiceUnavailableError(f"batch job file {path}: {error.strerror}") from error

    async def _write(self, file_name: str, record: JobRecord | JobOutcome) -> None:
        path = self._folder / file_name
        try:
            await asyncio.to_thread(create_once, path, record.model_dump_json().encode())
        except OSError as error:
            raise ServiceUnavailableError(f"batch job file {path}: {error.strerror}") from error


def _job_name(display_name: str) -> str:
    return f"job-{hashlib.sha256(display_name.encode()).hexdigest()[:32]}"
