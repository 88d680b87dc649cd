"""Whether groups answer by one model: configural, metric and scalar invariance.

Three multi-group graded response models by marginal maximum likelihood, each nested in the one
before: everything free per group; discriminations equal (the later groups' spread of theta free);
thresholds equal too (their mean free as well). A level holds where its BIC is not above that of
the level before (Schwarz 1978), counted in respondents, and every level before it holds.

The priors of the Bayesian model are kept as a penalty, so that five respondents a group, or
a category that one group never used, still give finite estimates. Log-likelihood, AIC and BIC
are of the data alone, at those estimates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from calibration import density, grm, scores
from calibration.curvature import find_marginal_mode
from calibration.data import Responses
from calibration.errors import SettingError, TooFewItemsError, TooFewRespondentsError
from calibration.results import Priors

Level = Literal["configural", "metric", "scalar"]
ITEM_P_VALUE = 0.01
FEWEST_ITEMS = 2
LEVELS: tuple[Level, ...] = ("configural", "metric", "scalar")


@dataclass(frozen=True, slots=True)
class InvarianceRow:
    """One level.

    Attributes:
        level: Which one.
        log_likelihood: All groups together, theta integrated out.
        n_parameters: Free parameters.
        aic: Akaike's criterion.
        bic: Schwarz's criterion, with the number of respondents.
        delta_bic: BIC less that of the level before; 0 for the first. Above 0 speaks against.
        delta_bic_se: Its standard error over respondents (Vuong 1989); 0 for the first.
        holds: Whether this level, and every one before it, holds.
        group_means: Mean of theta per group; the first is 0. Empty where traits are summed.
        group_sds: Standard deviation of theta per group; the first is 1. Likewise.
    """

    level: Level
    log_likelihood: float
    n_parameters: int
    aic: float
    bic: float
    delta_bic: float
    delta_bic_se: float
    holds: bool
    group_means: tuple[float, ...]
    group_sds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ItemInvariance:
    """Whether an item asks the same of each group.

    Attributes:
        item: Its name.
        likelihood_ratio: Twice the log-likelihood that its own parameters per group gain.
        n_parameters: How many they are: the degrees of freedom.
        delta_bic: BIC with the item free less that with it tied. Below 0 speaks for free.
        p_value: Of the likelihood ratio, by chi-squared.
        invariant: Whether it is the same in each group: BIC speaks for tied, or chance makes
            such a likelihood ratio in one of so many items once in 100 times (Bonferroni). With
            few respondents BIC alone is soon convinced.
    """

    item: str
    likelihood_ratio: float
    n_parameters: int
    delta_bic: float
    p_value: float
    invariant: bool


def split_groups(n: int, seed: int) -> NDArray[np.int64]:
    """Two random halves, for respondents without groups of their own, shape (n,)."""
    return np.random.default_rng(seed).permutation(n).astype(np.int64) % 2


def compare(responses: Responses, *, priors: Priors | None = None) -> tuple[InvarianceRow, ...]:
    """Compare the three levels across ``responses.groups``.

    Args:
        responses: The data.
        priors: Of the items, the penalty.

    Returns:
        Configural, metric, scalar.

    Raises:
        SettingError: Fewer than two groups.
        TooFewRespondentsError: A group of one.
        NotConvergedError: A level has no mode.
    """
    study = _study(responses, priors)
    start = _start(study)
    rows: list[InvarianceRow] = []
    before: _Found | None = None
    for level in LEVELS:
        tied = np.ones(len(responses.items))
        found = _fit(study, tied * (level != "configural"), tied * (level == "scalar"), start)
        scatter = _scatter(found, before) if before else 0.0
        rows.append(_row(study, level, found, rows[-1] if rows else None, scatter))
        start, before = found.y, found
    return tuple(rows)


def of_trait(responses: Responses, trait: str, mine: NDArray[np.bool_]) -> Responses:
    """A trait's items and who answered any, whose groups can be compared.

    Raises:
        TooFewItemsError: One item: whatever groups make of it may be the trait's.
    """
    part = responses.of_items(mine, trait)
    if len(part.items) < FEWEST_ITEMS:
        raise TooFewItemsError("one item only, of which groups differ in the item or in the trait")
    return part.chosen(part.counts.sum((1, 2)) > 0)


def over_traits(by_trait: Mapping[str, Sequence[InvarianceRow]]) -> tuple[InvarianceRow, ...]:
    """Traits' rows as a family's: a level holds where it holds in each trait.

    Each trait's groups are compared by its own items, so that figures add up. Standard errors
    do so at most, as the respondents are the same.
    """
    return tuple(
        InvarianceRow(
            level=rows[0].level,
            log_likelihood=sum(row.log_likelihood for row in rows),
            n_parameters=sum(row.n_parameters for row in rows),
            aic=sum(row.aic for row in rows),
            bic=sum(row.bic for row in rows),
            delta_bic=sum(row.delta_bic for row in rows),
            delta_bic_se=sum(row.delta_bic_se for row in rows),
            holds=all(row.holds for row in rows),
            group_means=(),
            group_sds=(),
        )
        for rows in zip(*by_trait.values(), strict=True)
    )


def differences_p_value(rows: Sequence[InvarianceRow]) -> float:
    """Of everything equal (scalar) against nothing equal (configural), by chi-squared."""
    free, tied = rows[0], rows[-1]
    gain = 2 * (free.log_likelihood - tied.log_likelihood)
    return _chi_squared(gain, free.n_parameters - tied.n_parameters)


def name_items(responses: Responses, *, priors: Priors | None = None) -> tuple[ItemInvariance, ...]:
    """Find the items whose parameters differ between groups.

    All items are tied at first. Each is freed alone, and the one whose BIC falls furthest stays
    free; then the others are tried again beside it, until none falls (purification: the items
    that stay tied are what the groups are compared by). At least one item stays tied.

    Args:
        responses: The data.
        priors: Of the items, the penalty.

    Returns:
        One per item, in their order.

    Raises:
        CalibrationError: As `compare`, or one item only.
    """
    study = _study(responses, priors)
    n = len(responses.items)
    if n < 2:
        raise TooFewItemsError(
            f"{responses.family}: item {responses.items[0]} is alone, so the groups share no item "
            "to be compared by: add an item"
        )
    free = np.zeros(n, bool)
    base = _freed(study, free, _start(study))
    said: dict[int, ItemInvariance] = {}
    while free.sum() < n - 1:
        tried = {
            j: _freed(study, free | (np.arange(n) == j), base.y) for j in range(n) if not free[j]
        }
        found = {j: _item(study, j, fit, base) for j, fit in tried.items()}
        said.update(found)
        worst = min(found, key=lambda j: found[j].delta_bic)
        if found[worst].invariant:
            break
        free[worst] = True
        base = tried[worst]
    return tuple(said[j] for j in range(n))


class _Study(NamedTuple):
    responses: Responses
    groups: list[NDArray[np.bool_]]
    data: density.MarginalData


class _Found(NamedTuple):
    y: NDArray[np.float64]
    by_respondent: NDArray[np.float64]
    means: NDArray[np.float64]
    sds: NDArray[np.float64]

    @property
    def log_likelihood(self) -> float:
        return float(self.by_respondent.sum())


def _study(responses: Responses, priors: Priors | None) -> _Study:
    labels, sizes = np.unique(responses.groups, return_counts=True)
    if labels.size < 2:
        raise SettingError(
            f"{responses.family}: one group ({labels[0]}): give two or more, such as split_groups"
        )
    if sizes.min() < 2:
        raise TooFewRespondentsError(
            f"{responses.family}: group {labels[sizes.argmin()]} has one respondent: give each "
            "group two or more"
        )
    groups = [responses.groups == label for label in labels]
    data = grm.marginal_data(responses, groups, prior_weight=1.0, priors=priors)
    return _Study(responses, groups, data)


def _start(study: _Study) -> NDArray[np.float64]:
    n = len(study.groups)
    return np.concatenate([np.tile(grm.start_items(study.responses), n), np.zeros(2 * n - 2)])


def _freed(study: _Study, free: NDArray[np.bool_], start: NDArray[np.float64]) -> _Found:
    tied = (~free).astype(np.float64)
    return _fit(study, tied, tied, start)


def _fit(
    study: _Study,
    tie_a: NDArray[np.float64],
    tie_b: NDArray[np.float64],
    start: NDArray[np.float64],
) -> _Found:
    data = study.data._replace(tie_a=tie_a, tie_b=tie_b)
    mode = find_marginal_mode(study.responses, start, data)
    estimates = density.group_estimates(mode.y, data)
    means, sds, slopes, cuts = (np.asarray(part) for part in estimates)
    log_likelihood = np.zeros(study.responses.n_respondents)
    for rows, mean, sd, a, c in zip(study.groups, means, sds, slopes, cuts, strict=True):
        thresholds = (c / a[:, None] - mean) / sd
        of_everyone = scores.integrate(study.responses, sd * a, thresholds).log_likelihood
        log_likelihood[rows] = of_everyone[rows]
    return _Found(mode.y, log_likelihood, means, sds)


def _scatter(found: _Found, before: _Found) -> float:
    """Standard error of twice the difference of two log-likelihoods, over respondents."""
    difference = 2 * (found.by_respondent - before.by_respondent)
    return float(np.sqrt(difference.size) * difference.std())


def _row(
    study: _Study, level: Level, found: _Found, before: InvarianceRow | None, scatter: float
) -> InvarianceRow:
    free = _n_parameters(study.responses, len(study.groups), level)
    bic = free * float(np.log(study.responses.n_respondents)) - 2 * found.log_likelihood
    delta = 0.0 if before is None else bic - before.bic
    return InvarianceRow(
        level=level,
        log_likelihood=found.log_likelihood,
        n_parameters=free,
        aic=2 * free - 2 * found.log_likelihood,
        bic=bic,
        delta_bic=delta,
        delta_bic_se=scatter,
        holds=delta <= 0 and (before is None or before.holds),
        group_means=tuple(found.means.tolist()),
        group_sds=tuple(found.sds.tolist()),
    )


def _item(study: _Study, j: int, free: _Found, tied: _Found) -> ItemInvariance:
    n_parameters = (len(study.groups) - 1) * len(study.responses.categories[j])
    gain = 2 * (free.log_likelihood - tied.log_likelihood)
    delta = n_parameters * float(np.log(study.responses.n_respondents)) - gain
    p_value = _chi_squared(gain, n_parameters)
    invariant = delta >= 0 or p_value * len(study.responses.items) >= ITEM_P_VALUE
    return ItemInvariance(study.responses.items[j], gain, n_parameters, delta, p_value, invariant)


def _chi_squared(ratio: float, freedom: int) -> float:
    """How often chance makes twice a log-likelihood ratio as large."""
    return float(jax.scipy.special.gammaincc(freedom / 2, max(ratio, 0.0) / 2))


def _n_parameters(responses: Responses, n_groups: int, level: Level) -> int:
    slopes = len(responses.items)
    cuts = sum(len(observed) - 1 for observed in responses.categories)
    match level:
        case "configural":
            return n_groups * (slopes + cuts)
        case "metric":
            return slopes + n_groups * cuts + (n_groups - 1)
        case "scalar":
            return slopes + cuts + 2 * (n_groups - 1)
