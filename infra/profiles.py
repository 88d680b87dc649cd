"""Profiles: what an iteration asks for, in a registry keyed by cohort."""

from dataclasses import dataclass, field
from typing import Literal, TypedDict

from events.model import (
    Corpus,
    Evaluator,
    Family,
    Method,
    Namespace,
    Parameters,
    Priors,
    Sampler,
    SimulatorEvaluator,
    Structure,
    namespace_of,
)
from infra.errors import ParametersError
from infra.structure import as_structured

# The facets of the five domains, as the IPIP-NEO-120 names them (Johnson, 2014,
# doi:10.1016/j.jrp.2014.05.003).
OPENNESS = Family(
    family="openness",
    items=(
        "imagination",
        "artistic_interests",
        "emotionality",
        "adventurousness",
        "intellect",
        "liberalism",
    ),
)
CONSCIENTIOUSNESS = Family(
    family="conscientiousness",
    items=(
        "self_efficacy",
        "orderliness",
        "dutifulness",
        "achievement_striving",
        "self_discipline",
        "cautiousness",
    ),
)
EXTRAVERSION = Family(
    family="extraversion",
    items=(
        "friendliness",
        "gregariousness",
        "assertiveness",
        "activity_level",
        "excitement_seeking",
        "cheerfulness",
    ),
)
AGREEABLENESS = Family(
    family="agreeableness",
    items=("trust", "morality", "altruism", "cooperation", "modesty", "sympathy"),
)
NEUROTICISM = Family(
    family="neuroticism",
    items=(
        "anxiety",
        "anger",
        "depression",
        "self_consciousness",
        "immoderation",
        "vulnerability",
    ),
)
# Beside the domains: the scales of psychological well-being (Ryff, 1989,
# doi:10.1037/0022-3514.57.6.1069), virtues (Peterson & Seligman, 2004, Character Strengths and
# Virtues), vocational interests (Holland, 1997, Making Vocational Choices), moral foundations
# (Iyer et al., 2012, doi:10.1371/journal.pone.0042366) and difficulties in emotion regulation
# (Gratz & Roemer, 2004, doi:10.1023/B:JOBA.0000007455.08539.94).
WELL_BEING = Family(
    family="well_being",
    items=(
        "autonomy",
        "environmental_mastery",
        "personal_growth",
        "positive_relations",
        "purpose_in_life",
        "self_acceptance",
    ),
)
VIRTUES = Family(
    family="virtues",
    items=("wisdom", "courage", "humanity", "justice", "temperance", "transcendence"),
)
INTERESTS = Family(
    family="interests",
    items=("realistic", "investigative", "artistic", "social", "enterprising", "conventional"),
)
MORAL_FOUNDATIONS = Family(
    family="moral_foundations",
    items=("care", "fairness", "loyalty", "authority", "sanctity", "liberty"),
)
EMOTION_REGULATION = Family(
    family="emotion_regulation",
    items=(
        "nonacceptance",
        "goal_interference",
        "impulse_difficulty",
        "unawareness",
        "limited_strategies",
        "unclarity",
    ),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """A cohort's run: its size, its families, and the namespace that it may run in."""

    name: str
    namespace: Namespace
    corpus: Corpus
    shards: int
    families: tuple[Family, ...]
    sampler: Sampler = field(default_factory=Sampler)
    structure: Structure = "unidimensional"
    priors: Priors = "default"


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            namespace="smoke",
            corpus=Corpus(personas=10, sessions=6, turns=10),
            shards=6,
            families=(OPENNESS,),
        ),
        Profile(
            name="production",
            namespace="production",
            corpus=Corpus(personas=2_000, sessions=50, turns=12),
            shards=1_000,
            families=(
                OPENNESS,
                CONSCIENTIOUSNESS,
                EXTRAVERSION,
                AGREEABLENESS,
                NEUROTICISM,
                WELL_BEING,
                VIRTUES,
                INTERESTS,
                MORAL_FOUNDATIONS,
                EMOTION_REGULATION,
            ),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class RealResponses:
    """Responses to run on in place of the profile's own corpus."""

    respondents: int
    families: tuple[Family, ...]
    evaluator: Evaluator


class Wanted(TypedDict, total=False):
    """What may be asked for beside the profile: see `parameters_for`."""

    method: Method
    structure: Structure | None
    priors: Priors | None
    seed: int


def parameters_for(
    iteration: int,
    profile: str,
    *,
    method: Method = "nuts",
    structure: Structure | None = None,
    priors: Priors | None = None,
    seed: int = 0,
    responses: RealResponses | None = None,
) -> Parameters:
    """What the iteration computes; the profile's own structure and priors where none are asked for.

    Raises:
        ParametersError: No such profile, or one of the other namespace; a structure that the
            data can't carry; priors that the method has no use for.
    """
    chosen = _checked(iteration, profile)
    corpus, families = chosen.corpus, chosen.families
    structure = structure or chosen.structure
    evaluator: Evaluator = SimulatorEvaluator(seed=seed, traits=_personas(structure, families))
    if responses is not None:
        corpus = Corpus(personas=responses.respondents)
        families, evaluator = responses.families, responses.evaluator
    asked = Parameters(
        profile=profile,
        corpus=corpus,
        shards=min(chosen.shards, corpus.talks),
        families=families,
        evaluator=evaluator,
        sampler=chosen.sampler,
        method=method,
        structure=structure,
        priors=_priors(priors, chosen, method),
        seed=seed,
    )
    return as_structured(asked)


def _personas(
    structure: Structure, families: tuple[Family, ...]
) -> Literal["shared", "by_family", "by_construct"]:
    """What traits the simulator's personas are to have, so that the fit has them to find."""
    if structure == "correlated":
        return "by_construct"
    return "by_family" if len(families) > 1 else "shared"


def _priors(asked: Priors | None, profile: Profile, method: Method) -> Priors:
    if method == "nuts":
        return asked or profile.priors
    if asked in (None, "default"):
        return "default"
    raise ParametersError(
        f"--priors {asked} needs --method nuts, not {method}: maximum likelihood has no priors; "
        "leave one of the two out"
    )


def _checked(iteration: int, profile: str) -> Profile:
    chosen = PROFILES.get(profile)
    if chosen is None:
        raise ParametersError(f"profile {profile!r} is unknown: use {' or '.join(PROFILES)}")
    namespace = namespace_of(iteration)
    if chosen.namespace != namespace:
        others = [name for name, other in PROFILES.items() if other.namespace == namespace]
        raise ParametersError(
            f"iteration {iteration} is a {namespace} iteration and profile {profile!r} is for "
            f"{chosen.namespace}: use --profile {others[0]}, or an iteration "
            + ("from 0 to 9" if chosen.namespace == "smoke" else "of 10 or more")
        )
    return chosen
