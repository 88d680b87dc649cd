"""A run that is interrupted, and one whose bus forgets: run again, they complete."""

import re
import shutil
import signal

from infra.ports import StepStatus
from tests.support.programs import children_of_training, until

RUN = ("run", "--method", "mml", "--json")


def training(nexus):
    step = nexus.steps().get("smoke/0/family/openness/training")
    return step is not None and step.status is StepStatus.CLAIMED


def test_ctrl_c_ends_a_run_kindly_and_it_goes_on_later(nexus):
    # by NUTS: a fit by maximum likelihood may end before the signal comes
    running = nexus.start("run", "--json")
    until(lambda: training(nexus) and children_of_training(nexus.home), "the training to start")
    running.signal(signal.SIGINT)
    ended = running.ended(seconds=30)
    assert ended.code == 130
    assert "Run the same command again" in ended.err
    assert "Traceback" not in ended.err
    assert ended.document["error"]["kind"] == "KeyboardInterrupt"
    assert children_of_training(nexus.home) == []
    merged = {key: step for key, step in nexus.steps().items() if key.endswith("/merge")}
    assert len(merged) == 6
    document = nexus.run("run", "--json").succeeded().document
    assert document["status"] == "completed"
    assert document["effects"]["batches_created"] == 0
    after = nexus.steps()
    assert {key: after[key] for key in merged} == merged


def test_a_bus_that_lost_everything_is_told_again(new_nexus):
    nexus = new_nexus(NEXUS_CLAIM_LEASE_SECONDS="2")
    running = nexus.start(*RUN)
    until(lambda: training(nexus), "the training to start")
    running.kill()
    shutil.rmtree(nexus.home / "pubsub")
    before = {
        key: step for key, step in nexus.steps().items() if step.status is StepStatus.COMPLETED
    }
    document = nexus.run(*RUN).succeeded().document
    assert document["status"] == "completed"
    assert document["effects"]["batches_created"] == 0
    after = nexus.steps()
    assert {key: after[key] for key in before} == before
    assert nexus.rows("SELECT count(*) FROM grades") == [(3_600,)]


def test_a_bus_that_is_lost_early_is_told_again(nexus):
    """Batch jobs that take a while keep the iteration in its first step."""
    running = nexus.start(*RUN, NEXUS_BATCH_SECONDS="60")
    until(lambda: sum(bool(re.search("/batches$", key)) for key in nexus.steps()) == 6, "jobs")
    running.kill()
    shutil.rmtree(nexus.home / "pubsub")
    document = nexus.run(*RUN).succeeded().document
    assert document["status"] == "completed"
    assert document["effects"]["batches_created"] == 0
    assert document["rows_merged"] == 3_600
