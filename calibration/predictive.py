"""Posterior predictive checks: do answers drawn from the fit hang together as the real ones do?

What the traits must explain is how items correlate. Replicated answers are drawn from draws of the
items and traits (Rubin 1984); the correlations between items, observed less replicated, are
summed up by their root mean square (the SRMSR of Maydeu-Olivares & Joe 2014), for the family and
for each item against the others. NumPy only.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration import correlated_scores, scores
from calibration.data import Responses
from calibration.errors import SettingError
from calibration.layout import theta_nodes, used_cuts
from calibration.results import Fit

if TYPE_CHECKING:
    from calibration.correlated import CorrelatedFit

_MOST_RESPONDENTS = 4000  # a correlation of so many is known to 0.016

_Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ItemFit:
    """How an item's correlations with the others are met.

    Attributes:
        item: Its name.
        residual: Root mean square residual correlation.
        excess: What of ``residual`` is beyond the scatter of the replications.
        p_value: Share of replications that scatter at least as much.
    """

    item: str
    residual: float
    excess: float
    p_value: float


@dataclass(frozen=True, slots=True)
class PairFit:
    """How the correlation of two items is met.

    Attributes:
        items: Their names.
        residual: Observed correlation less the replicated ones' mean.
        low: Below it lie 2.5% of the replications, less their mean.
        high: Above it lie 2.5% of the replications, less their mean.
    """

    items: tuple[str, str]
    residual: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ShareFit:
    """How the shares of an item's categories are met, each tuple one per category.

    Attributes:
        item: Its name.
        categories: Their labels.
        observed: Share of the answers.
        low: Below it lie 2.5% of the replications.
        high: Above it lie 2.5% of the replications.
    """

    item: str
    categories: tuple[int, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FitCheck:
    """A posterior predictive check of a family; as `ItemFit`, over all pairs of items.

    Attributes:
        worst_pair: The two items with the largest residual correlation.
        worst_residual: That correlation, observed less replicated.
        items: Each item's own.
        pairs: Each two items' own.
        shares: Each item's categories.
        replications: Replicated sets of answers.
    """

    residual: float
    excess: float
    p_value: float
    worst_pair: tuple[str, str]
    worst_residual: float
    items: tuple[ItemFit, ...]
    pairs: tuple[PairFit, ...]
    shares: tuple[ShareFit, ...]
    replications: int


def check_fit(
    fit: "Fit | CorrelatedFit", responses: Responses, *, seed: int, replications: int = 100
) -> FitCheck:
    """Compare correlations between items with those of replicated answers.

    Beyond 4,000 respondents a random 4,000 are compared.

    Args:
        fit: The calibrated family. Without draws (``"mml"``) items and correlations are kept at
            their estimates, and only traits and answers are drawn. With correlated traits each
            item is answered by its own.
        responses: What it was calibrated on.
        seed: Of the replications.
        replications: At least 100: with fewer no p-value is below 0.01.

    Raises:
        SettingError: One item, or fewer than 100 replications.
    """
    if len(responses.items) < 2 or replications < 100:
        raise SettingError(
            f"{responses.family}: {len(responses.items)} items and replications = {replications}: "
            "give at least 2 and 100"
        )
    rng = np.random.default_rng((seed, 7))
    chosen = np.arange(responses.n_respondents)
    if chosen.size > _MOST_RESPONDENTS:
        chosen = np.sort(rng.choice(chosen, _MOST_RESPONDENTS, replace=False))
    counts = responses.counts[chosen]
    upper = np.triu_indices(len(responses.items), 1)
    correlations, shares = [], []
    for drawn in _parameters(fit, responses, chosen, replications, rng):
        drawn_counts = _replicate(responses, counts, drawn, rng)
        correlations.append(_correlations(drawn_counts)[upper])
        shares.append(_shares(drawn_counts))
    replicated = np.stack(correlations)
    residual = _correlations(counts)[upper] - replicated.mean(0)
    of_categories = _share_fits(responses, _shares(counts), np.stack(shares))
    return _verdict(responses.items, residual, replicated - replicated.mean(0), of_categories)


class _Parameters(NamedTuple):
    a: _Table
    b: _Table
    theta: _Table | None


def _parameters(
    fit: "Fit | CorrelatedFit",
    responses: Responses,
    chosen: NDArray[np.intp],
    n: int,
    rng: np.random.Generator,
) -> list[_Parameters]:
    """Items, and theta where it was sampled, of ``n`` draws spread over the chains.

    Several traits are drawn here where they were not sampled.
    """
    if not fit.draws:
        return _at_estimates(fit, responses, chosen, n, rng)
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in fit.draws.items()}
    a, b, theta = flat["discrimination"], flat["thresholds"], flat.get("theta")
    picked = np.linspace(0, len(a) - 1, n).astype(int)
    if theta is not None:
        return [_Parameters(a[s], b[s], theta_of_items(fit, theta[s, chosen])) for s in picked]
    if isinstance(fit, Fit):
        return [_Parameters(a[s], b[s], None) for s in picked]
    answers = _answers(fit, responses, chosen)
    omega = flat["correlation"]
    drawn = [correlated_scores.draw_theta(answers, a[s], b[s], omega[s], rng) for s in picked]
    return [
        _Parameters(a[s], b[s], theta_of_items(fit, one))
        for s, one in zip(picked, drawn, strict=True)
    ]


def _at_estimates(
    fit: "Fit | CorrelatedFit",
    responses: Responses,
    chosen: NDArray[np.intp],
    n: int,
    rng: np.random.Generator,
) -> list[_Parameters]:
    a, b = point_estimates(fit)
    if isinstance(fit, Fit):
        return [_Parameters(a, b, None)] * n
    answers = _answers(fit, responses, chosen)
    points = correlated_scores.posterior_points(answers, a, b, fit.correlation_mean)
    drawn = [correlated_scores.pick(points, rng) for _ in range(n)]
    return [_Parameters(a, b, theta_of_items(fit, theta)) for theta in drawn]


def _answers(
    fit: "CorrelatedFit", responses: Responses, chosen: NDArray[np.intp]
) -> correlated_scores.Answers:
    kept = responses.chosen(np.isin(np.arange(responses.n_respondents), chosen))
    return correlated_scores.prepare(kept, np.array(fit.trait_of_item))


def theta_of_items(fit: "Fit | CorrelatedFit", theta: _Table) -> _Table:
    """Theta as `category_shares` takes it: of one trait as it is, of several each item's own.

    Args:
        fit: Says which trait each item belongs to.
        theta: Shape (n,), or (n, n_traits).

    Returns:
        Shape (n,), or (n_items, n).
    """
    return theta if isinstance(fit, Fit) else theta[:, list(fit.trait_of_item)].T


def point_estimates(fit: "Fit | CorrelatedFit") -> tuple[_Table, _Table]:
    """Means of a, shape (n_items,), and of b, (n_items, n_cuts), NaN beyond an item's own."""
    rows = [estimate.thresholds for estimate in fit.estimates]
    n_cuts = max(len(row) for row in rows)
    cuts = [[s.mean for s in row] + [np.nan] * (n_cuts - len(row)) for row in rows]
    return np.array([estimate.discrimination.mean for estimate in fit.estimates]), np.array(cuts)


