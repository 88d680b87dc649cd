"""What is asked of a fit beside its chains; what can't be worked out is said in words."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import calibration
from calibration.errors import CalibrationError, TooFewRespondentsError
from infra.ports import TrainingJob

if TYPE_CHECKING:
    # As annotations only: JAX must not load before its flags are set.
    from calibration.conformal import Conformal
    from calibration.correlated import CorrelatedFit
    from calibration.data import Responses
    from calibration.invariance import InvarianceRow, ItemInvariance
    from calibration.loo import Loo
    from calibration.persons import OddRespondent
    from calibration.predictive import FitCheck
    from calibration.results import Fit
    from calibration.stability import Stability

T = TypeVar("T")

DIFFERENCE_P_VALUE = 0.01
STEPS = ("posterior predictive", "prediction sets", "invariance", "stability", "simpler models")


@dataclass(frozen=True, slots=True)
class Grouped:
    """The responses with the groups that are compared, and the groups' names in order."""

    responses: "Responses"
    names: tuple[str, ...]
    given: bool


@dataclass(frozen=True, slots=True)
class Checks:
    """The evidence of the gates, and beside it; a text where there is none.

    Of correlated traits ``levels`` are by trait.
    """

    fit_check: "FitCheck | str"
    prediction_sets: "Conformal | str"
    grouped: Grouped
    levels: "tuple[InvarianceRow, ...] | str | dict[str, tuple[InvarianceRow, ...] | str]"
    items: "tuple[ItemInvariance, ...]"
    stability: "Stability | str"
    odd: "tuple[int, tuple[OddRespondent, ...]]"
    models: "tuple[Loo, ...] | str"


def examine(
    job: TrainingJob,
    fit: "Fit | CorrelatedFit",
    responses: "Responses",
    tell: Callable[[int], None],
) -> Checks:
    """Every check of a fit; ``tell`` is called with how many of `STEPS` are done."""
    tell(0)
    fit_check = _attempt(lambda: calibration.check_fit(fit, responses, seed=job.seed))
    odd = calibration.odd_respondents(fit, responses)
    tell(1)
    sets = _attempt(lambda: _predict_sets(job, responses))
    tell(2)
    grouped = group(job, responses)
    levels, items = _invariance(job, grouped)
    tell(3)
    stability = _stability(job, fit)
    tell(4)
    models = _attempt(lambda: _compare_models(job, fit, responses))
    tell(5)
    return Checks(fit_check, sets, grouped, levels, items, stability, odd, models)


def _predict_sets(job: TrainingJob, responses: "Responses") -> "Conformal":
    traits = traits_of(job) if job.structure == "correlated" else None
    return calibration.predict_sets(
        responses,
        seed=job.seed,
        method=job.method,
        traits=traits,
        sampler=settings(job),
        priors=priors(job),
    )


def _compare_models(
    job: TrainingJob, fit: "Fit | CorrelatedFit", responses: "Responses"
) -> "tuple[Loo, ...]":
    if isinstance(fit, calibration.CorrelatedFit):
        return calibration.compare_structures(fit, responses, seed=job.seed)
    return calibration.compare_models(fit, responses, seed=job.seed)


def traits_of(job: TrainingJob) -> tuple[str, ...]:
    """Each item's trait, of correlated ones."""
    return tuple(job.family.trait_of_item.values())


def settings(job: TrainingJob) -> "calibration.SamplerSettings":
    """How NUTS is run."""
    return calibration.SamplerSettings(**job.sampler.model_dump())


def priors(job: TrainingJob) -> "calibration.Priors":
    """Of the items."""
    return calibration.WEAK_PRIORS if job.priors == "weak" else calibration.Priors()


def evidence(checks: Checks) -> "calibration.Evidence":
    """As the gates take it."""
    return calibration.Evidence(
        checks.fit_check, checks.prediction_sets, checks.stability, checks.items
    )


def group(job: TrainingJob, responses: "Responses") -> Grouped:
    """The groups that the job names, respondents of unknown group left out, or random halves."""
    from calibration.invariance import split_groups  # noqa: PLC0415 - loads JAX

    if job.groups is None:
        halves = split_groups(responses.n_respondents, job.seed)
        return Grouped(responses.regrouped(halves), ("half 1", "half 2"), given=False)
    labels = [job.groups[int(name)] for name in responses.respondents]
    known = np.array([label is not None for label in labels])
    names = sorted({label for label in labels if label is not None})
    places = [names.index(label) if label is not None else 0 for label in labels]
    regrouped = responses.regrouped(np.array(places))
    return Grouped(regrouped.chosen(known), tuple(names), given=True)


def _invariance(
    job: TrainingJob, grouped: Grouped
) -> "tuple[tuple[InvarianceRow, ...] | str | dict[str, Any], tuple[ItemInvariance, ...]]":
    """The levels and the items behind them; of correlated traits each trait by its own items."""
    if job.structure == "unidimensional":
        return _levels_and_items(lambda: grouped.responses, priors(job))
    from calibration.invariance import of_trait  # noqa: PLC0415 - loads JAX

    own = np.array(traits_of(job))
    found = {
        name: _levels_and_items(
            partial(of_trait, grouped.responses, name, own == name), priors(job)
        )
        for name in dict.fromkeys(own.tolist())
    }
    items = tuple(item for _, of_one in found.values() for item in of_one)
    return {name: levels for name, (levels, _) in found.items()}, items


