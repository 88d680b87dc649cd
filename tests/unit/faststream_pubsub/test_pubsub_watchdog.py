"""Streams that are open but dead, by an injected clock."""

from faststream_pubsub.watchdog import (
    GRACE_SECONDS,
    PubSubHealth,
    StreamWatch,
    SubscriptionHealth,
)


def opened(**options):
    watch = StreamWatch(**({"max_silence_seconds": 300} | options))
    watch.opened(0)
    return watch


def test_silent_stream_is_dead_after_its_time():
    watch = opened()
    assert not watch.check(300)
    assert watch.check(301)
    watch.heard(301, has_content=True)
    assert not watch.check(600)


def test_server_that_answers_beats_must_go_on_to_do_so():
    watch = opened()
    watch.heard(30, has_content=False)
    assert not watch.check(75)
    assert watch.check(76)


def test_silence_means_nothing_while_this_client_does_not_read():
    watch = opened()
    watch.paused()
    assert not watch.check(10_000)
    watch.resumed(10_000)
    assert not watch.check(10_300)
    assert watch.check(10_301)


def test_closed_stream_is_not_dead_but_down():
    watch = opened()
    watch.closed(50)
    assert not watch.check(1_000)
    assert watch.down_seconds(60) == 60
    watch.opened(70)
    watch.closed(71)
    assert watch.down_seconds(71) == 71


def test_stream_that_stays_open_counts_as_living():
    watch = opened()
    watch.check(1)
    assert watch.down_seconds(1) == 1
    watch.check(2)
    assert watch.down_seconds(3) == 0


def test_a_day_of_renewals_is_a_healthy_day():
    watch = StreamWatch(max_silence_seconds=300)
    longest = 0.0
    for second in range(24 * 3_600):
        # Google ends streams about every half hour; the next is open a second later
        match second % 1_800:
            case 0:
                watch.opened(second)
            case 1_799:
                watch.closed(second)
            case n if n % 200 == 100:
                watch.heard(second, has_content=True)
        assert not watch.check(second)
        longest = max(longest, watch.down_seconds(second))
    assert 0 < longest < 5


def test_probe_sees_a_subscription_that_is_down():
    def health(down_seconds, *, is_connected=True):
        one = SubscriptionHealth(subscription="s", down_seconds=down_seconds, held_messages=0)
        return PubSubHealth(is_connected=is_connected, subscriptions=(one,))

    assert health(0).is_healthy
    assert health(GRACE_SECONDS - 1).is_healthy
    assert not health(GRACE_SECONDS).is_healthy
    assert not health(0, is_connected=False).is_healthy