def _replicate(
    responses: Responses, counts: NDArray[np.int64], drawn: _Parameters, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Counts drawn with as many answers per respondent and item as the real ones."""
    theta = drawn.theta
    if theta is None:
        theta = draw_theta(responses, counts, (drawn.a, drawn.b), rng)
    share = category_shares(responses, drawn.a, drawn.b, theta).transpose(2, 0, 1)
    replicated: NDArray[np.int64] = rng.multinomial(counts.sum(2), share)
    return replicated


def category_shares(responses: Responses, a: _Table, b: _Table, theta: _Table) -> _Table:
    """Probability of each category, 0 beyond an item's own; (n_items, n_categories, n_theta).

    Theta is of shape (n_theta,), or (n_items, n_theta); see `theta_of_items`.
    """
    log_p = scores.log_category_probabilities(responses, a, b, theta)
    used = used_cuts(responses.categories, b.shape[1])
    real = np.concatenate([np.ones((len(a), 1), bool), used], 1)
    share = np.where(real[:, :, None], np.exp(log_p), 0.0)
    total: _Table = share / share.sum(1, keepdims=True)
    return total


def draw_theta(
    responses: Responses,
    counts: NDArray[np.int64],
    items: tuple[_Table, _Table],
    rng: np.random.Generator,
) -> _Table:
    """One draw of theta per row of counts from its posterior given the items."""
    nodes = theta_nodes(responses)
    share = scores.posterior_on_nodes(responses, counts, items, nodes)
    cumulative = np.cumsum(share, 1)
    level = rng.random((len(counts), 1)) * cumulative[:, -1:]
    cell = (cumulative < level).sum(1)
    theta: _Table = nodes[cell] + (nodes[1] - nodes[0]) * (rng.random(cell.size) - 0.5)
    return theta


def _correlations(counts: NDArray[np.int64]) -> _Table:
    """Between respondents' mean positions on each two items, over those who answered both.

    0 where it is not defined: fewer than three answered both, or one item does not vary.
    """
    answers = counts.sum(2)
    seen = (answers > 0).astype(float)
    mean = counts @ np.arange(counts.shape[2]) / np.maximum(answers, 1)
    mean = (mean - mean.sum(0) / np.maximum(seen.sum(0), 1)) * seen
    both = np.maximum(seen.T @ seen, 1)
    centre, square = mean.T @ seen / both, (mean**2).T @ seen / both - (mean.T @ seen / both) ** 2
    covariance = mean.T @ mean / both - centre * centre.T
    scale = square * square.T
    known = (both > 2) & (square > 1e-12) & (square.T > 1e-12)
    return np.where(known, covariance / np.sqrt(np.where(known, scale, 1.0)), 0.0)


def _shares(counts: NDArray[np.int64]) -> _Table:
    total = counts.sum(0).astype(float)
    share: _Table = total / np.maximum(total.sum(1, keepdims=True), 1)
    return share


def _share_fits(responses: Responses, observed: _Table, replicated: _Table) -> tuple[ShareFit, ...]:
    parts = (observed, *np.quantile(replicated, (0.025, 0.975), axis=0))
    return tuple(
        ShareFit(item, own, *(tuple(part[j, : len(own)].tolist()) for part in parts))
        for j, (item, own) in enumerate(zip(responses.items, responses.categories, strict=True))
    )


def _verdict(
    items: tuple[str, ...], residual: _Table, scatter: _Table, shares: tuple[ShareFit, ...]
) -> FitCheck:
    first, second = np.triu_indices(len(items), 1)
    worst = int(np.abs(residual).argmax())
    everything = np.ones(residual.size, bool)
    by_item = tuple(
        ItemFit(item, *_figures(residual, scatter, (first == j) | (second == j)))
        for j, item in enumerate(items)
    )
    low, high = np.quantile(scatter, (0.025, 0.975), axis=0).tolist()
    names = [(items[i], items[j]) for i, j in zip(first, second, strict=True)]
    return FitCheck(
        *_figures(residual, scatter, everything),
        worst_pair=(items[first[worst]], items[second[worst]]),
        worst_residual=float(residual[worst]),
        items=by_item,
        pairs=tuple(map(PairFit, names, residual.tolist(), low, high)),
        shares=shares,
        replications=len(scatter),
    )


def _figures(
    residual: _Table, scatter: _Table, pairs: NDArray[np.bool_]
) -> tuple[float, float, float]:
    observed = float((residual[pairs] ** 2).mean())
    expected = (scatter[:, pairs] ** 2).mean(1)
    # The observed set counts as one of the replications, so that no p-value is 0.
    p_value = (1 + float((expected >= observed).sum())) / (1 + len(expected))
    excess = max(observed - float(expected.mean()), 0.0)
    return float(np.sqrt(observed)), float(np.sqrt(excess)), p_value
