"""What one subscription still owes its subscribers: the delivery state machine.

Pure: no socket, no task, no clock. Every method that depends on time is told what time it is
(seconds since the epoch). A message is in the topic's log until it is first wanted; from then on
it is ready, waits (for its backoff, or for an earlier message of its ordering key), or is leased
to a consumer under an ack id until a deadline.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, takewhile

from embedded_pubsub.leases import (
    UNLIMITED,
    Consumer,
    DeliveryPolicy,
    Entry,
    Lease,
    OrderedKey,
    parse_ack_id,
)
from embedded_pubsub.log import Cursor, Message


class Backlog:
    """The unsettled messages of a subscription and the leases on them.

    What leaves it is left in `settled` (acknowledged, for good) and `exhausted` (failed as often
    as the dead-letter policy allows), for the owner to collect.

    Args:
        number: Of the subscription; part of its ack ids.
        policy: Its settings.
        delivery_numbers: Never the same twice.
        log: The place in the topic's log up to which messages were taken; None where every
            message is handed in with `add`.
    """

    def __init__(
        self,
        number: int,
        policy: DeliveryPolicy,
        delivery_numbers: Iterator[int],
        log: Cursor | None = None,
    ) -> None:
        self.policy = policy
        self.log = log
        self.failures: Mapping[int, int] = {}
        """Failed deliveries from before a restart, by the number of the message."""
        self.first_delivery = 0
        """Deliveries with lower numbers are void: not even a late ack of theirs counts."""
        self.entries: dict[int, Entry] = {}
        self.leases: dict[str, Lease] = {}
        self.settled: list[Message] = []
        self.exhausted: list[Entry] = []
        self._number = number
        self._delivery_numbers = delivery_numbers
        self._ready: deque[Entry | OrderedKey] = deque()
        self._delayed: list[tuple[float, int, Entry | OrderedKey]] = []
        self._timers: list[tuple[float, int, Lease]] = []
        self._keys: dict[str, OrderedKey] = {}

    def __len__(self) -> int:
        """Count the messages that are owed."""
        return len(self.entries) + (len(self.log) if self.log is not None else 0)

    def messages(self) -> Iterator[Message]:
        """Give the messages that are owed, those out of the log first."""
        return chain((entry.message for entry in self.entries.values()), self.log or ())

    def add(self, message: Message) -> None:
        """Owe a message."""
        entry = self._enter(message)
        if not (self.policy.ordered and message.ordering_key):
            self._ready.append(entry)
            return
        name = message.ordering_key
        entry.key = self._keys.setdefault(name, OrderedKey(name))
        entry.key.waiting.append(entry)
        self._enqueue(entry.key)

    def take(
        self, consumer: Consumer, now: float, max_messages: int, max_bytes: int = UNLIMITED
    ) -> list[Lease]:
        """Lease ready messages, at least one if there is one and flow control allows it.

        Args:
            consumer: Who gets them.
            now: The time, in seconds.
            max_messages: At most so many.
            max_bytes: Stop once the bodies add up to this.
        """
        leases: list[Lease] = []
        size = 0
        while len(leases) < max_messages and size < max_bytes and consumer.has_room():
            entry = self._next(consumer, now)
            if entry is None:
                break
            leases.append(self._lease(entry, consumer, now))
            size += entry.message.size
        return leases

    def acknowledge(self, ack_ids: Iterable[str], now: float) -> list[str]:
        """Settle deliveries; gives the ack ids whose lease is over.

        Without exactly-once delivery an ack that comes late still counts where nothing can go
        wrong by it, which saves a duplicate; with it, or in an ordered key, it doesn't.
        """
        stale: list[str] = []
        for ack_id in ack_ids:
            lease = self._live_lease(ack_id, now)
            if lease is not None:
                self._acknowledge(lease.entry)
            else:
                stale.append(ack_id)
                self._acknowledge_late(ack_id)
        return stale

    def modify_deadline(self, ack_id: str, seconds: float, now: float) -> bool:
        """Extend or shorten a lease; 0 gives the message back. False: the lease is over."""
        lease = self._live_lease(ack_id, now)
        if lease is None:
            return False
        if seconds <= 0:
            self._fail(lease, now)
            return True
        lease.deadline = now + seconds
        if lease.deadline < lease.timer:
            self._watch(lease)
        return True

    def tick(self, now: float) -> None:
        """Take back leases that ran out, and let go of messages whose backoff is over."""
        while self._timers and self._timers[0][0] <= now:
            timer, _, lease = heapq.heappop(self._timers)
            if lease.entry.lease is not lease or timer != lease.timer:
                continue
            if lease.deadline > now:
                self._watch(lease)
            else:
                self._fail(lease, now)
        while self._delayed and self._delayed[0][0] <= now:
            self._wake(heapq.heappop(self._delayed)[2], now)

    def next_due(self) -> float | None:
        """Give the time at which `tick` has something to do, in seconds since the epoch."""
        dues = [heap[0][0] for heap in (self._timers, self._delayed) if heap]
        return min(dues, default=None)

    def settle(self, entry: Entry) -> None:
        """End a message's stay: acked, dead-lettered, expired or sought past."""
        if entry.settled:
            return
        entry.settled = True
        if entry.lease is not None:
            self._release(entry.lease)
        del self.entries[entry.message.seq]
        self.settled.append(entry.message)
        if entry.key is not None:
            self._advance(entry.key)

    def retry(self, entry: Entry, now: float) -> None:
        """Have a failed message delivered again, with all later ones of its ordering key."""
        delay = self.policy.backoff.delay_seconds(entry.failures) if self.policy.backoff else 0.0
        if entry.key is not None:
            self._rewind(entry.key, entry, now + delay)
        elif delay > 0:
            self._delay(entry, now + delay)
        else:
            self._ready.append(entry)

    def expire(self, before: float) -> None:
        """Settle what was published before a time."""
        old = takewhile(lambda each: each.message.publish_time < before, self.entries.values())
        for entry in list(old):
            self.settle(entry)
        if self.log is not None:
            self.settled.extend(self.log.take_before(before))

    def fetch_all(self) -> None:
        """Take everything out of the log."""
        while self._fetch():
            pass

    def refill(self, messages: Iterable[Message]) -> None:
        """Start over with these messages, in this order; every lease is void, late acks too."""
        self.first_delivery = next(self._delivery_numbers)
        if self.log is not None:
            self.log.go_to_end()
        for lease in list(self.leases.values()):
            self._release(lease)
        for key in self._keys.values():
            if key.consumer is not None:
                key.consumer.keys.pop(key, None)
        self.failures = {seq: entry.failures for seq, entry in self.entries.items()}
        for container in (self.entries, self._ready, self._delayed, self._timers, self._keys):
            container.clear()
        for message in messages:
            self.add(message)

    def clear(self) -> None:
        """Owe nothing, and nothing that is published from now on."""
        self.refill([])
        self.log = None

    # Leases

    def _lease(self, entry: Entry, consumer: Consumer, now: float) -> Lease:
        number = next(self._delivery_numbers)
        ack_id = f"{self._number}-{entry.message.seq}-{number}"
        seconds = consumer.ack_deadline_seconds or self.policy.ack_deadline_seconds
        lease = Lease(ack_id, entry, consumer, now + seconds, now + seconds)
        heapq.heappush(self._timers, (lease.timer, number, lease))
        entry.lease = lease
        self.leases[ack_id] = lease
        consumer.outstanding_messages += 1
        consumer.outstanding_bytes += entry.message.size
        return lease

    def _watch(self, lease: Lease) -> None:
        lease.timer = lease.deadline
        heapq.heappush(self._timers, (lease.timer, next(self._delivery_numbers), lease))

    def _release(self, lease: Lease) -> None:
        del self.leases[lease.ack_id]
        lease.entry.lease = None
        lease.consumer.outstanding_messages -= 1
        lease.consumer.outstanding_bytes -= lease.entry.message.size
        if len(self._timers) > 2 * len(self.leases) + 1000:
            self._timers = [item for item in self._timers if self._is_current(item)]
            heapq.heapify(self._timers)

    @staticmethod
    def _is_current(item: tuple[float, int, Lease]) -> bool:
        timer, _, lease = item
        return lease.entry.lease is lease and lease.timer == timer

    def _live_lease(self, ack_id: str, now: float) -> Lease | None:
        lease = self.leases.get(ack_id)
        if lease is None or (self.policy.exactly_once and lease.deadline <= now):
            return None
        return lease

    def _fail(self, lease: Lease, now: float) -> None:
        entry = lease.entry
        entry.failures += 1
        self._release(lease)
        if 0 < self.policy.max_delivery_attempts <= entry.failures:
            self.exhausted.append(entry)
        else:
            self.retry(entry, now)

    def _acknowledge(self, entry: Entry) -> None:
        key = entry.key
        if key is None or self.policy.exactly_once or not key.sent or key.sent[0] is entry:
            self.settle(entry)
            return
        entry.acked = True
        if entry.lease is not None:
            self._release(entry.lease)

    def _acknowledge_late(self, ack_id: str) -> None:
        if self.policy.exactly_once:
            return
        subscription, seq, delivery = parse_ack_id(ack_id)
        if subscription != self._number or delivery < self.first_delivery:
            return
        entry = self.entries.get(seq)
        if entry is not None and entry.key is None:
            self.settle(entry)
        if entry is None and self.log is not None:
            self._settle_in_log(self.log, seq)

    def _settle_in_log(self, log: Cursor, seq: int) -> None:
        message = log.find(seq)
        if message is not None and not (self.policy.ordered and message.ordering_key):
            log.skip([message])
            self.settled.append(message)

    # What is ready

    def _next(self, consumer: Consumer, now: float) -> Entry | None:
        """Give what comes next: with each message that comes again, one comes out of the log."""
        while True:
            if not self._ready and not consumer.keys and not self.policy.ordered:
                message = self.log.take() if self.log is not None else None
                return self._enter(message) if message is not None else None
            fetched = self._fetch()
            entry = self._next_of_keys(consumer, now) or self._next_ready(consumer, now)
            if entry is not None or not fetched:
                return entry

    def _enter(self, message: Message) -> Entry:
        entry = Entry(message, self.failures.get(message.seq, 0) if self.failures else 0)
        self.entries[message.seq] = entry
        return entry

    def _fetch(self) -> bool:
        message = self.log.take() if self.log is not None else None
        if message is None:
            return False
        self.add(message)
        return True

    def _next_of_keys(self, consumer: Consumer, now: float) -> Entry | None:
        while consumer.keys:
            entry = self._next_of(next(iter(consumer.keys)), consumer, now)
            if entry is not None:
                return entry
        return None

    def _next_ready(self, consumer: Consumer, now: float) -> Entry | None:
        while self._ready:
            item = self._ready.popleft()
            entry = item if isinstance(item, Entry) else self._next_of(item, consumer, now)
            if entry is not None and not entry.settled and entry.lease is None:
                return entry
        return None

    def _next_of(self, key: OrderedKey, consumer: Consumer, now: float) -> Entry | None:
        consumer.keys.pop(key, None)
        key.queued = False
        if key.due > now:
            key.queued = True
            self._delay(key, key.due)
            return None
        while key.waiting and key.waiting[0].settled:
            key.waiting.popleft()
        if not key.waiting:
            self._advance(key)
            return None
        entry = key.waiting.popleft()
        key.sent.append(entry)
        key.consumer = consumer
        self._enqueue(key)
        return entry

    def _enqueue(self, key: OrderedKey) -> None:
        if key.queued or not key.waiting:
            return
        key.queued = True
        if key.consumer is None:
            self._ready.append(key)
        else:
            key.consumer.keys[key] = None

    def _advance(self, key: OrderedKey) -> None:
        """Drop what is settled at the front of a key, and free the key if nothing is out."""
        while key.sent and (key.sent[0].settled or key.sent[0].acked):
            entry = key.sent.popleft()
            if not entry.settled:
                entry.settled = True
                del self.entries[entry.message.seq]
                self.settled.append(entry.message)
        while key.waiting and key.waiting[0].settled:
            key.waiting.popleft()
        if not key.sent:
            self._unbind(key)

    def _unbind(self, key: OrderedKey) -> None:
        if key.consumer is not None and key in key.consumer.keys:
            del key.consumer.keys[key]
            key.queued = False
        key.consumer = None
        if key.waiting:
            self._enqueue(key)
        elif not key.queued:
            self._keys.pop(key.name, None)

    def _rewind(self, key: OrderedKey, entry: Entry, due: float) -> None:
        again: deque[Entry] = deque()
        while key.sent and (not again or again[0] is not entry):
            again.appendleft(key.sent.pop())
        for later in again:
            later.acked = False
            if later.lease is not None:
                self._release(later.lease)
        key.waiting.extendleft(reversed([later for later in again if not later.settled]))
        key.due = max(key.due, due)
        if key.sent:
            self._enqueue(key)
        else:
            self._unbind(key)

    def _delay(self, item: Entry | OrderedKey, due: float) -> None:
        heapq.heappush(self._delayed, (due, next(self._delivery_numbers), item))

    def _wake(self, item: Entry | OrderedKey, now: float) -> None:
        if isinstance(item, Entry):
            self._ready.append(item)
        elif item.due > now:
            self._delay(item, item.due)
        else:
            item.queued = False
            self._enqueue(item)
