"""The delivery state machine of one subscription: no socket, no clock."""

import random
from dataclasses import replace
from itertools import count

import pytest

from embedded_pubsub.delivery import Backlog
from embedded_pubsub.errors import InvalidArgumentError
from embedded_pubsub.leases import Backoff, Consumer, DeliveryPolicy
from embedded_pubsub.log import Message

PLAIN = DeliveryPolicy(ack_deadline_seconds=10)
ORDERED = replace(PLAIN, ordered=True)


def message(seq, key="", size=10):
    return Message(seq, 1, size, key, float(seq))


def backlog_of(*messages, policy=PLAIN):
    backlog = Backlog(7, policy, count(100))
    for each in messages:
        backlog.add(each)
    return backlog


def seqs(leases):
    return [lease.entry.message.seq for lease in leases]


def take(backlog, consumer=None, now=0.0, limit=100):
    return backlog.take(consumer or Consumer(), now, limit)


def settled(backlog):
    return [each.seq for each in backlog.settled]


def test_leases_in_the_order_of_publishing_and_only_once():
    backlog = backlog_of(*map(message, range(5)))
    assert seqs(take(backlog, limit=3)) == [0, 1, 2]
    assert seqs(take(backlog)) == [3, 4]
    assert take(backlog) == []


def test_ack_settles():
    backlog = backlog_of(message(1))
    (lease,) = take(backlog)
    assert backlog.acknowledge([lease.ack_id], 1) == []
    assert settled(backlog) == [1]
    assert not backlog.entries
    backlog.tick(1000)
    assert take(backlog, now=1000) == []


def test_lease_runs_out_at_its_deadline():
    backlog = backlog_of(message(1))
    (first,) = take(backlog)
    backlog.tick(9.99)
    assert take(backlog, now=9.99) == []
    assert backlog.next_due() == 10
    backlog.tick(10)
    (second,) = take(backlog, now=10)
    assert second.ack_id != first.ack_id
    assert second.entry.failures == 1


def test_consumers_own_deadline_goes_before_the_subscriptions():
    backlog = backlog_of(message(1))
    take(backlog, Consumer(ack_deadline_seconds=30))
    assert backlog.next_due() == 30


def test_lease_is_extended_and_shortened():
    backlog = backlog_of(message(1))
    (lease,) = take(backlog)
    assert backlog.modify_deadline(lease.ack_id, 60, 5)
    backlog.tick(64)
    assert backlog.leases
    assert backlog.modify_deadline(lease.ack_id, 10, 20)
    backlog.tick(30)
    assert not backlog.leases
    assert not backlog.modify_deadline(lease.ack_id, 10, 31)


def test_nack_makes_the_message_ready_at_once():
    backlog = backlog_of(message(1))
    (lease,) = take(backlog)
    backlog.modify_deadline(lease.ack_id, 0, 1)
    assert seqs(take(backlog, now=1)) == [1]


def test_backoff_doubles_up_to_its_maximum():
    backoff = Backoff(10, 60)
    assert [backoff.delay_seconds(n) for n in range(1, 6)] == [10, 20, 40, 60, 60]
    assert backoff.delay_seconds(10_000) == 60


def test_nacked_message_waits_for_its_backoff():
    backlog = backlog_of(message(1), policy=replace(PLAIN, backoff=Backoff(5, 100)))
    now = 0.0
    for delay in (5, 10, 20):
        (lease,) = take(backlog, now=now)
        backlog.modify_deadline(lease.ack_id, 0, now)
        backlog.tick(now + delay - 0.01)
        assert take(backlog, now=now + delay - 0.01) == []
        now += delay
        backlog.tick(now)


def test_late_ack_counts_without_exactly_once():
    backlog = backlog_of(message(1))
    (lease,) = take(backlog)
    backlog.tick(10)
    assert backlog.acknowledge([lease.ack_id], 11) == [lease.ack_id]
    assert settled(backlog) == [1]
    assert take(backlog, now=11) == []


def test_late_ack_takes_the_message_from_its_next_holder():
    backlog = backlog_of(message(1))
    (late,) = take(backlog)
    backlog.tick(10)
    other = Consumer()
    take(backlog, other, now=11)
    backlog.acknowledge([late.ack_id], 12)
    assert other.outstanding_messages == 0
    assert not backlog.leases


def test_late_ack_is_stale_with_exactly_once():
    backlog = backlog_of(message(1), policy=replace(PLAIN, exactly_once=True))
    (lease,) = take(backlog)
    assert backlog.acknowledge([lease.ack_id], 10) == [lease.ack_id]
    assert settled(backlog) == []
    backlog.tick(10)
    (again,) = take(backlog, now=10)
    assert backlog.acknowledge([lease.ack_id, again.ack_id], 11) == [lease.ack_id]
    assert settled(backlog) == [1]


