"""Which gates an operator may waive."""

import pytest

from events.model import GateVerdict
from infra.errors import InputError
from nexus.waive import may_be_waived


def verdict(*, passed: bool, holds: bool = True) -> GateVerdict:
    return GateVerdict(
        number=8,
        name="invariance",
        value=2.0,
        threshold="no item",
        passed=passed,
        holds=holds,
        reason="two items",
    )


def test_a_gate_that_holds_the_family_may_be_waived() -> None:
    held = verdict(passed=False)
    assert may_be_waived(held, []) is held


def test_a_gate_that_was_waived_is_taken_again_whatever_it_says_now() -> None:
    passed = verdict(passed=True)
    assert may_be_waived(passed, [{"number": 8}]) is passed
    with pytest.raises(InputError):
        may_be_waived(passed, [{"number": 9}])


@pytest.mark.parametrize(
    ("gate", "word"),
    [(verdict(passed=True), "was passed"), (verdict(passed=False, holds=False), "is advisory")],
)
def test_a_gate_that_holds_nothing_is_refused(gate: GateVerdict, word: str) -> None:
    with pytest.raises(InputError, match=rf"gate 8 \(invariance\) {word}: it holds nothing back"):
        may_be_waived(gate, [])
