"""Numbered rules that a fit must pass before it is promoted, each a pure function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from calibration.conformal import Conformal
    from calibration.correlated import CorrelatedFit
    from calibration.invariance import InvarianceRow, ItemInvariance
    from calibration.predictive import FitCheck
    from calibration.results import Fit
    from calibration.stability import Stability

R_HAT_LIMIT = 1.01
ESS_FLOOR = 400.0
E_BFMI_FLOOR = 0.3
CATEGORY_FLOOR = 5
DISCRIMINATION_RANGE = (0.2, 5.0)
SLOPE_LIMIT = 1e-4
FIT_P_VALUE = 0.01
RESIDUAL_LIMIT = 0.08
_INVARIANCE = (8, "invariance"), "metric: BIC does not rise"

Invariance: TypeAlias = (
    "Sequence[InvarianceRow] | str | Mapping[str, Sequence[InvarianceRow] | str]"
)
"""Rows of a family or a text that says why there are none; of correlated traits, by trait."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A verdict.

    Attributes:
        number: Its number, for good.
        name: What it looks at.
        threshold: What must hold of the value, in words.
        value: The figure; None where the method has none.
        passed: Whether it holds.
        reason: One line.
        advisory: Whether a failure is told but does not hold the family.
        judged: False where there was nothing to judge by; it passes then, and says why.
    """

    number: int
    name: str
    threshold: str
    value: float | None
    passed: bool
    reason: str
    advisory: bool = False
    judged: bool = True


@dataclass(frozen=True, slots=True)
class Evidence:
    """What gates beyond the first six look at.

    None leaves a gate out; a text says why there is nothing to judge by.

    Attributes:
        fit_check: For gate 7.
        prediction_sets: For gate 9.
        stability: For gate 10.
        items: Each item's invariance, which gate 8 names offenders from.
    """

    fit_check: "FitCheck | str | None" = None
    prediction_sets: "Conformal | str | None" = None
    stability: "Stability | str | None" = None
    items: Sequence["ItemInvariance"] = ()


def judge(
    fit: "Fit | CorrelatedFit",
    invariance: "Invariance" = (),
    evidence: Evidence | None = None,
) -> tuple[Gate, ...]:
    """Every gate for a fit, in order of number; 7 to 10 only where there is evidence."""
    said = evidence or Evidence()
    gates = [
        convergence(fit),
        effective_sample_size(fit),
        divergences(fit),
        energy(fit),
        category_use(fit),
        discrimination(fit),
    ]
    if said.fit_check is not None:
        gates.append(model_fit(said.fit_check))
    if invariance:
        gates.append(_invariance(invariance, said.items))
    if said.prediction_sets is not None:
        gates.append(coverage(said.prediction_sets))
    if said.stability is not None:
        gates.append(stability(said.stability))
    return tuple(gates)


def held(gates: Sequence[Gate]) -> bool:
    """Whether a failed gate holds the family."""
    return any(not gate.passed and not gate.advisory for gate in gates)


def convergence(fit: "Fit | CorrelatedFit") -> Gate:
    """Gate 1: R-hat of every parameter below 1.01; for maximum likelihood, a flat optimum."""
    worst = fit.diagnostics.r_hat_max
    if worst is None:
        slope = fit.diagnostics.gradient_max
        return _gate(
            (1, "convergence"),
            f"slope < {SLOPE_LIMIT:g} standard errors",
            slope,
            slope < SLOPE_LIMIT,
            f"the steepest slope left at the optimum is {slope:.1e} standard errors",
        )
    return _gate(
        (1, "convergence"),
        f"R-hat < {R_HAT_LIMIT}",
        worst,
        worst < R_HAT_LIMIT,
        f"the largest R-hat is {worst:.4f}",
    )


def effective_sample_size(fit: "Fit | CorrelatedFit") -> Gate:
    """Gate 2: bulk and tail ESS of every parameter at least 400 (Vehtari et al. 2021)."""
    bulk, tail = fit.diagnostics.ess_bulk_min, fit.diagnostics.ess_tail_min
    if bulk is None or tail is None:
        return _no_chains(2, "effective sample size", f"ESS >= {ESS_FLOOR:.0f}")
    return _gate(
        (2, "effective sample size"),
        f"ESS >= {ESS_FLOOR:.0f}",
        min(bulk, tail),
        min(bulk, tail) >= ESS_FLOOR,
        f"the smallest bulk ESS is {bulk:.0f}, the smallest tail ESS {tail:.0f}",
    )


def divergences(fit: "Fit | CorrelatedFit") -> Gate:
    """Gate 3: no divergent transition."""
    if fit.diagnostics.chains == 0:
        return _no_chains(3, "divergences", "= 0")
    count = fit.diagnostics.divergences
    drawn = fit.diagnostics.chains * fit.diagnostics.draws
    return _gate(
        (3, "divergences"),
        "= 0",
        float(count),
        count == 0,
        f"{count} of {drawn} transitions diverged",
    )


def energy(fit: "Fit | CorrelatedFit") -> Gate:
    """Gate 4: E-BFMI of every chain at least 0.3 (Betancourt 2016)."""
    if not fit.diagnostics.e_bfmi:
        return _no_chains(4, "energy", f"E-BFMI >= {E_BFMI_FLOOR}")
    worst = min(fit.diagnostics.e_bfmi)
    return _gate(
        (4, "energy"),
        f"E-BFMI >= {E_BFMI_FLOOR}",
        worst,
        worst >= E_BFMI_FLOOR,
        f"the lowest E-BFMI of a chain is {worst:.2f}",
    )


def category_use(fit: "Fit | CorrelatedFit") -> Gate:
    """Gate 5: every observed category holds at least five answers."""
    fewest, item, category = min(
        (count, estimate.item, category)
        for estimate in fit.estimates
        for count, category in zip(estimate.category_counts, estimate.categories, strict=True)
    )
    return _gate(
        (5, "category use"),
        f">= {CATEGORY_FLOOR} answers",
        float(fewest),
        fewest >= CATEGORY_FLOOR,
        f"the least used category is {category} of item {item} with {fewest} answers",
    )


def discrimination(fit: "Fit | CorrelatedFit") -> Gate:
    """Gate 6: every discrimination within 0.2 to 5: an item below may be keyed the other way."""
    low, high = DISCRIMINATION_RANGE
    a, item = max(
        ((estimate.discrimination.mean, estimate.item) for estimate in fit.estimates),
        key=lambda pair: max(low / max(pair[0], 1e-12), pair[0] / high),
    )
    hint = ": is it keyed the other way?" if a < low else ""
    return _gate(
        (6, "discrimination"),
        f"{low} to {high:g}",
        a,
        low <= a <= high,
        f"the discrimination nearest to a bound, or furthest beyond, is {a:.2f}, item {item}{hint}",
    )


def model_fit(check: "FitCheck | str") -> Gate:
    """Gate 7: residual correlations no larger than chance makes them, or at most 0.08.

    Thousands of respondents show any misfit; what matters is its size (Hu & Bentler 1999).
    """
    threshold = f"p >= {FIT_P_VALUE}, or residual correlations <= {RESIDUAL_LIMIT}"
    if isinstance(check, str):
        return _not_judged((7, "fit"), threshold, check)
    pair = " and ".join(check.worst_pair)
    return _gate(
        (7, "fit"),
        threshold,
        check.excess,
        check.p_value >= FIT_P_VALUE or check.excess <= RESIDUAL_LIMIT,
        f"residual correlations beyond chance are {check.excess:.3f} (p {check.p_value:.2f}); the "
        f"largest, {check.worst_residual:+.2f}, is between items {pair}",
    )


def _invariance(found: "Invariance", items: Sequence["ItemInvariance"]) -> Gate:
    if isinstance(found, Mapping):
        return invariance_of_traits(found, items)
    return metric_invariance(found, items)


def metric_invariance(
    rows: "Sequence[InvarianceRow] | str", items: Sequence["ItemInvariance"] = ()
) -> Gate:
    """Gate 8, advisory: discriminations equal across groups, by BIC.

    Advisory because groups that differ are a finding about the groups; the pooled calibration
    stands, and its reader is told.
    """
    if isinstance(rows, str):
        return _not_judged(*_INVARIANCE, rows)
    metric = _metric(rows)
    return Gate(
        *_INVARIANCE[0],
        _INVARIANCE[1],
        metric.delta_bic,
        metric.holds,
        f"the highest level of invariance that holds is {_highest(rows)}{_differing(items)}",
        advisory=True,
    )


def invariance_of_traits(
    by_trait: "Mapping[str, Sequence[InvarianceRow] | str]", items: Sequence["ItemInvariance"] = ()
) -> Gate:
    """Gate 8 of correlated traits: each trait's groups by its own items, the worst trait counts."""
    judged = {name: rows for name, rows in by_trait.items() if not isinstance(rows, str)}
    unjudged = {name: why for name, why in by_trait.items() if isinstance(why, str)}
    reasons = [
        f"{_listed([name for name in unjudged if unjudged[name] == why])}: {why}"
        for why in dict.fromkeys(unjudged.values())
    ]
    if not judged:
        return _not_judged(*_INVARIANCE, "; ".join(reasons))
    levels = [f"{name} {_highest(rows)}" for name, rows in judged.items()]
    return Gate(
        *_INVARIANCE[0],
        _INVARIANCE[1],
        max(_metric(rows).delta_bic for rows in judged.values()),
        all(_metric(rows).holds for rows in judged.values()),
        f"the highest level of invariance that holds, by trait: {_listed(levels)}"
        f"{_differing(items)}" + "".join(f"; not judged: {reason}" for reason in reasons),
        advisory=True,
    )


