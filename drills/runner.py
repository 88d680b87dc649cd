"""Runs drills, each in a home of its own."""

import shutil
from typing import Any

from drills.catalogue import DRILLS
from drills.model import Check, Drill, Mutate, Outcome
from infra.errors import InputError
from infra.settings import Settings

Document = dict[str, Any]


def unchanged(ports: Any) -> Any:  # noqa: ANN401 - the ports themselves
    """No mutant."""
    return ports


def chosen(names: list[str], *, every: bool, mutant: str | None) -> list[tuple[Drill, Mutate]]:
    """The drills that are asked for. Raises InputError when one, or the mutant, is unknown."""
    if every == bool(names):
        raise InputError("name one or more drills, or give --all: nexus drill list shows them")
    unknown = sorted(set(names) - set(DRILLS))
    if unknown:
        raise InputError(f"drill {unknown[0]!r} is unknown: use {', '.join(DRILLS)}")
    return [(DRILLS[name], _mutate(DRILLS[name], mutant)) for name in names or DRILLS]


def _mutate(drill: Drill, mutant: str | None) -> Mutate:
    if mutant is None:
        return unchanged
    if mutant not in drill.mutants:
        raise InputError(
            f"drill {drill.name!r} has no mutant {mutant!r}: use {', '.join(drill.mutants)}"
        )
    return drill.mutants[mutant]


async def run_drill(drill: Drill, mutate: Mutate, *, seed: int, settings: Settings) -> Document:
    """Run one drill from an empty home below the settings' own."""
    home = settings.home / "drills" / f"{drill.name}-{seed}"
    shutil.rmtree(home, ignore_errors=True)
    own = Settings(
        home=home,
        ledger="",
        warehouse="",
        objects="",
        mail="",
        topic_prefix=f"{settings.topic_prefix}{drill.name}-",
        claim_lease_seconds=settings.claim_lease_seconds,
        log_level=settings.log_level,
    )
    try:
        outcome = await drill.run(own, seed, mutate)
    except TimeoutError:
        outcome = Outcome((Check("ended in time", expected=True, observed=False),), ())
    return _document(drill, seed, outcome)


def _document(drill: Drill, seed: int, outcome: Outcome) -> Document:
    return {
        "drill": drill.name,
        "seed": seed,
        "passed": outcome.passed,
        "checks": [
            {
                "name": check.name,
                "expected": check.expected,
                "observed": check.observed,
                "passed": check.passed,
            }
            for check in outcome.checks
        ],
        "faults": list(outcome.faults),
    }