def _levels_and_items(
    part: "Callable[[], Responses]", used: "calibration.Priors"
) -> "tuple[tuple[InvarianceRow, ...] | str, tuple[ItemInvariance, ...]]":
    levels = _attempt(lambda: _compare(part(), used))
    return levels, () if isinstance(levels, str) else _items(part(), levels, used)


def _compare(responses: "Responses", used: "calibration.Priors") -> "tuple[InvarianceRow, ...]":
    from calibration.invariance import compare  # noqa: PLC0415 - loads JAX

    if responses.n_respondents == 0:
        raise TooFewRespondentsError("no respondent's group is known")
    return compare(responses, priors=used)


def _items(
    responses: "Responses", levels: "Sequence[InvarianceRow]", used: "calibration.Priors"
) -> "tuple[ItemInvariance, ...]":
    """Item by item costs a fit each: only where something differs at all."""
    from calibration.invariance import differences_p_value  # noqa: PLC0415 - loads JAX

    if levels[-1].holds and differences_p_value(levels) >= DIFFERENCE_P_VALUE:
        return ()
    found = _attempt(lambda: calibration.name_items(responses, priors=used))
    return () if isinstance(found, str) else found


def _stability(job: TrainingJob, fit: "Fit | CorrelatedFit") -> "Stability | str":
    promoted = job.promoted
    if isinstance(promoted, str):
        return promoted
    new = calibration.GrmArtefact.from_fit(fit)
    return _attempt(
        lambda: calibration.compare_versions(new, calibration.GrmArtefact.from_json(promoted))
    )


def _attempt(check: Callable[[], T]) -> T | str:
    try:
        return check()
    except CalibrationError as error:
        return str(error)


# --- as it is kept -------------------------------------------------------------------------


def document(job: TrainingJob, checks: Checks) -> bytes:
    """``checks.json``: what the report draws beside the fit."""
    grouped = checks.grouped
    sizes = np.bincount(grouped.responses.groups, minlength=len(grouped.names)).tolist()
    odd, shown = checks.odd
    said = {
        "schema_version": 1,
        "family": job.family.family,
        "seed": job.seed,
        "fit": _said(checks.fit_check),
        "prediction_sets": _said(checks.prediction_sets),
        "invariance": {
            "groups": [
                {"group": name, "respondents": size}
                for name, size in zip(grouped.names, sizes, strict=True)
            ],
            "given": grouped.given,
            "levels": _said(rows(checks) or _why_no_levels(checks)),
            "by_trait": _by_trait(checks),
            "items": [asdict(item) for item in checks.items],
        },
        "stability": _said(checks.stability),
        "models": _said(checks.models),
        "odd_respondents": {"count": odd, "shown": [asdict(one) for one in shown]},
    }
    return (json.dumps(_finite(said), indent=1, allow_nan=False) + "\n").encode()


def _said(found: Any) -> Any:  # noqa: ANN401 - any check's result
    if isinstance(found, str):
        return {"not_judged": found}
    return [asdict(one) for one in found] if isinstance(found, tuple) else asdict(found)


def rows(checks: Checks) -> "tuple[InvarianceRow, ...]":
    """The levels of the family; traits that were judged added up, nothing where none was."""
    match checks.levels:
        case str():
            return ()
        case dict(by_trait):
            from calibration.invariance import over_traits  # noqa: PLC0415 - loads JAX

            return over_traits({k: v for k, v in by_trait.items() if not isinstance(v, str)})
        case levels:
            return levels


def _why_no_levels(checks: Checks) -> str:
    by_trait = checks.levels if isinstance(checks.levels, dict) else {"": checks.levels}
    return "; ".join(dict.fromkeys(map(str, by_trait.values())))


def _by_trait(checks: Checks) -> dict[str, Any]:
    """Each trait's levels, or why it has none; empty where there is one trait."""
    by_trait = checks.levels
    return {k: _said(v) for k, v in by_trait.items()} if isinstance(by_trait, dict) else {}


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The same with null for what is not a finite number."""
    match value:
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def model_rows(checks: Checks) -> tuple[dict[str, Any], ...]:
    """A row of the table ``model_comparisons`` for each model."""
    if isinstance(checks.models, str):
        return ()
    said = [_finite(asdict(model)) for model in checks.models]
    return tuple({name: row[name] for name in row if name != "fitted_again"} for row in said)


def item_rows(fit: "Fit | CorrelatedFit", checks: Checks) -> tuple[dict[str, Any], ...]:
    """A row of the table ``item_checks`` for each item."""
    items = [estimate.item for estimate in fit.estimates]
    residuals = _column(checks.fit_check, lambda found: [one.residual for one in found.items])
    p_values = _column(checks.fit_check, lambda found: [one.p_value for one in found.items])
    coverages = _column(checks.prediction_sets, lambda found: found.coverage_by_item)
    invariance = {found.item: found for found in checks.items}
    return tuple(
        {
            "item": item,
            "residual": residuals.get(j),
            "residual_p_value": p_values.get(j),
            "coverage": coverages.get(j),
            "invariant": invariance[item].invariant if item in invariance else None,
            "delta_bic": invariance[item].delta_bic if item in invariance else None,
            "stable": _stayed(checks.stability, item),
        }
        for j, item in enumerate(items)
    )


def _column(
    found: Any,  # noqa: ANN401 - any check's result
    values: Callable[[Any], Iterable[float]],
) -> dict[int, float]:
    if isinstance(found, str):
        return {}
    return {j: value for j, value in enumerate(values(found)) if math.isfinite(value)}


def _stayed(found: "Stability | str", item: str) -> bool | None:
    if isinstance(found, str) or found.n_parameters == 0 or item in found.not_compared:
        return None
    return item not in found.moved
