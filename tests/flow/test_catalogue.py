"""The flow's arrows, from the catalogue and the composition alone."""

import re
import typing
from collections import Counter

import pytest

from events.audit import AuditLogEntry
from events.catalogue import EVENTS, GateWaived, IterationStarted
from infra.bus import dead_name, subscription_name
from nexus.app import HANDLERS, SAGAS, STEPS

PRODUCED = {IterationStarted, GateWaived}
"""By ``nexus start`` and ``nexus run``; by ``nexus gate waive``."""

FROM_OUTSIDE = {AuditLogEntry}
"""By a log sink."""

PARTS = {part.handler: part for part in STEPS} | {saga.name: saga for saga in SAGAS}
CONSUMED = {event for part in PARTS.values() for event in part.consumes}
EMITTED = {event for part in PARTS.values() for event in part.emits}


def names(events):
    return sorted(event.__name__ for event in events)


def test_every_event_that_is_published_has_a_subscriber():
    assert names((EMITTED | PRODUCED) - CONSUMED) == []


def test_every_event_that_is_consumed_has_a_publisher():
    assert names(CONSUMED - EMITTED - PRODUCED - FROM_OUTSIDE) == []


def test_every_event_of_the_catalogue_is_an_arrow_and_every_arrow_is_in_it():
    assert names(set(EVENTS)) == names(EMITTED | PRODUCED)
    assert names(CONSUMED - FROM_OUTSIDE) == names(EVENTS)


def test_the_flow_leads_from_the_start_to_every_event():
    reached, before = set(PRODUCED), set()
    while reached != before:
        before = set(reached)
        for part in PARTS.values():
            if reached & set(part.consumes):
                reached |= set(part.emits)
    assert names(set(EVENTS) - reached) == []


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.handler)
def test_what_a_step_says_of_its_loss_is_among_its_arrows(step):
    if step.lost is None:
        assert not any(event.__name__.endswith("Failed") for event in step.emits)
        return
    said = typing.get_type_hints(step.lost)["return"]
    assert said in step.emits


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.handler)
def test_a_step_takes_what_it_consumes(step):
    taken = typing.get_type_hints(step.run)["event"]
    assert set(typing.get_args(taken) or [taken]) == set(step.consumes)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.handler)
def test_no_step_consumes_an_event_twice(step):
    assert len(set(step.consumes)) == len(step.consumes)


def test_handlers_have_names_of_their_own():
    assert Counter(HANDLERS).most_common(1)[0][1] == 1
    assert set(HANDLERS) == set(PARTS)


LEGAL = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9_.~+%-]{2,254}")
"""A Pub/Sub resource name."""


@pytest.mark.parametrize("prefix", ["", "idempotency-storm-", "x" * 61])
def test_topics_and_subscriptions_have_legal_names_of_their_own(prefix):
    topics = [prefix + event.topic() for event in (*EVENTS, AuditLogEntry)]
    subscriptions = [
        subscription_name(prefix, name, event.topic())
        for name, part in PARTS.items()
        for event in part.consumes
    ]
    letters = [dead_name(subscription) for subscription in subscriptions]
    assert len(set(topics + letters)) == len(topics) + len(letters)
    assert len(set(subscriptions + letters)) == len(subscriptions) + len(letters)
    for name in (*topics, *subscriptions, *letters):
        assert LEGAL.fullmatch(name), name


def test_subscriptions_are_named_by_handler_and_topic():
    assert subscription_name("p-", "merge", "batch-completed") == "p-merge.batch-completed"
    assert dead_name("p-merge.batch-completed") == "p-merge.batch-completed.dead"
