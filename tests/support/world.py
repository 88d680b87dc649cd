"""A world for handlers and sagas: the real ledger, a clock by hand, a publisher that remembers."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from events.cloudevents import Envelope
from events.model import Event
from infra.ports import Outgoing, Ports, Retrying

START = datetime(2026, 11, 21, 3, 4, 5, tzinfo=UTC)
RETRYING = Retrying(lease_seconds=9.0, redeliver_seconds=2.0)
KEEPING_SECONDS = RETRYING.lease_seconds / 3


class HandClock:
    """Time that passes only when it is told to, or slept through."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Sleeper:
    """Pauses end at once, and are remembered; those between renewals last until ``renew``."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self._renewals: asyncio.Queue[None] = asyncio.Queue()
        self.pauses: list[float] = []

    async def __call__(self, seconds: float) -> None:
        if seconds == KEEPING_SECONDS:
            await self._renewals.get()
            return
        self.pauses.append(seconds)
        self._clock.advance(seconds)
        await asyncio.sleep(0)

    def renew(self) -> None:
        self._renewals.put_nowait(None)


class RecordingPublisher:
    """Remembers what was published; refuses all while ``broken``, and topics in ``refused``."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.broken = False
        self.refused: set[str] = set()
        self.changed = asyncio.Condition()

    async def publish(self, outgoing: Sequence[Outgoing]) -> tuple[str, ...]:
        await asyncio.sleep(0)
        taken = [] if self.broken else [e for e in outgoing if e.topic not in self.refused]
        self.published.extend(taken)
        async with self.changed:
            self.changed.notify_all()
        return tuple(event.id for event in taken)

    async def wait_for(self, count: int) -> None:
        """Until so many events are published; fails after half a minute."""
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: len(self.published) >= count)

    def ids(self, topic: str | None = None) -> list[str]:
        return [event.id for event in self.published if topic in {None, event.topic}]

    def topics(self) -> list[str]:
        return [event.topic for event in self.published]


@dataclass
class World:
    """The parts of the ports that a test looks into."""

    ledger: Any
    clock: HandClock = field(default_factory=HandClock)
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)
    sleeper: Sleeper = field(init=False)
    ports: Ports = field(init=False)

    def __post_init__(self) -> None:
        self.sleeper = Sleeper(self.clock)
        self.ports = self.ports_with()

    def ports_with(self, **parts: Any) -> Ports:
        absent = dict.fromkeys(("warehouse", "objects", "batch", "trainer", "mailer"))
        known = {
            **absent,
            "ledger": self.ledger,
            "publisher": self.publisher,
            "clock": self.clock,
            "sleep": self.sleeper,
            "random": random.Random(1),
            "owner": "worker-1",
            "retrying": RETRYING,
        }
        return Ports(**{**known, **parts})

    def envelope(self, event: Event, event_id: str = "event-1") -> Envelope[Any]:
        return Envelope(event, event_id, "/test", event.type, event.subject, self.clock())