def test_ack_id_of_another_subscription_does_nothing():
    backlog = backlog_of(message(1))
    backlog.acknowledge(["8-1-100"], 0)
    assert settled(backlog) == []


@pytest.mark.parametrize("ack_id", ["", "x", "1-2", "1-2-3-4", "1-2-x", "1-2-²", "1--2"])
def test_malformed_ack_id_is_refused(ack_id):
    with pytest.raises(InvalidArgumentError, match="invalid ack ID"):
        backlog_of().acknowledge([ack_id], 0)


def test_exhausted_message_leaves_by_the_dead_letters():
    backlog = backlog_of(message(1), policy=replace(PLAIN, max_delivery_attempts=2))
    for now in (0, 10):
        backlog.tick(now)
        take(backlog, now=now)
    backlog.tick(20)
    (entry,) = backlog.exhausted
    assert entry.failures == 2
    assert take(backlog, now=20) == []
    backlog.settle(entry)
    assert not backlog.entries


def test_exhausted_message_without_a_dead_letter_topic_goes_on():
    backlog = backlog_of(message(1), policy=replace(PLAIN, max_delivery_attempts=1))
    take(backlog)
    backlog.tick(10)
    backlog.retry(backlog.exhausted.pop(), 10)
    assert seqs(take(backlog, now=10)) == [1]


class TestFlowControl:
    def test_messages_outstanding(self):
        backlog = backlog_of(*map(message, range(5)))
        consumer = Consumer(max_messages=2)
        first = take(backlog, consumer)
        assert seqs(first) == [0, 1]
        assert take(backlog, consumer) == []
        backlog.acknowledge([first[0].ack_id], 0)
        assert seqs(take(backlog, consumer)) == [2]

    def test_bytes_outstanding_stop_after_the_message_that_passes_the_limit(self):
        backlog = backlog_of(*(message(n, size=60) for n in range(4)))
        consumer = Consumer(max_bytes=100)
        leases = take(backlog, consumer)
        assert seqs(leases) == [0, 1]
        backlog.modify_deadline(leases[0].ack_id, 0, 0)
        assert seqs(take(backlog, consumer)) == [2]

    def test_expired_lease_makes_room(self):
        backlog = backlog_of(message(1), message(2))
        consumer = Consumer(max_messages=1)
        take(backlog, consumer)
        backlog.tick(10)
        assert consumer.outstanding_messages == consumer.outstanding_bytes == 0
        assert seqs(take(backlog, consumer, now=10)) == [2]

    def test_response_is_bounded_by_bytes_but_never_empty(self):
        backlog = backlog_of(*(message(n, size=60) for n in range(4)))
        assert seqs(backlog.take(Consumer(), 0, 100, max_bytes=1)) == [0]


