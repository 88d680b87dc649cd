"""``nexus run`` killed at random moments: it completes, with nothing lost and nothing twice."""

import os
import random
import subprocess
import time
from dataclasses import dataclass, field

import pytest

from infra.ports import StepRecord, StepStatus
from tests.support.programs import Nexus, children_of_training, until

KILLS = int(os.environ.get("NEXUS_TEST_KILLS", "6"))
SEED = int(os.environ.get("NEXUS_TEST_KILL_SEED", "20"))
KILLS_OF_ONE_RUN = 4
TWICE = {
    "grades": "namespace, iteration, shard_index, family, persona, session, turn, construct",
    "calibration_metrics": "namespace, iteration, family, item",
    "invariance": "namespace, iteration, family, level",
    "promotions": "namespace, iteration, family",
}

GRADES = (
    "SELECT shard_index, family, persona, session, turn, construct, grade FROM grades "
    "WHERE iteration = {} ORDER BY ALL"
)


def run_of(iteration):
    return ("run", "--iteration", str(iteration), "--method", "mml", "--json")


@dataclass
class Victim:
    """One home whose runs are killed; remembers what was done at each kill."""

    nexus: Nexus
    kept: dict[int, dict[str, StepRecord]] = field(default_factory=dict)

    def run_and_kill(self, iteration, after_seconds):
        """Kill the run after so long; None, or how it ended if it was faster."""
        running = self.nexus.start(*run_of(iteration))
        try:
            running.process.wait(after_seconds)
        except subprocess.TimeoutExpired:
            running.kill()
            until(lambda: not children_of_training(self.nexus.home), "the training to end")
            self.remember(iteration)
            return None
        return running.ended().succeeded().document

    def complete(self, iteration):
        document = self.nexus.run(*run_of(iteration)).succeeded().document
        self.remember(iteration)
        return document

    def remember(self, iteration):
        """What is done now; what was done before must be as it was."""
        steps = self.nexus.steps(f"smoke/{iteration}")
        done = {key: step for key, step in steps.items() if step.status is StepStatus.COMPLETED}
        for key, step in self.kept.get(iteration, {}).items():
            assert done[key] == step, f"{key} was done again"
        self.kept[iteration] = done


def moments(length_seconds):
    """One in each equal part of the run, in random order."""
    draw = random.Random(SEED)
    parts = [(part + draw.random()) / KILLS * length_seconds for part in range(KILLS)]
    draw.shuffle(parts)
    return parts


@pytest.mark.timeout(1_800)
def test_kills_lose_nothing_and_repeat_nothing(new_nexus, record_property):
    settings = {"NEXUS_CLAIM_LEASE_SECONDS": "1.5"}
    calm = new_nexus(**settings)
    calm.run(*run_of(9)).succeeded()  # compiles what the measured run then finds
    began = time.monotonic()
    undisturbed = calm.run(*run_of(0)).succeeded().document
    length_seconds = time.monotonic() - began

    victim, ended, told = Victim(new_nexus(**settings)), {}, []
    waiting = moments(length_seconds)
    while waiting:
        iteration, kills = len(ended), 0
        while waiting and kills < KILLS_OF_ONE_RUN and iteration not in ended:
            document = victim.run_and_kill(iteration, waiting[0])
            if document is None:
                told.append(f"{iteration}: {waiting.pop(0):.1f} s, {len(victim.kept[iteration])}")
                kills += 1
            else:
                ended[iteration] = document  # faster than before: the kill comes earlier then
                waiting[0] *= 0.7
        began = time.monotonic()
        if iteration not in ended:
            ended[iteration] = victim.complete(iteration)
        told.append(f"{iteration}: ended, {time.monotonic() - began:.1f} s")
    assert len([line for line in told if "ended" not in line]) == KILLS
    record_property("undisturbed_seconds", length_seconds)
    record_property("kills", told)
    print(f"\n{KILLS} kills of runs of {length_seconds:.1f} s", *told, sep="\n  ")  # noqa: T201 - the figures are what a person runs it for

    for iteration, document in ended.items():
        assert_whole(document, iteration, victim.nexus)
        assert receipts(document, {"shards", "batches"}) == receipts(
            undisturbed, {"shards", "batches"}
        )
    assert ended[0]["receipts"] == undisturbed["receipts"]
    assert_rows(calm.rows(GRADES.format(0)), victim.nexus, ended)


def assert_whole(document, iteration, nexus):
    """All shards are in, by one batch job each; the family is calibrated."""
    assert document["status"] == "completed"
    assert document["shards"] == {"requested": 6, "merged": 6, "failed": 0}
    assert document["rows_merged"] == 3_600
    records = [
        path.read_text()
        for path in (nexus.home / "batch").glob("*.json")
        if not path.name.endswith(".outcome.json")
    ]
    for shard in range(6):
        named = f'"nexus/smoke/{iteration}/shard/{shard}"'
        assert sum(named in record for record in records) == 1


def assert_rows(undisturbed, nexus, ended):
    """Each iteration has the undisturbed run's rows, and no table a key twice."""
    assert len(undisturbed) == 3_600
    for iteration in ended:
        assert nexus.rows(GRADES.format(iteration)) == undisturbed
    counted = {"grades": 3_600, "calibration_metrics": 6, "invariance": 3, "promotions": 1}
    for table, key in TWICE.items():
        assert nexus.rows(f"SELECT count(*) FROM {table}") == [(counted[table] * len(ended),)]
        twice = f"SELECT count(*) FROM (SELECT 1 FROM {table} GROUP BY {key} HAVING count(*) > 1)"
        assert nexus.rows(twice) == [(0,)], table


def receipts(document, steps):
    """What does not name its iteration is the same in each."""
    return [one for one in document["receipts"] if one["step"] in steps]
