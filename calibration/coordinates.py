"""Between the coordinates that are sampled and the stated model's. NumPy, for all draws at once."""

import numpy as np
from numpy.typing import NDArray

from calibration import density
from calibration.data import Responses
from calibration.layout import LOGISTIC_VARIANCE
from calibration.results import Priors


def rough_scores(
    responses: Responses, kept: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Standardised mean of the answers' positions among an item's categories.

    Respondents without an answer are put at the mean, and where all are equal they are spread
    out evenly.

    Args:
        responses: The data.
        kept: The items that are read, shape (n_items,); all without it.
    """
    width = np.array([len(observed) - 1 for observed in responses.categories])
    place = np.arange(responses.counts.shape[2]) / width[:, None]
    counts = responses.counts if kept is None else responses.counts[:, kept]
    total = counts.sum((1, 2))
    raw = np.einsum("njk,jk->n", counts, place if kept is None else place[kept])
    raw = raw / np.maximum(total, 1)
    raw = np.where(total > 0, raw, raw[total > 0].mean())
    centred = raw - raw.mean() if raw.std() > 1e-9 else np.linspace(-1, 1, raw.size)
    rough: NDArray[np.float64] = centred / centred.std()
    return rough


def unpack_items(
    y: NDArray[np.float64], n_items: int, n_cuts: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Log a, lowest cut point and log gaps, the last coordinates of ``y``; see `density.Items`."""
    flat = y[..., -n_items * (n_cuts + 1) :]
    gaps = flat[..., 2 * n_items :].reshape(*y.shape[:-1], n_items, n_cuts - 1)
    return flat[..., :n_items], flat[..., n_items : 2 * n_items], gaps


def unpack_from_middle(
    y: NDArray[np.float64], used: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """As `unpack_items`, where ``y`` holds the middle cuts; see `density.from_middle`."""
    log_a, middle, log_gap = unpack_items(y, *used.shape)
    return log_a, middle - _to_middle(log_gap, used), log_gap


def from_lowest_to_middle(y: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Coordinates, of which the items' come last, with the middle cuts in place of the lowest."""
    _, _, log_gap = unpack_items(y, *used.shape)
    return _with_cuts_moved(y, _to_middle(log_gap, used), used.shape[1])


def from_middle_to_lowest(y: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The other way round."""
    _, _, log_gap = unpack_items(y, *used.shape)
    return _with_cuts_moved(y, -_to_middle(log_gap, used), used.shape[1])


def standardise(y: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One point by the coordinates of `density.from_standardised`, from those by lowest cuts."""
    log_a, middle, log_gap = unpack_items(from_lowest_to_middle(y, used), *used.shape)
    log_unit = 0.5 * np.log1p(np.exp(2 * log_a) / LOGISTIC_VARIANCE)
    gaps = log_gap - np.where(used[:, 1:], log_unit[:, None], 0.0)
    others = y[: y.size - used.size - len(used)]
    return np.concatenate([others, log_a, middle * np.exp(-log_unit), gaps.ravel()])


def curvature_from_middle(
    y: NDArray[np.float64], hessian: NDArray[np.float64], used: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Second derivatives at a mode ``y`` of the lowest cuts, by the middle ones instead."""
    n_items, n_cuts = used.shape
    _, _, log_gap = unpack_items(y, n_items, n_cuts)
    change = np.eye(y.size)
    first = y.size - n_items * n_cuts  # of the cuts
    for j, inside in enumerate(used.sum(1) // 2):
        gaps = first + n_items + j * (n_cuts - 1) + np.arange(inside)
        change[first + j, gaps] = -np.exp(log_gap[j, :inside])
    moved: NDArray[np.float64] = change.T @ hessian @ change
    return moved


def _with_cuts_moved(
    y: NDArray[np.float64], by: NDArray[np.float64], n_cuts: int
) -> NDArray[np.float64]:
    moved, n_items = y.copy(), by.shape[-1]
    first = y.shape[-1] - n_items * n_cuts
    moved[..., first : first + n_items] += by
    return moved


def _to_middle(log_gap: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    inside = np.arange(log_gap.shape[-1]) < used.sum(1)[:, None] // 2
    distance: NDArray[np.float64] = np.where(inside, np.exp(log_gap), 0.0).sum(-1)
    return distance


def thresholds_of(
    log_a: NDArray[np.float64],
    lowest: NDArray[np.float64],
    log_gap: NDArray[np.float64],
    used: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Thresholds b = c / a, NaN beyond an item's own."""
    steps = np.concatenate([np.zeros((*lowest.shape, 1)), np.cumsum(np.exp(log_gap), -1)], -1)
    cuts = np.where(used, lowest[..., None] + steps, np.nan)
    return cuts / np.exp(log_a)[..., None]


def draw_population(
    log_a: NDArray[np.float64], rng: np.random.Generator, priors: Priors
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw mu and sigma from their conditional posterior, exact but for the grid of sigma.

    Args:
        log_a: Draws of the log discriminations, shape (..., n_items).
        rng: Of the draws.
        priors: Of the items.
    """
    n = log_a.shape[-1]
    table = density.tabulate(priors, n)
    mean = log_a.mean(-1, keepdims=True)
    within = ((log_a - mean) ** 2).sum(-1, keepdims=True)
    log_p = table.log_weight - 0.5 * (within / table.within + n * mean**2 / table.between)
    cumulative = np.cumsum(np.exp(log_p - log_p.max(-1, keepdims=True)), -1)
    level = rng.random(log_a.shape[:-1])[..., None] * cumulative[..., -1:]
    cell = (cumulative < level).sum(-1)
    log_sigma = np.asarray(table.log_sigma)
    spacing = log_sigma[1] - log_sigma[0]
    log_sd = log_sigma[cell] + spacing * (rng.random(cell.shape) - 0.5)
    precision = n * np.exp(-2 * log_sd) + density.MU_SD**-2
    centre = n * mean[..., 0] * np.exp(-2 * log_sd) / precision
    return centre + rng.standard_normal(cell.shape) / np.sqrt(precision), np.exp(log_sd)
