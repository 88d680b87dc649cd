"""The figures of correlated traits; each takes plain values and returns a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from calibration.curves import test_information
from infra.report.curves import THETA
from infra.report.estimates import Estimate, Item
from infra.report.plots import dots
from infra.report.svg import (
    ACCENT,
    CHAINS,
    GRID,
    INK,
    PALE,
    PANEL,
    SOFT,
    TRUTH,
    WARN,
    place,
    sheet,
)
from infra.report.words import plain, short

Array = NDArray[np.float64]
_CELL_INCHES = 0.86
_STYLES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
_DOTS, _FEW = 400, 30


def correlation_matrix(traits: Sequence[str], correlations: Sequence[Estimate]) -> Figure:
    """Posterior mean and interval of each two traits' correlation, below the diagonal.

    A bar in each cell runs from the middle, 0, to the mean: right and blue above, left and orange
    below it.
    """
    n = len(traits)
    names = [short(trait, 18) for trait in traits]
    margin = 0.2 + 0.066 * max(map(len, names))
    side = _CELL_INCHES
    below = 0.25 + 0.036 * max(map(len, names))
    figure = sheet(margin + side * (n - 1) + 0.3, below + side * (n - 1) + 0.1)
    axes = place(figure, margin, below, 0.3, 0.1)
    axes.set(xlim=(0, n - 1), ylim=(n, 1))
    for pair in correlations:
        if pair.traits is not None and pair.mean is not None:
            _draw_cell(axes, pair.traits, pair)
    axes.set_yticks(np.arange(1, n) + 0.5, names[1:])
    axes.set_xticks(np.arange(n - 1) + 0.62, names[:-1], rotation=30, ha="right")
    axes.tick_params(length=0, colors=INK)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def _draw_cell(axes: Axes, places: tuple[int, int], pair: Estimate) -> None:
    column, row = places
    mean = pair.mean or 0.0
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor="none", edgecolor=GRID, linewidth=0.8))
    colour = ACCENT if mean >= 0 else WARN
    middle = column + 0.5
    axes.hlines(row + 0.8, column + 0.08, column + 0.92, color=GRID, linewidth=3)
    axes.hlines(row + 0.8, middle, middle + 0.42 * mean, color=colour, linewidth=3)
    axes.text(middle, row + 0.32, plain(mean, 2), ha="center", va="center", fontsize=10, color=INK)
    if pair.low is not None and pair.high is not None:
        told = f"{plain(pair.low, 2)} to {plain(pair.high, 2)}"
        axes.text(middle, row + 0.58, told, ha="center", va="center", fontsize=7, color=SOFT)


def trait_information(traits: Mapping[str, Sequence[Item]]) -> Figure | None:
    """The information of each trait's items together, and the error that it leaves."""
    totals = {name: total for name, items in traits.items() if (total := _total(items)) is not None}
    if not totals:
        return None
    figure = sheet(10.2, 2.9)
    left = place(figure, 0.42, 0.42, 6.4, 0.28)
    right = place(figure, 4.55, 0.42, 2.3, 0.28)
    for n, (name, total) in enumerate(totals.items()):
        style: dict[str, Any] = {"color": CHAINS[n % 8], "linestyle": _STYLES[n // 8 % 3]}
        left.plot(THETA, total, linewidth=1.5, **style)
        error = 1 / np.sqrt(np.maximum(total, 1e-12))
        right.plot(THETA, error, linewidth=1.5, label=short(name, 22), **style)
    left.set(xlim=(-4, 4), ylim=(0, None), xlabel="the trait's θ")
    left.set_title("Information of a trait's items", loc="left")
    right.axhline(1.0, color=SOFT, linewidth=0.8, dashes=(3, 2))
    right.set(xlim=(-4, 4), ylim=(0, 3), xlabel="the trait's θ")
    right.set_title("Standard error of θ, 1 / √I(θ); dashed: the trait's sd", loc="left")
    right.legend(
        loc="upper left", bbox_to_anchor=(1.02, 1.02), frameon=False, fontsize=7.5, labelcolor=INK
    )
    return figure


def _total(items: Sequence[Item]) -> Array | None:
    points = [item.point for item in items if item.point is not None]
    if not points:
        return None
    return test_information([a for a, _ in points], [cuts for _, cuts in points], THETA)


def trait_scores(
    scores: Mapping[str, tuple[Array, Array]], cuts: Mapping[str, Sequence[float]]
) -> Figure:
    """Respondents' scores on each trait, the thresholds of its items below, a row a trait."""
    names = [short(name, 22) for name in scores]
    margin = 0.25 + 0.067 * max(map(len, names))
    figure = sheet(10.2, 0.5 + 0.42 * max(len(names), 2))
    axes = place(figure, margin, 0.42, 0.12, 0.08)
    for row, (name, (mean, sd)) in enumerate(scores.items()):
        kept = np.linspace(0, mean.size - 1, min(_DOTS, mean.size)).astype(int)
        _draw_scores(axes, row - 0.12, np.clip(mean[kept], -4, 4), sd[kept])
        axes.eventplot(
            cuts.get(name, ()), lineoffsets=row + 0.22, linelengths=0.2, linewidths=0.9, color=TRUTH
        )
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(-4, 4), ylim=(len(names) - 0.5, -0.5), xlabel="the trait's θ")
    axes.tick_params(axis="y", length=0, colors=INK)
    return figure


def _draw_scores(axes: Axes, level: float, at: Array, error: Array) -> None:
    """Few respondents as points with their posterior sd on either side, many as dots."""
    if at.size > _FEW:
        dots(axes, at, np.full(at.size, level))
        return
    axes.hlines(np.full(at.size, level), at - error, at + error, color=PALE, linewidth=2.5)
    axes.plot(at, np.full(at.size, level), "o", color=ACCENT, markersize=5, markeredgecolor=PANEL)
