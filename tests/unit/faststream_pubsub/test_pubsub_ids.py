"""Correlation IDs."""

import random
import subprocess
import sys
import uuid

from faststream_pubsub import PubSubBroker, TestPubSubBroker, ids
from faststream_pubsub.annotations import PubSubMessage
from faststream_pubsub.ids import make_correlation_id


def test_ids_are_random_uuids_whatever_the_program_seeds():
    random.seed(0)
    first = [make_correlation_id() for _ in range(1_000)]
    random.seed(0)
    second = [make_correlation_id() for _ in range(1_000)]
    assert len({*first, *second}) == 2_000
    assert all(uuid.UUID(one).version == 4 and str(uuid.UUID(one)) == one for one in first)


def test_a_forked_process_makes_its_own_ids():
    # in a process of its own, and without gRPC: a fork leaves threads behind
    program = """
import os, runpy, sys
make = runpy.run_path(sys.argv[1])["make_correlation_id"]
child = os.fork()
os.write(1, f"{make()} ".encode())
if child:
    os.waitpid(child, 0)
"""
    command = [sys.executable, "-c", program, str(ids.__file__)]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    first, second = told.stdout.split()
    assert first != second


async def test_a_message_without_one_gets_one():
    broker = PubSubBroker(logger=None)
    seen = []

    @broker.subscriber("orders")
    async def read(message: PubSubMessage) -> None:
        seen.append(message.correlation_id)

    async with TestPubSubBroker(broker):
        await broker.publish("x", "orders")
        await broker.publish("x", "orders", correlation_id="mine")
    assert uuid.UUID(seen[0])
    assert seen[1] == "mine"
