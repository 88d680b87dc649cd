"""What was published to a topic, in order, and the places in it up to which its readers have come.

A message is appended once, however many read it: a subscription, a snapshot and the topic's own
retention each stand at a place of their own. Messages that all have passed are given back to the
memory by themselves, since nobody refers to their part of the log any more.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

SEGMENT = 128


@dataclass(slots=True, eq=False)
class Message:
    """One published message, shared by all that hold it.

    Attributes:
        seq: The number under which it is stored; grows with every publish.
        topic: The number of the topic that it was published to.
        size: Of the body, in bytes.
        ordering_key: Empty where order does not matter.
        publish_time: Seconds since the epoch.
        body: The serialized `PubsubMessage`, id and publish time included; None while only the
            store has it.
        holders: How many subscriptions, topics and snapshots still need it.
    """

    seq: int
    topic: int
    size: int
    ordering_key: str
    publish_time: float
    body: bytes | None = None
    holders: int = 0


@dataclass(slots=True, eq=False)
class _Segment:
    """A part of a log: `first` is the position of its first message; the last one grows."""

    first: int
    messages: list[Message] = field(default_factory=list)
    following: "_Segment | None" = None


class Log:
    """The messages of a topic; only its end is known to it, the rest to who still reads it."""

    def __init__(self) -> None:
        self._last = _Segment(0)

    def extend(self, messages: Sequence[Message]) -> None:
        """Append messages; their numbers grow."""
        done = 0
        while done < len(messages):
            last = self._last
            room = SEGMENT - len(last.messages)
            if not room:
                last.following = self._last = _Segment(last.first + SEGMENT)
                continue
            last.messages += messages[done : done + room]
            done += room

    def end(self, start: int = 0) -> "Cursor":
        """Give the place after all that is there; see `Cursor` for `start`."""
        return Cursor(self, self._last, len(self._last.messages), start)

    def length(self) -> int:
        """Count what was ever appended."""
        return self._last.first + len(self._last.messages)


class Cursor:
    """A place in a log.

    Attributes:
        start: The reader is owed only messages with higher numbers.
        skipped: Numbers of messages further on that the reader is not owed (any more).
    """

    __slots__ = ("_index", "_log", "_segment", "skipped", "start")

    def __init__(self, log: Log, segment: _Segment, index: int, start: int) -> None:
        self._log = log
        self._segment = segment
        self._index = index
        self.start = start
        self.skipped: set[int] = set()

    def __len__(self) -> int:
        """Count what is further on."""
        here = self._segment.first + self._index
        return self._log.length() - here - len(self.skipped)

    def __iter__(self) -> Iterator[Message]:
        """Give what is further on, staying here."""
        segment: _Segment | None = self._segment
        index = self._index
        while segment is not None:
            for message in segment.messages[index:]:
                if message.seq not in self.skipped:
                    yield message
            segment, index = segment.following, 0

    def take(self) -> Message | None:
        """Give the next message and go past it."""
        while True:
            segment = self._segment
            if self._index < len(segment.messages):
                message = segment.messages[self._index]
                self._index += 1
                if not self.skipped or message.seq not in self.skipped:
                    return message
                self.skipped.discard(message.seq)
            elif segment.following is not None:
                self._segment, self._index = segment.following, 0
            else:
                return None

    def take_before(self, publish_time: float) -> Iterator[Message]:
        """Go past what was published before a time, giving it."""
        while (message := next(iter(self), None)) and message.publish_time < publish_time:
            self.take()
            yield message

    def after(self, seq: int) -> "Cursor":
        """Give the place behind the last message numbered at most `seq`, from here on."""
        segment, index = self._segment, self._index
        while segment.following is not None and segment.following.messages[0].seq <= seq:
            segment, index = segment.following, 0
        index = max(index, bisect_right(segment.messages, seq, key=lambda message: message.seq))
        return Cursor(self._log, segment, index, seq)

    def find(self, seq: int) -> Message | None:
        """Find a message further on by its number."""
        found = next(iter(self.after(seq - 1)), None)
        return found if found and found.seq == seq and seq not in self.skipped else None

    def skip(self, messages: Iterable[Message]) -> None:
        """Owe the reader these no more; they are further on, or about to be appended."""
        self.skipped.update(message.seq for message in messages)

    def go_to_end(self) -> None:
        """Go past everything."""
        end = self._log.end()
        self._segment, self._index = end._segment, end._index  # noqa: SLF001 - of the same class
        self.skipped.clear()