def _metric(rows: "Sequence[InvarianceRow]") -> "InvarianceRow":
    return next(row for row in rows if row.level == "metric")


def _highest(rows: "Sequence[InvarianceRow]") -> str:
    levels = [row.level for row in rows if row.holds]
    return levels[-1] if levels else "none"


def _differing(items: Sequence["ItemInvariance"]) -> str:
    offenders = [item.item for item in items if not item.invariant]
    return f"; items that differ: {_listed(offenders)}" if offenders else ""


def coverage(sets: "Conformal | str") -> Gate:
    """Gate 9: prediction sets hold the real grade as often as they say, chance allowed for."""
    which = (9, "conformal coverage")
    if isinstance(sets, str):
        return _not_judged(which, "at least the stated share, chance allowed for", sets)
    return _gate(
        which,
        f">= {sets.coverage_floor:.3f}",
        sets.coverage,
        sets.coverage >= sets.coverage_floor,
        f"sets at {sets.level:.0%} held {sets.coverage:.1%} of {sets.n_tested} answers, with "
        f"{sets.mean_size:.1f} grades on average",
    )


def stability(found: "Stability | str") -> Gate:
    """Gate 10: no parameter moved from the promoted version beyond chance, once linked."""
    which = (10, "stability")
    if isinstance(found, str):
        return _not_judged(which, "no move beyond chance", found)
    if found.n_parameters == 0:
        reason = "no item has the promoted version's name, trait and categories"
        return Gate(*which, "a common item", None, False, reason)
    moved = f"; items that moved: {_listed(found.moved)}" if found.moved else ""
    lacking = f"; not compared: {_listed(found.not_compared)}" if found.not_compared else ""
    return _gate(
        which,
        f"<= {found.limit:.2f} pooled standard errors",
        found.largest,
        found.largest <= found.limit,
        f"{found.parameter} moved furthest, by {found.largest:.2f} pooled standard errors"
        f"{moved}{lacking}",
    )


def _gate(which: tuple[int, str], threshold: str, value: float, passed: bool, reason: str) -> Gate:
    return Gate(which[0], which[1], threshold, value, passed, reason)


def _no_chains(number: int, name: str, threshold: str) -> Gate:
    return _not_judged((number, name), threshold, "maximum likelihood has no chains")


def _not_judged(which: tuple[int, str], threshold: str, why: str) -> Gate:
    return Gate(*which, threshold, None, True, why, judged=False)


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
