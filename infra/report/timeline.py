"""The ledger's steps as lanes of a timeline, in seconds since the iteration began."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from statistics import median

import numpy as np
from numpy.typing import NDArray

from infra.ports import StepRecord, StepStatus

AGGREGATE_ABOVE = 48
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bar:
    """One step: asked for, begun and ended, in seconds since the start."""

    subject: str
    step: str
    status: StepStatus
    attempt: int
    owner: str
    reason: str | None
    asked: float
    begun: float
    ended: float | None

    @property
    def waited(self) -> float:
        """Seconds between the event that asked for it and the claim."""
        return self.begun - self.asked

    @property
    def worked(self) -> float | None:
        """Seconds between the claim and the end; None while it is under way."""
        return None if self.ended is None else self.ended - self.begun

    @property
    def label(self) -> str:
        """Subject and step."""
        return f"{self.subject} · {self.step}"

    @property
    def remarkable(self) -> bool:
        """Whether it took more than one try, or did not complete."""
        return self.attempt > 1 or self.status is not StepStatus.COMPLETED


@dataclass(frozen=True, slots=True)
class Lane:
    """One line of the timeline: a single step, or the same step of very many subjects."""

    label: str
    bars: tuple[Bar, ...]

    @property
    def single(self) -> bool:
        """Whether it shows one step only."""
        return len(self.bars) == 1

    @property
    def failed(self) -> int:
        """How many failed for good."""
        return sum(bar.status is StepStatus.FAILED for bar in self.bars)

    @property
    def completed(self) -> int:
        """How many completed."""
        return sum(bar.status is StepStatus.COMPLETED for bar in self.bars)

    @property
    def retried(self) -> int:
        """How many took more than one try."""
        return sum(bar.attempt > 1 for bar in self.bars)

    @property
    def waited_median(self) -> float:
        """Seconds that half of them waited at most."""
        return median(bar.waited for bar in self.bars)

    @property
    def waited_most(self) -> float:
        """Seconds of the longest wait."""
        return max(bar.waited for bar in self.bars)

    @property
    def worked_median(self) -> float | None:
        """Seconds that half of those that ended worked at most."""
        return median(self._works) if self._works else None

    @property
    def worked_most(self) -> float | None:
        """Seconds of the longest work that ended."""
        return max(self._works, default=None)

    @property
    def _works(self) -> list[float]:
        return [bar.worked for bar in self.bars if bar.worked is not None]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Every lane, and the span of time that they share."""

    start: datetime | None
    seconds: float
    lanes: tuple[Lane, ...]

    @property
    def bands(self) -> tuple[Lane, ...]:
        """The lanes that show many subjects at once."""
        return tuple(lane for lane in self.lanes if not lane.single)

    @property
    def listed(self) -> tuple[Bar, ...]:
        """The steps that are worth a row: single ones, and the remarkable ones of the bands."""
        return tuple(
            bar for lane in self.lanes for bar in lane.bars if lane.single or bar.remarkable
        )


def timeline_of(
    steps: Sequence[StepRecord],
    prefix: str,
    *,
    started_at: datetime | None = None,
    ended_at: datetime | None = None,
) -> Timeline:
    """Lanes in the order in which the kinds of work began.

    Args:
        steps: The ledger's records, in any order.
        prefix: What every subject begins with, such as ``smoke/0``.
        started_at: The zero of the axis; the first event's time where None.
        ended_at: The end of the axis, unless a step ended later.
    """
    moments = [at for step in steps for at in (step.cause.time, step.claimed_at, step.ended_at)]
    known = [at for at in (*moments, started_at, ended_at) if at is not None]
    if not known:
        return Timeline(None, 0.0, ())
    start = min(known)
    bars = tuple(_bar(step, prefix, start) for step in steps)
    return Timeline(start, (max(known) - start).total_seconds(), tuple(_lanes(bars)))


def in_slices(lane: Lane, seconds: float, slices: int = 300) -> tuple[Array, Array, Array]:
    """Edges of slices of time, and how many steps waited and worked at any moment of each.

    Returns:
        Edges in seconds, shape (slices + 1,); waiting and working, each of shape (slices,).
    """
    edges = np.linspace(0.0, max(seconds, 1e-9), slices + 1)
    asked = np.array([bar.asked for bar in lane.bars])
    begun = np.array([bar.begun for bar in lane.bars])
    ended = np.array([seconds if bar.ended is None else bar.ended for bar in lane.bars])
    return edges, _touching(asked, begun, edges), _touching(begun, ended, edges)


def peak(lane: Lane, seconds: float) -> int:
    """How many steps of a lane worked at the same moment, at most."""
    begun = np.array([bar.begun for bar in lane.bars])
    ended = np.array([seconds if bar.ended is None else bar.ended for bar in lane.bars])
    change = np.concatenate([np.ones(begun.size), -np.ones(ended.size)])
    order = np.lexsort((change, np.concatenate([begun, ended])))
    return int(np.cumsum(change[order]).max(initial=0))


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """A sort key that puts shard 2 before shard 10."""
    parts = re.split(r"(\d+)", text)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def _touching(starts: Array, ends: Array, edges: Array) -> Array:
    lasting = ends > starts
    begun = np.searchsorted(np.sort(starts[lasting]), edges[1:], side="left")
    over = np.searchsorted(np.sort(ends[lasting]), edges[:-1], side="right")
    return np.asarray(begun - over, dtype=np.float64)


def _bar(step: StepRecord, prefix: str, start: datetime) -> Bar:
    begun = (step.claimed_at - start).total_seconds()
    asked = (step.cause.time - start).total_seconds()
    ended = None if step.ended_at is None else (step.ended_at - start).total_seconds()
    subject = step.key.subject.removeprefix(prefix).strip("/").replace("/", " ")
    return Bar(
        subject=subject or "iteration",
        step=step.key.step,
        status=step.status,
        attempt=step.attempt,
        owner=step.owner,
        reason=step.reason,
        asked=min(asked, begun),
        begun=begun,
        ended=None if ended is None else max(ended, begun),
    )


def _lanes(bars: Iterable[Bar]) -> Iterable[Lane]:
    by_kind = groupby(sorted(bars, key=_kind), key=_kind)
    kinds = [tuple(members) for _, members in by_kind]
    for members in sorted(kinds, key=lambda some: min(bar.asked for bar in some)):
        yield from _bands(members) if len(members) > AGGREGATE_ABOVE else _singles(members)


def _kind(bar: Bar) -> tuple[str, str]:
    kind, _, name = bar.subject.partition(" ")
    return (kind, "") if name else (kind, bar.step)


def _singles(bars: Sequence[Bar]) -> list[Lane]:
    ordered = sorted(bars, key=lambda bar: (natural(bar.subject), bar.asked, bar.begun, bar.step))
    return [Lane(bar.label, (bar,)) for bar in ordered]


def _bands(bars: Sequence[Bar]) -> list[Lane]:
    def step(bar: Bar) -> str:
        return bar.step

    bands = [
        (name, tuple(sorted(some, key=lambda bar: natural(bar.subject))))
        for name, some in groupby(sorted(bars, key=step), key=step)
    ]
    ordered = sorted(bands, key=lambda band: min(bar.asked for bar in band[1]))
    kind = bars[0].subject.partition(" ")[0]
    return [Lane(f"{kind} · {name} ({len(some):,})", some) for name, some in ordered]
