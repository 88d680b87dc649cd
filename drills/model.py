"""What a drill is, and what it says."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.ports import Ports
from infra.settings import Settings

Mutate = Callable[[Ports], Ports]


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold."""

    name: str
    expected: Any
    observed: Any

    @property
    def passed(self) -> bool:
        """Whether it held."""
        return bool(self.expected == self.observed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a drill did and saw."""

    checks: tuple[Check, ...]
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True)
class Drill:
    """A fault on purpose.

    Attributes:
        name: What the command line calls it.
        summary: One line.
        run: ``(settings of a home of its own, seed, mutant) -> Outcome``.
        mutants: Known-bad changes of the system that make the drill fail.
    """

    name: str
    summary: str
    run: Callable[[Settings, int, Mutate], Awaitable[Outcome]]
    mutants: Mapping[str, Mutate]
