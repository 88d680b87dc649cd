"""The log of a topic and the places in it."""

import weakref

import pytest

from embedded_pubsub.log import SEGMENT, Log, Message, _Segment


def message(seq):
    return Message(seq, 1, 10, "", float(seq))


def log_of(count, log=None):
    log = log or Log()
    for seq in range(1, count + 1):
        log.extend([message(seq)])
    return log


def seqs(messages):
    return [each.seq for each in messages]


@pytest.mark.parametrize("batch", [1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT])
def test_readers_get_everything_in_order_whatever_the_batches(batch):
    log, numbers = Log(), range(1, 4 * SEGMENT)
    first = log.end()
    for start in range(0, len(numbers), batch):
        log.extend([message(seq) for seq in numbers[start : start + batch]])
    assert len(first) == len(numbers)
    assert seqs(first) == list(numbers)
    assert [first.take().seq for _ in numbers] == list(numbers)
    assert first.take() is None
    log.extend([message(9999)])
    assert first.take().seq == 9999


def test_each_reader_stands_at_a_place_of_its_own():
    log = Log()
    early = log.end()
    log_of(300, log)
    late = log.end()
    early.take()
    log.extend([message(301)])
    assert (len(early), len(late)) == (300, 1)
    assert seqs(late) == [301]


def test_skipped_messages_are_not_to_be_had():
    log = Log()
    reader = log.end()
    log_of(5, log)
    reader.skip([message(1), message(3)])
    assert (len(reader), seqs(reader)) == (3, [2, 4, 5])
    assert reader.find(3) is None
    assert [reader.take().seq for _ in range(3)] == [2, 4, 5]
    assert (len(reader), reader.skipped) == (0, set())


@pytest.mark.parametrize("seq", [0, 1, 5, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 299, 300, 301])
def test_place_after_a_number(seq):
    log = Log()
    first = log.end()
    log_of(300, log)
    after = first.after(seq)
    assert seqs(after) == list(range(seq + 1, 301))
    found = first.find(seq)
    assert found.seq == seq if 1 <= seq <= 300 else found is None


def test_what_is_old_is_passed():
    log = Log()
    reader = log.end()
    log_of(300, log)
    reader.skip([message(2)])
    assert seqs(reader.take_before(200)) == [1, *range(3, 200)]
    assert reader.take().seq == 200


def test_end_leaves_everything_behind():
    log = Log()
    reader = log.end()
    log_of(300, log)
    reader.skip([message(300)])
    reader.go_to_end()
    assert (len(reader), reader.take()) == (0, None)


def test_parts_that_all_have_passed_are_given_back():
    class Watched(_Segment):
        __slots__ = ("__weakref__",)

    log = Log()
    log._last = Watched(0)
    part = weakref.ref(log._last)
    readers = [log.end(), log.end()]
    log_of(2 * SEGMENT, log)
    for reader in readers:
        assert part() is not None
        for _ in range(SEGMENT + 1):
            reader.take()
    assert part() is None
