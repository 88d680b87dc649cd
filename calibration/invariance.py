"""Whether groups answer by one model: configural, metric and scalar invariance.

Three multi-group graded response models by marginal maximum likelihood, each nested in the one
before: everything free per group; discriminations equal (the later groups' spread of theta free);
thresholds equal too (their mean free as well). A level holds where its BIC is not above that of
the level before (Schwarz 1978), counted in respondents, and every level before it holds.

The priors of the Bayesian model are kept as a weak penalty, so that five respondents a group, or
a category that one group never used, still give finite estimates. Log-likelihood, AIC and BIC
are of the data alone, at those estimates.
"""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from calibration import density, grm, scores
from calibration.data import Responses
from calibration.errors import SettingError, TooFewRespondentsError
from calibration.newton import find_mode

Level = Literal["configural", "metric", "scalar"]
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
        holds: Whether this level, and every one before it, holds.
        group_means: Mean of theta per group; the first is 0.
        group_sds: Standard deviation of theta per group; the first is 1.
    """

    level: Level
    log_likelihood: float
    n_parameters: int
    aic: float
    bic: float
    delta_bic: float
    holds: bool
    group_means: tuple[float, ...]
    group_sds: tuple[float, ...]


def split_groups(n: int, seed: int) -> NDArray[np.int64]:
    """Two random halves, for respondents without groups of their own, shape (n,)."""
    return np.random.default_rng(seed).permutation(n).astype(np.int64) % 2


def compare(responses: Responses) -> tuple[InvarianceRow, ...]:
    """Compare the three levels across ``responses.groups``.

    Returns:
        Configural, metric, scalar.

    Raises:
        SettingError: Fewer than two groups.
        TooFewRespondentsError: A group of one.
        NotConvergedError: A level has no mode.
    """
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
    start = np.concatenate(
        [np.tile(grm.start_items(responses), len(groups)), np.zeros(2 * len(groups) - 2)]
    )
    rows: list[InvarianceRow] = []
    for level in LEVELS:
        row, start = _level(responses, groups, level, start, rows[-1] if rows else None)
        rows.append(row)
    return tuple(rows)


def _level(
    responses: Responses,
    groups: list[NDArray[np.bool_]],
    level: Level,
    start: NDArray[np.float64],
    before: InvarianceRow | None,
) -> tuple[InvarianceRow, NDArray[np.float64]]:
    data = grm.marginal_data(
        responses,
        groups,
        prior_weight=1.0,
        tie_a=level != "configural",
        tie_b=level == "scalar",
    )
    mode = find_mode(density.marginal_log_density, start, data)
    estimates = density.group_estimates(jnp.asarray(mode.y), data)
    centre, spread, slopes, cuts = (np.asarray(part) for part in estimates)
    log_likelihood = 0.0
    for rows, mean, sd, a, c in zip(groups, centre, spread, slopes, cuts, strict=True):
        thresholds = (c / a[:, None] - mean) / sd
        by_respondent = scores.integrate(responses, sd * a, thresholds).log_likelihood
        log_likelihood += float(by_respondent[rows].sum())
    free = _n_parameters(responses, len(groups), level)
    bic = free * float(np.log(responses.n_respondents)) - 2 * log_likelihood
    delta = 0.0 if before is None else bic - before.bic
    return InvarianceRow(
        level=level,
        log_likelihood=log_likelihood,
        n_parameters=free,
        aic=2 * free - 2 * log_likelihood,
        bic=bic,
        delta_bic=delta,
        holds=delta <= 0 and (before is None or before.holds),
        group_means=tuple(centre.tolist()),
        group_sds=tuple(spread.tolist()),
    ), mode.y


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
