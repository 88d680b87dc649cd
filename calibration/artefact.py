"""``grm.json``: a calibrated family as others read it (comparable with R's mirt and ltm)."""

import math
from dataclasses import asdict
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from calibration import summaries
from calibration.errors import CalibrationError, NonFiniteError
from calibration.results import Fit, ItemEstimate, Priors, Summary

if TYPE_CHECKING:
    from calibration.correlated import CorrelatedFit

POPULATION = ("log_discrimination_mean", "log_discrimination_sd")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Positive = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
# What most files have no use for is left out where it is empty.
_LEFT_OUT: Any = {"exclude_if": lambda value: not value}


class SummaryRecord(_Frozen):
    """One parameter; figures of chains are null for maximum likelihood, which has none.

    ``mcse``, the Monte Carlo standard error of the mean, is null in files of before it was kept.
    """

    mean: float
    sd: Positive
    hdi95: tuple[float, float]
    r_hat: float | None
    ess_bulk: float | None
    ess_tail: float | None
    mcse: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.hdi95[0] > self.hdi95[1]:
            raise ValueError(f"hdi95 = {self.hdi95}: give the lower end first")
        return self


class ItemRecord(_Frozen):
    """One item: a threshold between each two neighbouring categories.

    ``trait`` names the trait that it belongs to, where there are several.
    """

    item: str
    trait: str | None = Field(default=None, **_LEFT_OUT)
    categories: tuple[int, ...] = Field(min_length=2)
    discrimination: SummaryRecord
    thresholds: tuple[SummaryRecord, ...]

    @model_validator(mode="after")
    def _one_threshold_between_categories(self) -> Self:
        if len(self.thresholds) != len(self.categories) - 1:
            raise ValueError(
                f"item {self.item}: {len(self.categories)} categories and {len(self.thresholds)} "
                "thresholds: give one fewer than categories"
            )
        return self


class CorrelationRecord(_Frozen):
    """Correlation of two traits over respondents."""

    first: str
    second: str
    correlation: SummaryRecord


class PriorsRecord(_Frozen):
    """As `calibration.Priors`."""

    log_discrimination_sd: Positive
    cut_sd: Positive


class DiagnosticsRecord(_Frozen):
    """How far the fit can be trusted; figures of chains are null for maximum likelihood."""

    method: Literal["nuts", "mml"]
    seed: Count
    chains: Count
    warmup: Count
    draws: Count
    r_hat_max: float | None
    ess_bulk_min: float | None
    ess_tail_min: float | None
    divergences: Count
    tree_depth_max: Count | None
    step_size: tuple[float, ...]
    e_bfmi: tuple[float, ...]
    log_likelihood: float
    marginal_reliability: float
    versions: dict[str, str]
    notes: tuple[str, ...]


class GrmArtefact(_Frozen):
    """``P(Y >= k | theta) = logistic(a (theta - b_k))``, theta ~ N(0, 1).

    ``population`` holds mean and standard deviation of the items' log discriminations; it is empty
    for maximum likelihood, which has no such parameters, and in files of before it was kept.

    Of correlated traits, theta is that of the item's own ``trait``; ``traits`` names all, and
    ``correlations`` has an entry for each two. Files of one trait have none of the three.
    ``priors`` stands where they are not the stated model's own.
    """

    schema_version: Literal[1] = 1
    family: str
    model: Literal["grm"] = "grm"
    n_respondents: Count
    n_responses: Count
    items: tuple[ItemRecord, ...]
    traits: tuple[str, ...] = Field(default=(), **_LEFT_OUT)
    correlations: tuple[CorrelationRecord, ...] = Field(default=(), **_LEFT_OUT)
    population: dict[str, SummaryRecord] = Field(default_factory=dict)
    priors: PriorsRecord | None = Field(default=None, **_LEFT_OUT)
    diagnostics: DiagnosticsRecord

    @model_validator(mode="after")
    def _traits_are_named(self) -> Self:
        for item in self.items:
            if (item.trait is not None) != bool(self.traits) or (
                self.traits and item.trait not in self.traits
            ):
                raise ValueError(
                    f"item {item.item} has the trait {item.trait}, the traits are "
                    f"{', '.join(self.traits) or 'not named'}: name one of them"
                )
        pairs = [(one.first, one.second) for one in self.correlations]
        if pairs != list(combinations(self.traits, 2)):
            raise ValueError(
                f"correlations of {pairs} for the traits {self.traits}: give one for each two, "
                "in their order"
            )
        return self

    @property
    def trait_of_item(self) -> dict[str, str | None]:
        """Each item's trait; None where there is one for all."""
        return {item.item: item.trait for item in self.items}

    @classmethod
    def from_fit(cls, fit: "Fit | CorrelatedFit") -> Self:
        """Take what is kept of a fit, of one trait or of correlated ones.

        Raises:
            NonFiniteError: A number of the fit is NaN or infinite; names where.
        """
        document: dict[str, Any] = {
            "family": fit.family,
            "n_respondents": fit.n_respondents,
            "n_responses": fit.n_responses,
            "items": [_item(estimate) for estimate in fit.estimates],
            "population": _population(fit),
            "diagnostics": _diagnostics(fit),
        }
        if not isinstance(fit, Fit):
            document |= _of_traits(fit, document["items"])
        if fit.priors != Priors():
            document["priors"] = asdict(fit.priors)
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise _refusal(error) from error

    def to_json(self) -> str:
        """The file's content; loads back equal."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read the file's content.

        Raises:
            NonFiniteError: It holds NaN or an infinite number.
            CalibrationError: It is not such a file; names the field, the value and the rule.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _refusal(error) from error


def _summary(summary: Summary) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in SummaryRecord.model_fields}


def _item(estimate: ItemEstimate) -> dict[str, Any]:
    return {
        "item": estimate.item,
        "categories": estimate.categories,
        "discrimination": _summary(estimate.discrimination),
        "thresholds": [_summary(summary) for summary in estimate.thresholds],
    }


def _of_traits(fit: "CorrelatedFit", items: list[dict[str, Any]]) -> dict[str, Any]:
    """What correlated traits add; each item gets its trait's name."""
    own = [fit.traits[c] for c in fit.trait_of_item]
    pairs = [(one.first, one.second, _summary(one.value)) for one in fit.correlations]
    return {
        "items": [{**item, "trait": trait} for item, trait in zip(items, own, strict=True)],
        "traits": fit.traits,
        "correlations": [
            dict(zip(CorrelationRecord.model_fields, pair, strict=True)) for pair in pairs
        ],
    }


def _population(fit: "Fit | CorrelatedFit") -> dict[str, Any]:
    if not fit.draws:
        return {}
    known = summaries.figures(np.stack([fit.draws[name] for name in POPULATION], 2))
    return {name: _summary(known.summary(k)) for k, name in enumerate(POPULATION)}


def _diagnostics(fit: "Fit | CorrelatedFit") -> dict[str, Any]:
    of_fit = {"log_likelihood", "marginal_reliability", "notes"}
    return {
        name: getattr(fit if name in of_fit else fit.diagnostics, name)
        for name in DiagnosticsRecord.model_fields
    }


def _refusal(error: ValidationError) -> CalibrationError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the document"
    text = f"grm.json: {where} = {first['input']!r:.80}: {first['msg']}"
    value = first["input"]
    finite = not isinstance(value, float) or math.isfinite(value)
    if first["type"] == "finite_number" or not finite:
        return NonFiniteError(text)
    return CalibrationError(text)