class TestOrdering:
    def test_key_stays_with_one_consumer_while_something_is_out(self):
        backlog = backlog_of(message(1, "k"), message(2, "k"), policy=ORDERED)
        one, two = Consumer(), Consumer()
        (first,) = take(backlog, one, limit=1)
        assert take(backlog, two) == []
        backlog.acknowledge([first.ack_id], 0)
        assert seqs(take(backlog, two)) == [2]

    def test_other_keys_and_keyless_messages_go_elsewhere_meanwhile(self):
        messages = [message(1, "a"), message(2, "a"), message(3, "b"), message(4)]
        backlog = backlog_of(*messages, policy=ORDERED)
        take(backlog, Consumer(), limit=1)
        assert seqs(take(backlog, Consumer())) == [3, 4]

    def test_nack_brings_all_later_messages_of_the_key_again(self):
        backlog = backlog_of(*(message(n, "k") for n in range(4)), policy=ORDERED)
        consumer = Consumer()
        leases = take(backlog, consumer)
        backlog.modify_deadline(leases[1].ack_id, 0, 0)
        assert consumer.outstanding_messages == 1
        backlog.acknowledge([leases[2].ack_id], 0)
        assert settled(backlog) == []
        again = take(backlog, consumer)
        assert seqs(again) == [1, 2, 3]
        assert [lease.entry.failures for lease in again] == [1, 0, 0]

    def test_acknowledged_later_message_comes_again_when_an_earlier_one_fails(self):
        backlog = backlog_of(message(1, "k"), message(2, "k"), policy=ORDERED)
        first, second = take(backlog)
        backlog.acknowledge([second.ack_id], 0)
        assert settled(backlog) == []
        backlog.tick(first.deadline)
        assert seqs(take(backlog, now=10)) == [1, 2]

    def test_exactly_once_never_brings_an_acknowledged_message_again(self):
        policy = replace(ORDERED, exactly_once=True)
        backlog = backlog_of(*(message(n, "k") for n in range(3)), policy=policy)
        leases = take(backlog)
        assert backlog.acknowledge([leases[1].ack_id], 0) == []
        backlog.modify_deadline(leases[0].ack_id, 0, 0)
        assert seqs(take(backlog)) == [0, 2]

    def test_acks_out_of_order_settle_in_order(self):
        backlog = backlog_of(*(message(n, "k") for n in range(3)), policy=ORDERED)
        leases = take(backlog)
        backlog.acknowledge([leases[2].ack_id, leases[1].ack_id], 0)
        assert settled(backlog) == []
        backlog.acknowledge([leases[0].ack_id], 0)
        assert settled(backlog) == [0, 1, 2]

    def test_backoff_holds_the_whole_key_and_only_it(self):
        policy = replace(ORDERED, backoff=Backoff(5, 10))
        backlog = backlog_of(message(1, "k"), message(2, "k"), policy=policy)
        leases = take(backlog)
        backlog.modify_deadline(leases[0].ack_id, 0, 0)
        backlog.add(message(3, "k"))
        backlog.add(message(4, "other"))
        assert seqs(take(backlog)) == [4]
        backlog.tick(5)
        assert seqs(take(backlog, now=5)) == [1, 2, 3]

    def test_key_of_a_consumer_that_is_gone_moves_on_once_its_leases_are_over(self):
        backlog = backlog_of(message(1, "k"), message(2, "k"), policy=ORDERED)
        gone, other = Consumer(), Consumer()
        take(backlog, gone, limit=1)
        assert take(backlog, other) == []
        backlog.tick(10)
        assert seqs(take(backlog, other, now=10)) == [1, 2]

    def test_full_consumer_gives_a_free_key_to_another(self):
        backlog = backlog_of(message(1, "a"), message(2, "a"), message(3, "b"), policy=ORDERED)
        full, other = Consumer(max_messages=2), Consumer()
        leases = [*take(backlog, full, limit=1), *take(backlog, full, limit=1)]
        assert seqs(leases) == [1, 2]
        backlog.acknowledge([leases[0].ack_id, leases[1].ack_id], 0)
        backlog.add(message(4, "a"))
        assert seqs(take(backlog, other)) == [3, 4]

    def test_dead_letter_lets_the_key_go_on(self):
        policy = replace(ORDERED, max_delivery_attempts=1)
        backlog = backlog_of(message(1, "k"), message(2, "k"), policy=policy)
        (lease,) = take(backlog, limit=1)
        backlog.modify_deadline(lease.ack_id, 0, 0)
        assert take(backlog) == []
        backlog.settle(backlog.exhausted.pop())
        assert seqs(take(backlog)) == [2]

    @pytest.mark.parametrize("seed", range(30))
    def test_any_schedule_delivers_each_key_in_order_and_loses_nothing(self, seed):
        rng = random.Random(seed)
        backlog = backlog_of(policy=replace(ORDERED, backoff=rng.choice([None, Backoff(1, 4)])))
        consumers = [Consumer(max_messages=rng.choice([2, 50])) for _ in range(3)]
        held, now, expected = {}, 0.0, {key: [] for key in "abc"}
        for seq in range(200):
            key = rng.choice("abc")
            expected[key].append(seq)
            backlog.add(message(seq, key))
            now += rng.random()
            backlog.tick(now)
            for lease in take(backlog, rng.choice(consumers), now, limit=rng.randint(1, 5)):
                held[lease.ack_id] = lease
            for ack_id in rng.sample(sorted(held), len(held) // 2):
                _settle_or_nack(backlog, ack_id, now, rng)
                del held[ack_id]
        while backlog.entries:
            now += 11
            backlog.tick(now)
            for consumer in consumers:
                backlog.acknowledge([each.ack_id for each in take(backlog, consumer, now)], now)
        in_order = {key: [m.seq for m in backlog.settled if m.ordering_key == key] for key in "abc"}
        assert in_order == expected
        assert not backlog.leases
        assert not backlog._keys
        assert all(consumer.outstanding_messages == 0 for consumer in consumers)


def _settle_or_nack(backlog, ack_id, now, rng):
    if rng.random() < 0.7:
        backlog.acknowledge([ack_id], now)
    else:
        backlog.modify_deadline(ack_id, 0, now)


def test_stale_timers_do_not_pile_up():
    backlog = backlog_of(policy=DeliveryPolicy(ack_deadline_seconds=600))
    for seq in range(10_000):
        backlog.add(message(seq))
        (lease,) = take(backlog)
        backlog.acknowledge([lease.ack_id], 0)
    assert len(backlog._timers) < 2000


def test_refill_voids_leases_and_keeps_failures():
    backlog = backlog_of(message(1), message(2))
    leases = take(backlog)
    backlog.modify_deadline(leases[0].ack_id, 0, 0)
    backlog.refill([message(1), message(2), message(3)])
    assert not backlog.leases
    again = take(backlog)
    assert seqs(again) == [1, 2, 3]
    assert [lease.entry.failures for lease in again] == [1, 0, 0]
