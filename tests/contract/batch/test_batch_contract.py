"""What every adapter of the batch port does."""

import asyncio

import pytest

from infra.errors import TerminalError
from infra.ports import JobState


async def test_a_job_turns_requests_into_grades(setting, row, ended):
    created = await setting.create("iteration/0/shard/1", [row(0), row(2)])
    job = await ended(setting.service, created.name)

    assert created.state in {JobState.PENDING, JobState.RUNNING}
    assert (job.name, job.display_name) == (created.name, "iteration/0/shard/1")
    assert job.state is JobState.SUCCEEDED
    assert job.error is None
    grades = await setting.grades(job)
    assert set(grades) == {"0/0/0", "2/0/0"}
    assert all(set(one) == {"calm", "kind"} for one in grades.values())
    assert all(isinstance(grade, int) for one in grades.values() for grade in one.values())


async def test_a_job_is_found_by_its_display_name_alone(setting, row):
    created = await setting.create("one", [row(0)])

    found = await setting.another().find("one")

    assert found is not None
    assert (found.name, found.display_name) == (created.name, "one")
    assert await setting.service.find("another") is None


async def test_many_creators_of_one_name_get_one_job(setting, row, ended):
    jobs = await asyncio.gather(*(setting.create("one", [row(0)]) for _ in range(6)))

    assert len({job.name for job in jobs}) == 1
    await ended(setting.service, jobs[0].name)
    assert len(await setting.objects.list("batches")) == 1


async def test_jobs_of_different_names_are_different(setting, row):
    jobs = [await setting.create(name, [row(0)]) for name in ("one", "two", "a/b", "a_b")]

    assert len({job.name for job in jobs}) == 4


async def test_an_unknown_job_is_an_error_with_its_name(setting):
    with pytest.raises(TerminalError, match="job-unknown"):
        await setting.service.get("job-unknown")


async def test_a_job_that_was_stopped_is_taken_up_by_another(setting, row, ended):
    created = await setting.create("one", [row(0)])
    await setting.service.close()

    job = await ended(setting.another(), created.name)

    assert job.state is JobState.SUCCEEDED
    assert set(await setting.grades(job)) == {"0/0/0"}


async def test_two_services_that_run_one_job_end_in_one_output(setting, row, ended):
    created = await setting.create("one", [row(persona) for persona in range(3)])
    services = [setting.another() for _ in range(3)]

    jobs = await asyncio.gather(*(ended(service, created.name) for service in services))

    assert len({job.output_uri for job in jobs}) == 1
    assert len(await setting.objects.list("batches")) == 1


async def test_the_state_of_an_ended_job_stays(setting, row, ended):
    created = await setting.create("one", [row(0)])
    job = await ended(setting.service, created.name)

    assert await setting.service.get(created.name) == job
    assert await setting.create("one", [row(0)]) == job
    assert await setting.another().find("one") == job
