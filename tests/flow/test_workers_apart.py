"""Producers and workers in processes of their own."""

import signal

from infra.ports import StepStatus
from tests.support.programs import children_of_training, until

REST = "shards,batches,merge,promotion,network,audit,iteration"


def assert_quiet_end(running, seconds=15):
    """It puts its things away within seconds, exits 0 and leaves no traceback."""
    running.signal(signal.SIGTERM)
    ended = running.ended(seconds)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err


def serve(nexus, *arguments, **env):
    running = nexus.start("serve", *arguments, "--json", **env)
    assert running.ready_document()["serving"]
    return running


def assert_completed(document, iteration):
    assert document["iteration"] == iteration
    assert document["status"] == "completed"
    assert document["shards"] == {"requested": 6, "merged": 6, "failed": 0}
    assert document["rows_merged"] == 3_600


def test_an_iteration_is_carried_out_by_separate_processes(nexus, bus):
    workers = [
        serve(nexus, "--only", "training,reports", **bus),
        serve(nexus, "--only", REST, **bus),
    ]
    watching = nexus.start("status", "2", "--watch", "--json", **bus)
    started = nexus.run("start", "2", "--method", "mml", "--json", **bus).succeeded()
    assert started.document == {"iteration": 2, "started": True, "replayed": False}
    assert_completed(watching.ended().succeeded().document, 2)
    again = nexus.run("start", "2", "--method", "mml", "--json", **bus).succeeded()
    assert again.document == {"iteration": 2, "started": False, "replayed": True}
    other = nexus.run("start", "2", "--method", "nuts", **bus)
    assert other.code == 2
    assert "other parameters" in other.err
    for worker in workers:
        assert_quiet_end(worker)
    assert nexus.rows("SELECT count(*) FROM grades") == [(3_600,)]


def test_work_of_a_stopped_worker_is_handed_over(nexus, bus):
    """Of two workers that do all, the one that trains is stopped in the middle."""
    workers = {str(each.process.pid): each for each in (serve(nexus, **bus), serve(nexus, **bus))}
    # by NUTS: a fit by maximum likelihood may end within the time that a stop gives it
    nexus.run("start", "2", **bus).succeeded()
    training = "smoke/2/family/openness/training"

    def claimed():
        step = nexus.steps("smoke/2").get(training)
        return step if step is not None and step.status is StepStatus.CLAIMED else None

    first = until(claimed, "the training to be claimed")
    until(lambda: children_of_training(nexus.home), "the training to start")
    assert_quiet_end(workers.pop(first.owner.rpartition("/")[2]))
    assert_completed(nexus.run("status", "2", "--watch", "--json").succeeded().document, 2)
    done = nexus.steps("smoke/2")[training]
    assert (done.status, done.attempt) == (StepStatus.COMPLETED, 2)
    ((left, worker),) = workers.items()
    assert done.owner.rpartition("/")[2] == left
    assert_quiet_end(worker)
    assert children_of_training(nexus.home) == []


def test_a_home_keeps_what_was_started_until_a_worker_comes(nexus):
    """No server apart: the bus is in the home, and whoever comes first runs it."""
    nexus.run("start", "3", "--method", "mml").succeeded()
    assert nexus.run("status", "3", "--json").succeeded().document["status"] == "running"
    first = serve(nexus)
    second = serve(nexus)  # joins the first one's server
    running = nexus.run("status", "3", "--json").succeeded().document
    assert running["status"] == "running"
    assert_completed(nexus.run("status", "3", "--watch", "--json").succeeded().document, 3)
    assert_quiet_end(second)
    assert_quiet_end(first)


def test_an_unknown_handler_is_refused(nexus):
    ended = nexus.run("serve", "--only", "training,gardening")
    assert ended.code == 2
    assert "gardening" in ended.err
    assert "promotion" in ended.err


def test_a_database_that_is_not_there_is_said(nexus):
    ended = nexus.run("start", "2", NEXUS_LEDGER="postgresql://nobody@127.0.0.1:1/none")
    assert ended.code == 3
    assert "127.0.0.1" in ended.err
    assert "Traceback" not in ended.err
