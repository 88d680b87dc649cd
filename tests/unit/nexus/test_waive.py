"""Which gates an operator may waive, and that a waiver is kept once."""

import pytest

from events.catalogue import GateWaived
from events.cloudevents import decode
from events.model import GateVerdict
from infra.errors import InputError
from nexus.waive import may_be_waived, record


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


async def test_the_first_waiver_stands_and_is_published_again_for_a_bus_that_lost_it(world) -> None:
    def waived(reason: str) -> GateWaived:
        return GateWaived(
            iteration=1,
            family="openness",
            number=8,
            gate="invariance",
            reason=reason,
            waived_by="ada@host",
            waived_at=world.ports.clock(),
        )

    assert await record(waived("two are enough"), world.ports)
    assert not await record(waived("another"), world.ports)
    first, again = world.publisher.published
    assert again == first
    kept = decode(first.data, first.attributes, GateWaived).event
    assert kept.reason == "two are enough"
