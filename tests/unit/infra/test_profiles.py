import pytest

from events.model import Family, ResponsesEvaluator, SimulatorEvaluator
from infra.errors import ParametersError
from infra.profiles import PROFILES, Profile, RealResponses, parameters_for

FAMILY = Family(family="agree", items=("a1", "a2"))


def test_the_smoke_profile_is_the_design_s():
    asked = parameters_for(0, "smoke", seed=9)
    assert (asked.corpus.personas, asked.shards) == (10, 6)
    [family] = asked.families
    assert (family.family, len(family.items)) == ("openness", 6)
    assert asked.evaluator == SimulatorEvaluator(seed=9)
    assert (asked.method, asked.seed, asked.sampler.chains) == ("nuts", 9, 4)
    assert (asked.sampler.draws, asked.sampler.target_accept) == (None, None)


def test_the_production_profile_is_the_design_s():
    corpus = parameters_for(10, "production").corpus
    assert (corpus.personas, corpus.sessions, corpus.turns) == (2_000, 50, 12)
    families = parameters_for(10, "production").families
    assert [len(family.items) for family in families] == [6] * 10


@pytest.mark.parametrize(
    ("iteration", "profile", "reason"),
    [
        (10, "smoke", "production iteration and profile 'smoke' is for smoke: use --profile prod"),
        (9, "production", "use --profile smoke, or an iteration of 10 or more"),
        (0, "smokey", "profile 'smokey' is unknown: use smoke or production"),
    ],
)
def test_the_namespaces_never_meet(iteration, profile, reason):
    with pytest.raises(ParametersError, match=reason):
        parameters_for(iteration, profile)


@pytest.mark.parametrize(("respondents", "shards"), [(3, 3), (2_800, 6)])
def test_real_responses_take_the_place_of_the_corpus(respondents, shards):
    evaluator = ResponsesEvaluator(uri="file:///x.csv", digest="sha256:" + "0" * 64)
    real = RealResponses(respondents, (FAMILY,), evaluator)
    asked = parameters_for(1, "smoke", responses=real, method="mml")
    assert (asked.corpus.talks, asked.corpus.turns, asked.shards) == (respondents, 1, shards)
    assert (asked.families, asked.evaluator, asked.method) == ((FAMILY,), evaluator, "mml")


def test_a_profile_has_priors_that_may_be_overruled(monkeypatch):
    known = PROFILES["smoke"]
    own = Profile("own", "smoke", known.corpus, 6, known.families, priors="weak")
    monkeypatch.setitem(PROFILES, "own", own)
    assert parameters_for(1, "smoke").priors == "default"
    assert parameters_for(1, "smoke", priors="weak").priors == "weak"
    assert parameters_for(1, "own").priors == "weak"
    assert parameters_for(1, "own", priors="default").priors == "default"
    assert parameters_for(1, "own", method="mml").priors == "default"


def test_priors_of_maximum_likelihood_are_refused_with_a_way_out():
    assert parameters_for(0, "smoke", method="mml", priors="default").priors == "default"
    with pytest.raises(ParametersError, match=r"--priors weak needs --method nuts.*leave one"):
        parameters_for(0, "smoke", method="mml", priors="weak")


def test_profiles_are_named_by_themselves_and_fit_their_namespace():
    for name, profile in PROFILES.items():
        assert name == profile.name
        iteration = 0 if profile.namespace == "smoke" else 10
        items = [
            item for family in parameters_for(iteration, name).families for item in family.items
        ]
        assert len(items) == len(set(items))
