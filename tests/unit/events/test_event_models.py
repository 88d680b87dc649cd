"""The parts that events are made of refuse what can't be."""

import pytest
from pydantic import ValidationError

from events.catalogue import BatchPollRequested, ShardSubmitted, TrainingRequested
from events.model import Corpus, Family, Parameters, Sampler, SimulatorEvaluator

FAMILY = Family(family="f", items=("a", "b"))


def parameters(**changes):
    known = {
        "profile": "smoke",
        "corpus": Corpus(personas=4, sessions=2),
        "shards": 8,
        "families": (FAMILY,),
        "evaluator": SimulatorEvaluator(seed=1),
    }
    return Parameters(**{**known, **changes})


def test_more_shards_than_talks_are_refused():
    assert parameters().corpus.talks == 8
    with pytest.raises(ValidationError, match="shards is 9, but there are only 8 talks"):
        parameters(shards=9)


def test_a_family_named_twice_is_refused():
    with pytest.raises(ValidationError, match="families names one twice: f, f"):
        parameters(families=(FAMILY, FAMILY))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reversed": ("c",)}, "reversed names 'c'"),
        ({"items": ("a", "a")}, "named twice"),
        ({"items": ()}, "at least 1 item"),
        ({"family": "1st"}, "match pattern"),
        ({"family": "a/b"}, "match pattern"),
    ],
)
def test_a_family_that_cannot_be_is_refused(changes, reason):
    with pytest.raises(ValidationError, match=reason):
        Family(**{"family": "f", "items": ("a", "b"), **changes})


def test_what_was_said_before_there_were_structures_reads_and_is_said_alike():
    known = parameters().model_dump_json()
    assert "structure" not in known
    assert "traits" not in known
    assert "priors" not in known
    assert Parameters.model_validate_json(known).structure == "unidimensional"
    assert Parameters.model_validate_json(known).priors == "default"
    asked = TrainingRequested(
        iteration=0, family="f", scale=FAMILY, corpus=Corpus(personas=4), method="nuts",
        evaluator=SimulatorEvaluator(seed=1), sampler=Sampler(), seed=0,
    )  # fmt: skip
    assert "structure" not in asked.model_dump_json()
    assert "priors" not in asked.model_dump_json()


def test_a_structure_its_traits_and_priors_travel():
    family = Family(family="f", items=("a", "b"), traits=("x", "y"))
    known = parameters(structure="correlated", priors="weak", families=(family,))
    assert '"priors":"weak"' in known.model_dump_json()
    assert Parameters.model_validate_json(known.model_dump_json()) == known


def test_an_evaluator_is_told_by_its_kind():
    again = Parameters.model_validate_json(parameters().model_dump_json())
    assert again.evaluator == SimulatorEvaluator(seed=1)
    with pytest.raises(ValidationError, match="evaluator"):
        parameters(evaluator={"kind": "oracle"})


def test_each_poll_is_an_event_of_its_own():
    submitted = ShardSubmitted(
        iteration=0, shard_index=1, job="j", requests_uri="u", n_requests=1, families=(FAMILY,)
    )
    polls = [
        BatchPollRequested(iteration=0, shard_index=1, poll=n, submitted=submitted) for n in (1, 2)
    ]
    assert polls[0].subject == polls[1].subject
    assert polls[0].identity != polls[1].identity
