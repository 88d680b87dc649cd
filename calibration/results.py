"""What a fit takes and what it gives back: plain frozen values, numpy at most."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.errors import SettingError

Method = Literal["nuts", "mml"]
Phase = Literal["mode", "compile", "warmup", "draws"]


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """How NUTS is run.

    R-hat has a noise floor: the largest of fifty parameters with 1,000 nearly independent draws a
    chain still reads 1.003 to 1.007, with 4,000 about 1.001.

    Attributes:
        chains: Independent chains, at least 2.
        warmup: Discarded draws per chain that adapt the step size, at least 50.
        draws: Kept draws per chain, at least 50. None: 4,000 where few respondents make a draw
            cheap, 1,500 with many.
        target_accept: Mean acceptance the step size is adapted to (Hoffman & Gelman 2014). None:
            0.9 where respondents gave 64 answers each or more, 0.85 elsewhere.
        max_tree_depth: Doublings of a trajectory before it is cut. None: 3 where respondents gave
            64 answers each or more, or are 1,000 or more; 10 elsewhere, and where draws of such
            short trees turn out to be worth less than a tenth of independent ones.
    """

    chains: int = 4
    warmup: int = 300
    draws: int | None = None
    target_accept: float | None = None
    max_tree_depth: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("chains", 2, 64),
            ("warmup", 50, 1_000_000),
            ("draws", 50, 1_000_000),
            ("target_accept", 0.5, 0.999),
            ("max_tree_depth", 1, 15),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise SettingError(f"{name} = {value}: give a value from {low} to {high}")


@dataclass(frozen=True, slots=True)
class Priors:
    """How much is thought of the items before anybody answers.

    Discriminations are drawn together the more, the less the data say. `WEAK_PRIORS` leave them
    more to the data, as one wants them for a comparison with maximum likelihood.

    Attributes:
        log_discrimination_sd: Median of sigma, the standard deviation of the items' log
            discriminations: sigma ~ LogNormal(log of it, 0.5).
        cut_sd: Standard deviation of the cut points c = a b.
    """

    log_discrimination_sd: float = 0.4
    cut_sd: float = 5.0

    def __post_init__(self) -> None:
        for name, low, high in (("log_discrimination_sd", 0.05, 5.0), ("cut_sd", 0.5, 100.0)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingError(f"{name} = {value}: give a value from {low} to {high}")


WEAK_PRIORS = Priors(log_discrimination_sd=1.0)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fit is.

    Attributes:
        family: The family that is fitted.
        phase: The step it is in.
        done: Draws per chain (or Newton iterations) finished in this phase.
        total: What ``done`` runs to; 0 where it is not known beforehand.
        divergences: Divergent transitions after warm-up so far, over all chains.
    """

    family: str
    phase: Phase
    done: int
    total: int
    divergences: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """One parameter.

    Attributes:
        mean: Posterior mean; the estimate for maximum likelihood.
        sd: Posterior standard deviation; the standard error for maximum likelihood.
        hdi95: Narrowest interval that holds 95% of the draws; for maximum likelihood the
            estimate ± 1.96 standard errors, of a correlation on the scale of Fisher's z.
        r_hat: Rank-normalised split R-hat (Vehtari et al. 2021); None without chains.
        ess_bulk: Bulk effective sample size; None without chains.
        ess_tail: Tail effective sample size; None without chains.
        mcse: Monte Carlo standard error of the mean; None without chains.
    """

    mean: float
    sd: float
    hdi95: tuple[float, float]
    r_hat: float | None = None
    ess_bulk: float | None = None
    ess_tail: float | None = None
    mcse: float | None = None


@dataclass(frozen=True, slots=True)
class ItemEstimate:
    """One item: ``P(Y >= categories[k] | theta) = logistic(a * (theta - thresholds[k - 1]))``.

    ``category_counts`` says how many answers each category holds.
    """

    item: str
    categories: tuple[int, ...]
    category_counts: tuple[int, ...]
    discrimination: Summary
    thresholds: tuple[Summary, ...]


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """How far the fit can be trusted. Figures of chains are None for maximum likelihood.

    Attributes:
        r_hat_max: Largest R-hat over every parameter, respondents' and population's included.
        ess_bulk_min: Smallest bulk ESS over every parameter.
        ess_tail_min: Smallest tail ESS over every parameter.
        divergences: Divergent transitions after warm-up, all chains.
        tree_depth_max: Deepest tree after warm-up.
        steps_mean: Mean leapfrog steps per draw.
        step_size: Adapted step size per chain.
        e_bfmi: Energy Bayesian fraction of missing information per chain (Betancourt 2016).
        gradient_max: Largest slope left at the mode, in units of its standard error.
        sampling_seconds: Wall time of warm-up and draws, or of Newton, compiling excluded.
        compile_seconds: Wall time of tracing and compiling.
        versions: Versions of what computed it.
    """

    method: Method
    seed: int
    chains: int
    warmup: int
    draws: int
    r_hat_max: float | None
    ess_bulk_min: float | None
    ess_tail_min: float | None
    divergences: int
    tree_depth_max: int | None
    steps_mean: float | None
    step_size: tuple[float, ...]
    e_bfmi: tuple[float, ...]
    gradient_max: float
    newton_iterations: int
    sampling_seconds: float
    compile_seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RespondentScores:
    """Expected a posteriori scores on the N(0, 1) scale of the trait.

    Attributes:
        respondents: Names, in the order of the arrays.
        mean: Posterior means, shape (n_respondents,).
        sd: Posterior standard deviations, shape (n_respondents,).
    """

    respondents: tuple[str, ...]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibrated family.

    Attributes:
        items: One estimate per item, in the order of the responses.
        theta: The respondents' scores.
        draws: ``discrimination`` (chains, draws, n_items), ``thresholds`` (chains, draws,
            n_items, n_cuts; NaN beyond an item's own), ``log_discrimination_mean`` and
            ``log_discrimination_sd`` (chains, draws), and ``theta`` (chains, draws,
            n_respondents) where it was sampled. Empty for maximum likelihood.
        log_likelihood: Of the responses with the trait integrated out, at the estimates.
        marginal_reliability: Share of the scores' variance that is the trait's.
        notes: What the responses hold that a reader should know, one line each.
        priors: Of the items; maximum likelihood has none.
    """

    family: str
    estimates: tuple[ItemEstimate, ...]
    theta: RespondentScores
    diagnostics: Diagnostics
    n_respondents: int
    n_responses: int
    log_likelihood: float
    marginal_reliability: float
    draws: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    priors: Priors = Priors()

    @property
    def items(self) -> tuple[str, ...]:
        """Names of the items."""
        return tuple(estimate.item for estimate in self.estimates)

    @property
    def categories(self) -> tuple[tuple[int, ...], ...]:
        """Observed ordered categories of each item."""
        return tuple(estimate.categories for estimate in self.estimates)

    @property
    def discrimination(self) -> tuple[Summary, ...]:
        """Discrimination of each item."""
        return tuple(estimate.discrimination for estimate in self.estimates)

    @property
    def thresholds(self) -> tuple[tuple[Summary, ...], ...]:
        """Thresholds of each item, lowest first."""
        return tuple(estimate.thresholds for estimate in self.estimates)
