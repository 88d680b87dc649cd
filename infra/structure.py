"""Whether an iteration's data can carry the structure of traits that it is asked for."""

from collections import Counter

from events.model import Family, Parameters, ResponsesEvaluator
from infra.errors import ParametersError

FEWEST_RESPONDENTS = 3
_WAY_OUT = "or use --structure unidimensional"


def as_structured(asked: Parameters) -> Parameters:
    """The parameters with nothing in them that their structure has no use for.

    Raises:
        ParametersError: Correlated traits of data that can't carry them.
    """
    if asked.structure == "unidimensional":
        families = tuple(one.model_copy(update={"traits": ()}) for one in asked.families)
        return asked.model_copy(update={"families": families})
    for family in asked.families:
        _refuse_few(family, asked)
    return asked


def _refuse_few(family: Family, asked: Parameters) -> None:
    once = isinstance(asked.evaluator, ResponsesEvaluator)
    items = Counter(family.trait_of_item.values())
    if once and not family.traits:
        raise ParametersError(
            f"family {family.family} names no traits, and a trait of one item that each respondent "
            "answers once can't be told from chance: name the items of each trait in the scales "
            f"file, traits = {{ first = [...], second = [...] }}, {_WAY_OUT}"
        )
    if len(items) < 2:
        raise ParametersError(
            f"family {family.family} has one trait, {next(iter(items))}: name two or more, "
            f"{_WAY_OUT}"
        )
    alone = [trait for trait, size in items.items() if size == 1]
    if once and alone:
        raise ParametersError(
            f"family {family.family}: trait {alone[0]} has one item, which each respondent answers "
            f"once: give it two items or more, {_WAY_OUT}"
        )
    if asked.corpus.personas < FEWEST_RESPONDENTS:
        raise ParametersError(
            f"{asked.corpus.personas} respondents: correlations need {FEWEST_RESPONDENTS} or more: "
            f"add respondents, {_WAY_OUT}"
        )
