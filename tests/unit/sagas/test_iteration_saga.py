from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import (
    FamilyFailed,
    FamilyHeld,
    FamilyPromoted,
    IterationAmended,
    IterationCompleted,
    IterationFailed,
    IterationStarted,
    ShardFailed,
    ShardMerged,
    ShardRequested,
    TrainingRequested,
)
from events.model import Corpus, Family, Parameters, Sampler, SimulatorEvaluator
from sagas.engine import Decision
from sagas.iteration import ENDED, ITERATION, IterationState, decide

NOW = datetime(2026, 11, 21, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 64
FAMILIES = (Family(family="one", items=("a", "b")), Family(family="two", items=("c",)))


def started(shards=3, families=FAMILIES, **corpus):
    parameters = Parameters(
        profile="smoke",
        corpus=Corpus(**{"personas": 10, **corpus}),
        shards=shards,
        families=families,
        evaluator=SimulatorEvaluator(seed=5),
        sampler=Sampler(draws=500),
        method="mml",
        seed=7,
    )
    return IterationStarted(iteration=4, parameters=parameters)


def merged(index):
    return ShardMerged(iteration=4, shard_index=index, rows=10, digest=DIGEST)


def lost(index, step="merge"):
    return ShardFailed(iteration=4, shard_index=index, step=step, reason=f"why {index}")


def promoted(family):
    return FamilyPromoted(iteration=4, family=family, grm_uri=f"file:///{family}")


def held(family):
    return FamilyHeld(iteration=4, family=family, reason="r-hat")


def failed(family):
    return FamilyFailed(iteration=4, family=family, step="training", reason=f"why {family}")


def replay(events, now=NOW):
    """The last state and all commands; what the saga is not ready for comes again soon."""
    state, commands, waiting = None, [], []
    for event in events:
        for one in [event, *waiting]:
            decision = decide(state, one, now)
            if decision.state is None:
                waiting.append(one)
                break
            state = decision.state
            commands.extend(decision.commands)
        else:
            waiting = []
    return state, commands


def of(kind, commands):
    return [command for command in commands if isinstance(command, kind)]


@pytest.mark.parametrize(
    ("structure", "priors"), [("unidimensional", "default"), ("correlated", "weak")]
)
def test_a_family_is_fitted_with_the_structure_and_priors_that_were_asked_for(structure, priors):
    event = started(shards=1)
    asked = event.parameters.model_copy(update={"structure": structure, "priors": priors})
    state = decide(None, event.model_copy(update={"parameters": asked}), NOW).state
    commands = decide(state, merged(0), NOW).commands
    assert [(one.structure, one.priors) for one in commands] == [(structure, priors)] * 2


def test_a_start_asks_for_every_shard_as_the_parameters_say():
    event = started()
    state, commands = replay([event])
    assert state == IterationState(iteration=4, parameters=event.parameters, started_at=NOW)
    assert [(c.shard_index, c.first_talk, c.end_talk) for c in commands] == [
        (0, 0, 3),
        (1, 3, 6),
        (2, 6, 10),
    ]
    for command in commands:
        assert command.corpus == event.parameters.corpus
        assert command.families == FAMILIES
        assert command.evaluator == SimulatorEvaluator(seed=5)


@given(
    personas=st.integers(1, 5000),
    sessions=st.integers(1, 60),
    share=st.floats(0, 1, exclude_min=True),
)
def test_shards_share_the_talks_among_them(personas, sessions, share):
    talks = personas * sessions
    shards = max(1, min(2_000, int(talks * share)))
    _, commands = replay([started(shards, personas=personas, sessions=sessions)])
    assert [command.shard_index for command in commands] == list(range(shards))
    assert (commands[0].first_talk, commands[-1].end_talk) == (0, talks)
    assert all(before.end_talk == after.first_talk for before, after in pairwise(commands))
    sizes = {command.end_talk - command.first_talk for command in commands}
    assert sizes <= {talks // shards, talks // shards + 1}


def test_the_last_shard_asks_for_every_family():
    state, commands = replay([started(), merged(0), merged(2)])
    assert (state.phase, of(TrainingRequested, commands)) == ("grading", [])
    decision = decide(state, merged(1), NOW)
    assert decision.state.phase == "training"
    assert decision.state.families == {"one": "training", "two": "training"}
    assert decision.commands == tuple(
        TrainingRequested(
            iteration=4,
            family=family.family,
            scale=family,
            corpus=started().parameters.corpus,
            evaluator=started().parameters.evaluator,
            method="mml",
            sampler=Sampler(draws=500),
            seed=7,
        )
        for family in FAMILIES
    )


def graded():
    return [started(), merged(0), merged(1), merged(2)]


@pytest.mark.parametrize(
    ("verdicts", "status", "names"),
    [
        ([promoted("two"), promoted("one")], "completed", (("one", "two"), (), ())),
        ([promoted("one"), held("two")], "completed", (("one",), ("two",), ())),
        ([held("one"), held("two")], "completed", ((), ("one", "two"), ())),
        ([failed("one"), held("two")], "partial", ((), ("two",), ("one",))),
        ([promoted("one"), failed("two")], "partial", (("one",), (), ("two",))),
    ],
)
def test_an_iteration_ends_when_every_family_stands(verdicts, status, names):
    waiting, _ = replay([*graded(), *verdicts[:-1]])
    assert waiting.phase == "training"
    ended = decide(waiting, verdicts[-1], NOW + timedelta(hours=1))
    assert (ended.state.phase, ended.state.ended_at) == (status, NOW + timedelta(hours=1))
    [command] = ended.commands
    assert command == IterationCompleted(
        iteration=4, status=status, promoted=names[0], held=names[1], failed=names[2]
    )


def test_an_iteration_whose_families_all_failed_has_failed():
    state, commands = replay([*graded(), failed("two"), failed("one")])
    assert state.phase == "failed"
    reason = "no family could be calibrated: one: why one; two: why two"
    assert of(IterationFailed, commands) == [IterationFailed(iteration=4, reason=reason)]
    assert state.reason == reason


def test_a_lost_shard_fails_the_iteration_when_all_are_in():
    state, commands = replay([started(), lost(2), merged(1)])
    assert state.phase == "grading"
    state, commands = replay([started(), lost(2), merged(1), lost(0)])
    assert (state.phase, state.reason) == ("failed", "shards failed: 0, 2")
    assert of(IterationFailed, commands) == [
        IterationFailed(iteration=4, reason="shards failed: 0, 2")
    ]
    assert of(TrainingRequested, commands) == []


def test_a_shard_that_was_merged_at_a_later_try_has_not_failed():
    for events in ([lost(0), merged(0)], [merged(0), lost(0)]):
        state, commands = replay([started(), *events, merged(1), merged(2)])
        assert (state.phase, state.failed_shards) == ("training", frozenset())
        assert len(of(TrainingRequested, commands)) == 2


def test_a_family_that_was_calibrated_at_a_later_try_has_not_failed():
    for events in ([failed("one"), promoted("one")], [promoted("one"), failed("one")]):
        state, _ = replay([*graded(), *events, promoted("two")])
        assert state.phase == "completed"


@pytest.mark.parametrize("event", [merged(0), lost(0), promoted("one"), held("one"), failed("one")])
def test_what_comes_before_the_start_comes_again(event):
    assert decide(None, event, NOW).state is None


@pytest.mark.parametrize("stranger", [merged(3), lost(99), promoted("three"), failed("three")])
@pytest.mark.parametrize("before", [[started()], graded()])
def test_what_was_never_asked_for_does_not_count(stranger, before):
    state, _ = replay(before)
    decision = decide(state, stranger, NOW)
    assert (decision.state, decision.commands) == (state, ())


def test_a_verdict_without_a_request_is_not_kept():
    """It can only be another's; kept, it would hide that the family was never trained."""
    state, _ = replay([started(), promoted("one"), merged(0), merged(1), merged(2)])
    assert state.families == {"one": "training", "two": "training"}


@pytest.mark.parametrize(
    "end", [[promoted("one"), promoted("two")], [failed("one"), failed("two")]]
)
@pytest.mark.parametrize(
    "late", [started(), merged(0), lost(1), promoted("one"), held("two"), failed("one")]
)
def test_what_comes_after_the_end_changes_nothing(end, late):
    state, _ = replay([*graded(), *end])
    assert state.phase in ENDED
    decision = decide(state, late, NOW + timedelta(days=1))
    assert (decision.state, decision.commands) == (state, ())


@st.composite
def histories(draw):
    """One true course of an iteration, and another order of the same with duplicates."""
    shards = draw(st.integers(1, 5))
    ends = [draw(st.sampled_from([merged, merged, merged, lost]))(n) for n in range(shards)]
    verdicts = [
        draw(st.sampled_from([promoted, held, failed]))(family.family) for family in FAMILIES
    ]
    # A verdict follows the last shard; everything else may come in any order, and again.
    copies = draw(st.lists(st.sampled_from([started(shards), *ends]), max_size=8))
    first = draw(st.permutations([started(shards), *ends, *copies]))
    later = draw(st.lists(st.sampled_from([*first, *verdicts]), max_size=8))
    then = draw(st.permutations([*verdicts, *later]))
    return [started(shards), *ends, *verdicts], [*first, *then]


@given(histories())
def test_any_order_and_any_duplicates_end_the_same(history):
    straight, shuffled = history
    state, commands = replay(straight)
    other_state, other_commands = replay(shuffled)
    assert other_state == state
    assert state.phase in ENDED
    assert sorted(map(repr, other_commands)) == sorted(map(repr, commands))
    for kind in (ShardRequested, TrainingRequested):
        asked = [command.subject for command in of(kind, other_commands)]
        assert len(asked) == len(set(asked))
    ended = [*of(IterationCompleted, other_commands), *of(IterationFailed, other_commands)]
    assert len(ended) == 1


def test_every_state_reads_back_as_it_was_saved():
    for events in ([started()], graded(), [*graded(), failed("one"), held("two")]):
        state, _ = replay(events)
        assert IterationState.model_validate(state.model_dump(mode="json")) == state


def test_a_family_that_is_let_through_after_the_end_is_promoted_once():
    state, _ = replay([*graded(), promoted("one"), held("two")])
    assert state.families["two"] == "held"
    amended = decide(state, promoted("two"), NOW + timedelta(days=1))
    assert amended.commands == (IterationAmended(iteration=4, family="two"),)
    assert amended.state == state.model_copy(
        update={"families": {"one": "promoted", "two": "promoted"}}
    )
    for late in (promoted("two"), held("two")):
        assert decide(amended.state, late, NOW) == Decision(amended.state)


@pytest.mark.parametrize(
    "verdicts", [[held("one"), promoted("one")], [promoted("one"), held("one")]]
)
def test_a_family_that_is_let_through_before_the_end_is_promoted_in_either_order(verdicts):
    state, commands = replay([*graded(), *verdicts, held("two")])
    assert state.families == {"one": "promoted", "two": "held"}
    [ended] = of(IterationCompleted, commands)
    assert (ended.promoted, ended.held) == (("one",), ("two",))


def test_the_saga_shows_all_that_it_says():
    _, commands = replay([*graded(), promoted("one"), held("two"), promoted("two")])
    _, others = replay([*graded(), failed("one"), failed("two")])
    assert {type(command) for command in [*commands, *others]} == set(ITERATION.emits)
