"""Which structure of traits an iteration's data can carry."""

import pytest
from pydantic import ValidationError

from events.model import Family, ResponsesEvaluator
from infra.errors import ParametersError
from infra.profiles import PROFILES, Profile, RealResponses, parameters_for

ITEMS = ("a", "b", "c", "d")
EVALUATOR = ResponsesEvaluator(uri="file:///x.csv", digest="sha256:" + "0" * 64)


def survey(*traits, respondents=100):
    return RealResponses(respondents, (Family(family="f", items=ITEMS, traits=traits),), EVALUATOR)


def asked(structure, **wanted):
    return parameters_for(1, "smoke", structure=structure, **wanted)


def test_personas_may_have_a_trait_of_each_construct():
    found = asked("correlated")
    assert found.structure == "correlated"
    assert found.families[0].traits == ()
    assert found.families[0].trait_of_item["intellect"] == "intellect"


def test_a_survey_may_have_traits_of_two_items():
    found = asked("correlated", responses=survey("x", "x", "y", "y"))
    assert found.families[0].traits == ("x", "x", "y", "y")


def test_either_method_carries_correlated_traits():
    assert asked("correlated", method="mml").method == "mml"


def test_one_trait_per_family_has_no_use_for_their_names():
    plain = asked("unidimensional", responses=survey())
    assert asked("unidimensional", responses=survey("x", "x", "y", "y")) == plain


def test_a_profile_has_a_structure_that_may_be_overruled(monkeypatch):
    known = PROFILES["smoke"]
    own = Profile("own", "smoke", known.corpus, 6, known.families, structure="correlated")
    monkeypatch.setitem(PROFILES, "own", own)
    assert parameters_for(1, "own").structure == "correlated"
    assert parameters_for(1, "own", structure="unidimensional").structure == "unidimensional"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"responses": survey()}, "family f names no traits"),
        ({"responses": survey("x", "x", "x", "x")}, "family f has one trait, x"),
        ({"responses": survey("x", "x", "x", "y")}, "family f: trait y has one item"),
        ({"responses": survey("x", "x", "y", "y", respondents=2)}, "2 respondents: correlations"),
    ],
)
def test_what_cannot_carry_correlated_traits_is_refused_with_a_way_out(wanted, said):
    with pytest.raises(ParametersError) as error:
        asked("correlated", **wanted)
    assert said in str(error.value)
    assert "--structure unidimensional" in str(error.value)


def test_a_family_names_a_trait_for_each_item_or_none():
    with pytest.raises(ValidationError, match="3 traits for 4 items"):
        Family(family="f", items=ITEMS, traits=("x", "x", "y"))
