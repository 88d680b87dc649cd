"""The simulator's personas: how their traits hang together over the families that profiles name."""

from types import MappingProxyType
from typing import Final

from calibration.simulate import Factors, Truth
from events.model import SimulatorEvaluator
from infra.profiles import PROFILES

NETWORK: Final = MappingProxyType(
    {
        "well_being": {"extraversion": 0.4, "neuroticism": -0.5},
        "emotion_regulation": {"neuroticism": 0.6},
        "virtues": {"conscientiousness": 0.45, "agreeableness": 0.4},
        "moral_foundations": {"agreeableness": 0.5},
        "interests": {"openness": 0.5},
    }
)
"""Each family's parents, with the change per standard deviation of a parent; made up."""

FAMILY_OF: Final = MappingProxyType(
    {
        item: family.family
        for profile in PROFILES.values()
        for family in profile.families
        for item in family.items
    }
)


def truth_of(evaluator: SimulatorEvaluator, personas: int, constructs: tuple[str, ...]) -> Truth:
    """What the simulator grades by; a construct of no profile is a family of its own."""
    factors = None
    if evaluator.traits != "shared":
        factors = Factors(
            of_construct={name: FAMILY_OF.get(name, name) for name in constructs},
            parents=NETWORK,
            specific=evaluator.traits == "by_construct",
        )
    return Truth(evaluator.seed, personas, constructs, evaluator.categories, factors)
