import asyncio

import pytest

from events.catalogue import IterationStarted
from events.cloudevents import decode
from infra import telemetry
from infra.errors import ParametersError, ResponsesError
from infra.objects import open_objects
from infra.ports import Cause, ClaimKey, Receipt, StepStatus
from nexus.producer import (
    refuse_other_parameters,
    request_for,
    responses_key,
    start_iteration,
)
from tests.support.world import RETRYING

CSV = b"a,b,c,d\n1,2,3,1\n2,3,1,2\n3,1,2,3\n1,1,1,1\n2,2,2,2\n3,3,3,3\n1,3,2,1\n"
SCALES = b'[first]\nitems = ["a", "b"]\nreversed = ["b"]\n[second]\nitems = ["c", "d"]\n'
KEY = ClaimKey("smoke/0", "start")


@pytest.fixture
def objects(settings):
    return open_objects(settings.objects)


def asked(objects, **changes):
    return request_for(0, "smoke", objects, **changes)


def test_equal_requests_have_equal_digests_wherever_their_home_lies(tmp_path):
    (tmp_path / "r.csv").write_bytes(CSV)
    digests = set()
    for home in ("here", "there"):
        objects = open_objects(f"file://{tmp_path}/{home}")
        request = asked(objects, responses=tmp_path / "r.csv")
        assert str(tmp_path / home) in request.parameters.evaluator.uri
        digests.add(request.digest)
    assert len(digests) == 1


def test_whatever_changes_the_result_changes_the_digest(objects, tmp_path):
    (tmp_path / "r.csv").write_bytes(CSV)
    (tmp_path / "other.csv").write_bytes(CSV.replace(b"1,1,1,1", b"1,1,1,2"))
    (tmp_path / "s.toml").write_bytes(SCALES)
    requests = [
        asked(objects),
        asked(objects, seed=1),
        asked(objects, method="mml"),
        asked(objects, structure="correlated"),
        asked(objects, priors="weak"),
        asked(objects, responses=tmp_path / "r.csv"),
        asked(objects, responses=tmp_path / "other.csv"),
        asked(objects, responses=tmp_path / "r.csv", scales=tmp_path / "s.toml"),
    ]
    assert len({request.digest for request in requests}) == len(requests)


def test_what_was_asked_for_before_there_were_structures_is_the_same_request(objects):
    """Digests that stand in the ledgers of homes of before."""
    known = "sha256:2ef319ddbda11a4c801b7f3ae5a431148da4fdce46c90f756394a94152abedac"
    assert asked(objects).digest == known
    assert asked(objects, structure="unidimensional", priors="default").digest == known


def test_what_was_started_when_families_shared_one_trait_is_still_known(objects):
    before = "sha256:74c1c39e7ad058825b3c7e75a77a01e4dcdd0506c3237a9f4c4165b37a904744"
    request = request_for(10, "production", objects)
    assert request.digest != before
    refuse_other_parameters(request, Receipt(digest=before))
    refuse_other_parameters(request, Receipt(digest=request.digest))
    with pytest.raises(ParametersError):
        refuse_other_parameters(request_for(10, "production", objects, seed=1), Receipt(before))


def test_traits_decide_what_correlated_structure_computes(objects, tmp_path):
    (tmp_path / "r.csv").write_bytes(CSV)
    digests = set()
    for traits in ('x = ["a", "b"], y = ["c", "d"]', 'x = ["a", "c"], y = ["b", "d"]'):
        scales = f'[one]\nitems = ["a", "b", "c", "d"]\ntraits = {{ {traits} }}'
        (tmp_path / "s.toml").write_text(scales)
        for structure in ("correlated", "unidimensional"):
            request = asked(
                objects,
                responses=tmp_path / "r.csv",
                scales=tmp_path / "s.toml",
                structure=structure,
            )
            digests.add((structure, request.digest))
    assert len(digests) == 3


def test_scales_group_and_reverse_the_columns(objects, tmp_path):
    (tmp_path / "r.csv").write_bytes(CSV)
    (tmp_path / "s.toml").write_bytes(SCALES)
    request = asked(objects, responses=tmp_path / "r.csv", scales=tmp_path / "s.toml")
    first, second = request.parameters.families
    assert (first.family, first.items, first.reversed) == ("first", ("a", "b"), ("b",))
    assert second.items == ("c", "d")
    assert request.parameters.corpus.talks == 7


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"responses": "absent.csv"}, "absent.csv can't be read: No such file"),
        ({"scales": "s.toml"}, "--scales .*s.toml needs --responses"),
        ({"responses": "bad.csv"}, "row"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(objects, settings, tmp_path, options, reason):
    (tmp_path / "bad.csv").write_bytes(b"a,b\n1,x\n")
    paths = {name: tmp_path / file for name, file in options.items()}
    with pytest.raises(ResponsesError, match=reason):
        asked(objects, **paths)
    assert not list(settings.home.rglob("*.csv"))


async def test_a_start_is_saved_and_said(world):
    telemetry.configure()
    request = asked(world.ports.objects)
    assert await start_iteration(request, world.ports)
    [sent] = world.publisher.published
    envelope = decode(sent.data, sent.attributes, IterationStarted)
    assert envelope.event.parameters == request.parameters
    assert envelope.traceparent
    record = await world.ledger.step(KEY)
    assert (record.status, record.receipt.digest) == (StepStatus.COMPLETED, request.digest)
    assert record.cause.traceparent == envelope.traceparent
    assert await world.ledger.unpublished("smoke") == 0


async def test_a_start_again_is_the_same_event(world):
    request = asked(world.ports.objects)
    assert await start_iteration(request, world.ports)
    world.clock.advance(1000)
    assert not await start_iteration(request, world.ports)
    first, again = world.publisher.published
    assert first == again


async def test_other_parameters_are_refused_and_change_nothing(world):
    await start_iteration(asked(world.ports.objects), world.ports)
    before = await world.ledger.step(KEY)
    world.publisher.published.clear()
    with pytest.raises(ParametersError, match=r"iteration 0 exists with other parameters.*priors"):
        await start_iteration(asked(world.ports.objects, priors="weak"), world.ports)
    assert await world.ledger.step(KEY) == before
    assert world.publisher.published == []


async def test_responses_are_kept_with_the_start(world, tmp_path):
    (tmp_path / "r.csv").write_bytes(CSV)
    request = asked(world.ports.objects, responses=tmp_path / "r.csv")
    await start_iteration(request, world.ports)
    evaluator = request.parameters.evaluator
    assert evaluator.uri.endswith(responses_key(evaluator.digest))
    assert await world.ports.objects.get(evaluator.uri) == CSV


async def test_of_many_producers_at_once_one_starts_it(world):
    request = asked(world.ports.objects)
    answers = await asyncio.gather(*(start_iteration(request, world.ports) for _ in range(5)))
    assert sorted(answers) == [False] * 4 + [True]
    assert len(set(world.publisher.ids())) == 1


async def test_a_producer_that_was_killed_leaves_no_iteration_that_cannot_start(world):
    cause = Cause("c", "t", world.clock())
    await world.ledger.claim(
        KEY, cause=cause, owner="dead", now=world.clock(), lease_seconds=RETRYING.lease_seconds
    )
    began = world.clock()
    assert await start_iteration(asked(world.ports.objects), world.ports)
    waited = (world.clock() - began).total_seconds()
    assert RETRYING.lease_seconds <= waited < RETRYING.lease_seconds + 1
