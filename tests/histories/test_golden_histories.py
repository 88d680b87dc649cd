"""Courses that runs have taken or must survive, with what the saga has to decide at each step.

A step has the form of a line of ``saga_history``, so that the history of an incident can be kept
here as it is; ``decision`` null means that the event is not to be judged yet. ``phase`` is the
state's after the step.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from events.catalogue import BY_TYPE
from sagas.iteration import ITERATION

HISTORIES = sorted(Path(__file__).parent.glob("*.json"))
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def decided(decision):
    if decision.state is None:
        return None
    return {
        "commands": [{"type": event.type, "about": event.identity} for event in decision.commands],
        "timers": [
            {"type": timer.event.type, "after_seconds": timer.after_seconds}
            for timer in decision.timers
        ],
    }


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_the_saga_decides_as_it_did(path):
    history = json.loads(path.read_text())
    saga = {ITERATION.name: ITERATION}[history["saga"]]
    state = None
    for number, step in enumerate(history["steps"], start=1):
        event = BY_TYPE[step["event_type"]].model_validate(step["event"])
        decision = saga.decide(state, event, NOW)
        assert decided(decision) == step["decision"], f"step {number}: {event.type}"
        state = decision.state or state
        assert (state.phase if state else None) == step["phase"], f"step {number}: {event.type}"


def test_there_are_histories():
    assert len(HISTORIES) >= 8
