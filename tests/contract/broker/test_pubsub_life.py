"""How brokers begin, end and begin anew, also where something is wrong."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from faststream_pubsub import (
    InvalidMessageError,
    PublishError,
    PubSubBroker,
    PubSubError,
    TestPubSubBroker,
)
from faststream_pubsub.pulling import Pulling
from faststream_pubsub.wire import DeleteSubscriptionRequest


def test_broker_runs_in_one_event_loop_after_the_other(durable_server):
    broker = PubSubBroker(emulator_host=durable_server.target, logger=None)
    seen: list[int] = []
    came: dict[int, asyncio.Event] = {}

    @broker.subscriber("numbers", max_workers=3, enable_message_ordering=True)
    async def read(number: int) -> None:
        seen.append(number)
        came[number].set()

    async def run(*numbers: int) -> None:
        for number in numbers:
            came[number] = asyncio.Event()
            async with broker:
                await broker.start()
                await broker.publish(number, "numbers", ordering_key="k")
                await asyncio.wait_for(came[number].wait(), timeout=8)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    for turn in range(3):
        asyncio.run(run(2 * turn, 2 * turn + 1))
    assert sorted(set(seen)) == list(range(6))


async def test_stop_is_not_held_up_by_a_dead_server(forgetful_server, name, monkeypatch, caplog):
    monkeypatch.setattr("faststream_pubsub.broker.FLUSH_SECONDS", 0.5)
    monkeypatch.setattr(Pulling.close, "__defaults__", (0.5,))
    broker = PubSubBroker(
        emulator_host=forgetful_server.target, logger=logging.getLogger(name), graceful_timeout=0.5
    )
    began = asyncio.Event()

    @broker.subscriber(name)
    async def read() -> None:
        began.set()
        await asyncio.sleep(0.3)

    await broker.start()
    with pytest.raises(TimeoutError):
        await broker.request(1, f"{name}-nobody", timeout=0.2)
    await broker.publish(1, name)
    await began.wait()
    await asyncio.to_thread(forgetful_server.kill)
    left = [asyncio.create_task(broker.publish(n, name, ordering_key="k")) for n in range(3)]
    await asyncio.sleep(0)
    before = time.monotonic()
    await broker.stop()
    assert time.monotonic() - before < 5
    for task in left:
        with pytest.raises(PublishError, match="stopped"):
            await task
    assert "the server has not answered within" in caplog.text


async def test_request_that_waits_at_stop_fails_at_once(bench, name, until):
    broker = bench.broker()
    async with bench.running(broker):
        waiting = asyncio.create_task(broker.request(1, name, timeout=30, correlation_id="one"))
        await until(lambda: broker._connection._replies._waiting)
        with pytest.raises(InvalidMessageError, match=r"correlation_id='one'.* IDs of their own"):
            await broker.request(2, name, correlation_id="one")
    with pytest.raises(PubSubError, match="stopped before the reply"):
        await asyncio.wait_for(waiting, timeout=1)


async def test_handler_that_is_deaf_to_cancellation_does_not_hold_up_the_stop(
    own_server, name, monkeypatch, caplog
):
    monkeypatch.setattr("faststream_pubsub.pulling._CANCEL_SECONDS", 0.1)
    broker = own_server.broker(logger=logging.getLogger(name), graceful_timeout=0.1)
    began, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @broker.subscriber(name)
    async def read() -> None:
        began.set()
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue
        ended.set()

    await broker.start()
    await broker.publish(1, name)
    await began.wait()
    await asyncio.wait_for(broker.stop(), timeout=5)
    assert "1 handlers go on although they were cancelled" in caplog.text
    may_end.set()
    await ended.wait()


async def test_reading_goes_on_after_an_error_that_nobody_thought_of(
    own_server, name, inbox, monkeypatch, caplog
):
    broker = own_server.broker(logger=logging.getLogger(name))

    @broker.subscriber(name)
    async def read(number: int) -> None:
        await inbox.put(number)

    (subscriber,) = broker.subscribers
    async with own_server.running(broker):
        client = broker._connection.client
        ensure, errors = client.setup_call, [RuntimeError("odd"), RuntimeError("odd")]

        async def odd(*arguments):
            if errors:
                raise errors.pop()
            return await ensure(*arguments)

        monkeypatch.setattr(client, "setup_call", odd)
        path = client.subscription_path(subscriber.subscription)
        await client.rpcs.delete_subscription(DeleteSubscriptionRequest(subscription=path))
        async with asyncio.timeout(20):
            while not inbox.seen:
                await broker.publish(1, name)
                await asyncio.sleep(0.1)
    assert not errors
    assert "reading has failed, it goes on" in caplog.text


async def test_leases_are_kept_after_an_error_that_nobody_thought_of(
    own_server, name, inbox, monkeypatch
):
    monkeypatch.setattr("faststream_pubsub.pulling.LEASE_TICK_SECONDS", 0.01)
    broker = own_server.broker()
    may_end = asyncio.Event()

    @broker.subscriber(name)
    async def read(number: int) -> None:
        await inbox.put(number)
        await may_end.wait()

    (subscriber,) = broker.subscribers
    async with own_server.running(broker):
        await broker.publish(1, name)
        await inbox.wait_for(1)
        leases = subscriber.reading._held.leases
        take_due, errors, looks = leases.take_due, [RuntimeError("odd")], asyncio.Semaphore(0)

        def odd(**arguments):
            if errors:
                raise errors.pop()
            looks.release()
            return take_due(**arguments)

        monkeypatch.setattr(leases, "take_due", odd)
        await asyncio.wait_for(looks.acquire(), timeout=5)
        may_end.set()


async def test_handler_that_blocks_the_loop_past_its_lease_is_told(
    forgetful_server, name, inbox, monkeypatch, caplog, until
):
    broker = PubSubBroker(emulator_host=forgetful_server.target, logger=logging.getLogger(name))
    loop = asyncio.get_running_loop()
    time_of_loop, blocked_seconds = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: time_of_loop() + blocked_seconds)

    @broker.subscriber(name)
    async def read(number: int) -> None:
        nonlocal blocked_seconds
        blocked_seconds += number
        await inbox.put(number)

    async with broker:
        await broker.start()
        await broker.publish(0, name)
        await inbox.wait_for(1)
        assert "blocks" not in caplog.text
        await broker.publish(13, name)
        await inbox.wait_for(2)
        await until(lambda: "code that blocks it" in caplog.text)
        (health,) = broker.health().subscriptions
        assert health.lost_leases == 1


async def test_broken_stream_is_read_anew_whatever_breaks_it(own_server, name, inbox):
    broker = own_server.broker()

    @broker.subscriber(name)
    async def read(number: int) -> None:
        await inbox.put(number)

    await broker.connect()
    client = broker._connection.client
    pull, broken = client.rpcs.streaming_pull, []

    def broken_once():
        if not broken:
            broken.append(True)
            raise asyncio.InvalidStateError("RPC already finished.")
        return pull()

    client.rpcs = replace(client.rpcs, streaming_pull=broken_once)
    async with own_server.running(broker):
        await broker.publish(1, name)
        assert await inbox.wait_for(1) == [1]


async def test_broker_that_runs_goes_on_after_a_test_in_memory(bench, name, inbox):
    broker = bench.broker()

    @broker.subscriber(name)
    async def read(number: int) -> int:
        await inbox.put(number)
        return number + 1

    async with bench.running(broker):
        async with TestPubSubBroker(broker):
            assert await (await broker.request(1, name)).decode() == 2
        await broker.publish(3, name)
        assert await inbox.wait_for(2) == [1, 3]
        assert broker.health().is_healthy


_FORK = """
import asyncio, os, sys
from faststream_pubsub import PubSubBroker

used, fresh = (PubSubBroker(emulator_host=sys.argv[1], logger=None) for _ in range(2))

async def use():
    await used.connect()
    await used.publish(1, "numbers")

async def go_on():
    for call in (fresh.connect, lambda: used.publish(2, "numbers")):
        try:
            await asyncio.wait_for(call(), 10)
        except Exception as error:
            os.write(1, f"{type(error).__name__}: {error}\\n".encode())
    await asyncio.wait_for(used.stop(), 10)
    os.write(1, b"stopped")

asyncio.run(use())
if child := os.fork():
    os.waitpid(child, 0)
else:
    asyncio.run(go_on())
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_connecting_is_an_error_rather_than_silence(durable_server):
    command = [sys.executable, "-c", _FORK, durable_server.target]
    told = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True).stdout
    connecting, publishing, end = told.splitlines()
    assert connecting.startswith("ConnectError: this process was forked")
    assert publishing.startswith("PublishError")
    assert "this process was forked" in publishing
    assert end == "stopped"
