import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from events.model import Family, Sampler
from infra.errors import CannotCalibrateError, TransientError
from infra.ports import TrainingJob
from infra.trainer import ProcessTrainer
from infra.trainer.checks import STEPS

ITEMS = ("a", "b", "c")
DIES_WITH_A_CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from infra.trainer import ProcessTrainer

async def main():
    trainer = ProcessTrainer(Path(sys.argv[1]))
    await trainer._ready(4)
    print(trainer._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def job(*, alike=()):
    """60 respondents of three items; those named are answered alike by all."""
    random = np.random.default_rng(0)
    traits = random.normal(size=60)
    rows = [
        (
            person,
            item,
            1 if item in alike else int(np.clip(round(2 + trait + random.normal()), 1, 3)),
        )
        for person, trait in enumerate(traits)
        for item in ITEMS
    ]
    respondent, item, grade = zip(*rows, strict=True)
    counts = pa.table(
        {"respondent": respondent, "item": item, "grade": grade, "n": [1] * len(rows)}
    )
    return TrainingJob(Family(family="f", items=ITEMS), counts, Sampler(), "mml", 0)


async def test_the_fit_and_every_check_that_fits_again_have_the_priors_that_were_asked_for(trainer):
    asked = replace(job(), method="nuts", sampler=Sampler(chains=2, warmup=50, draws=50))
    stated = await trainer.train(asked)
    weak = await trainer.train(replace(asked, priors="weak"))
    told = [json.loads(one.grm_json).get("priors") for one in (stated, weak)]
    assert told == [None, {"log_discrimination_sd": 1.0, "cut_sd": 5.0}]
    before, after = (json.loads(one.checks_json) for one in (stated, weak))
    assert before["prediction_sets"]["cutoff"] != after["prediction_sets"]["cutoff"]
    for level, other in zip(*(one["invariance"]["levels"] for one in (before, after)), strict=True):
        assert level["log_likelihood"] < other["log_likelihood"]


@pytest.fixture
async def trainer(tmp_path):
    made = ProcessTrainer(tmp_path / "cache")
    yield made
    await made.close()


async def test_a_family_that_cannot_be_fitted_leaves_the_process_to_the_next(trainer):
    told = []
    await trainer._ready(4)
    process = trainer._process
    with pytest.raises(CannotCalibrateError, match="ConstantItemError: item b"):
        await trainer.train(job(alike=["b"]))
    training = await trainer.train(job(), told.append)
    assert trainer._process is process
    assert process.returncode is None
    document = json.loads(training.grm_json)
    assert [item["item"] for item in document["items"]] == list(ITEMS)
    assert (training.figures["method"], training.figures["n_responses"]) == ("mml", 180)
    assert [row["item"] for row in training.metrics] == list(ITEMS)
    assert [row["level"] for row in training.invariance] == ["configural", "metric", "scalar"]
    assert [gate["number"] for gate in training.gates] == list(range(1, 11))
    words = {"number", "name", "value", "threshold", "passed", "holds", "judged", "reason"}
    assert set(training.gates[0]) == words
    assert [row["item"] for row in training.item_checks] == list(ITEMS)
    assert {progress.family for progress in told} == {"f"}


async def test_what_a_gate_cannot_judge_it_says_and_the_rest_is_judged(trainer):
    told = []
    plain = await trainer.train(job(), told.append)
    gates = {gate["number"]: gate for gate in plain.gates}
    assert (gates[10]["judged"], gates[10]["reason"]) == (False, "no version was promoted before")
    assert [gates[number]["judged"] for number in (2, 7, 8, 9)] == [False, True, True, True]
    checks = json.loads(plain.checks_json)
    assert [group["group"] for group in checks["invariance"]["groups"]] == ["half 1", "half 2"]
    phases = list(dict.fromkeys(progress.phase for progress in told))
    assert phases == ["mode", *(f"check: {step}" for step in STEPS), "checked"]

    of_places = tuple("ba"[n % 2] if n else None for n in range(60))
    known = replace(job(), groups=of_places, promoted=plain.grm_json)
    judged = await trainer.train(known)
    [stability] = [gate for gate in judged.gates if gate["number"] == 10]
    assert (stability["judged"], stability["passed"], stability["value"]) == (True, True, 0.0)
    groups = json.loads(judged.checks_json)["invariance"]
    assert groups["given"]
    assert groups["groups"] == [
        {"group": "a", "respondents": 30},
        {"group": "b", "respondents": 29},
    ]
    assert {row["stable"] for row in judged.item_checks} == {True}

    alone = replace(job(), groups=("a",) * 60, promoted=b"{}")
    gates = {gate["number"]: gate for gate in (await trainer.train(alone)).gates}
    assert not gates[8]["judged"]
    assert "one group" in gates[8]["reason"]
    assert (gates[10]["judged"], "grm.json" in gates[10]["reason"]) == (False, True)


async def test_more_chains_than_host_devices_want_another_process(trainer):
    first = await trainer._ready(2)
    assert await trainer._ready(2) is first
    assert await trainer._ready(4) is not first
    assert first.returncode == -signal.SIGKILL


async def test_a_process_that_was_killed_is_worth_another_try(trainer):
    process = await trainer._ready(4)
    fitting = asyncio.create_task(trainer.train(job()))
    await asyncio.sleep(0)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(TransientError, match="the training process ended with code -9"):
        await fitting
    await trainer._ready(4)
    assert trainer._process.pid != process.pid


async def test_a_fit_that_is_cancelled_ends_its_process(trainer):
    process = await trainer._ready(4)
    fitting = asyncio.create_task(trainer.train(job()))
    await asyncio.sleep(0)
    fitting.cancel()
    with suppress(asyncio.CancelledError):
        await fitting
    assert fitting.cancelled()
    assert process.returncode == -signal.SIGKILL
    assert trainer._process is None


async def test_closing_ends_the_process_and_may_be_done_twice(trainer):
    await trainer._ready(4)
    process = trainer._process
    await trainer.close()
    await trainer.close()
    assert process.returncode == -signal.SIGKILL


def test_the_process_dies_with_the_worker_that_started_it(tmp_path):
    """It holds the worker's stderr open for as long as it lives."""
    worker = subprocess.Popen(
        [sys.executable, "-c", DIES_WITH_A_CHILD, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    pid = int(worker.stdout.readline())
    try:
        worker.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.kill(pid, signal.SIGKILL)
        raise
    assert worker.returncode == -signal.SIGKILL
