"""Correlation IDs."""

import random
import subprocess
import sys
import uuid

from faststream_pubsub import PubSubBroker, TestPubSubBroker
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
    # in a process of its own: this one may have threads, which a fork leaves behind
    program = (
        "import os; from faststream_pubsub.ids import make_correlation_id as make\n"
        "child = os.fork(); print(make(), flush=True); child and os.waitpid(child, 0)"
    )
    told = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
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
