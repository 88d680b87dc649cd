"""The figures of what the gates looked at; each takes plain values and returns a figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from infra.report.estimates import Estimate
from infra.report.evidence import Pair, Shares
from infra.report.plots import dots
from infra.report.svg import ACCENT, INK, PALE, PANEL, SOFT, WARN, place, sheet
from infra.report.words import short

Array = NDArray[np.float64]
_PER_ROW = 6
_POINTS = 300


def category_shares(items: Sequence[Shares]) -> Figure:
    """Observed share of each category on the interval of the replications, an axes per item."""
    rows = -(-len(items) // _PER_ROW)
    figure = sheet(10.2, 0.1 + 1.5 * rows)
    width = (10.2 - 0.4) / _PER_ROW
    most = max(max(*item.observed, *item.high) for item in items) * 1.12
    for n, item in enumerate(items):
        row, column = divmod(n, _PER_ROW)
        left, above = 0.4 + column * width, 0.05 + row * 1.5
        below = 0.1 + 1.5 * rows - above - 1.15
        axes = place(figure, left, below, 10.2 - left - width + 0.15, above + 0.2)
        _draw_shares(axes, item, top=most)
        axes.tick_params(axis="y", labelleft=column == 0)
    return figure


def _draw_shares(axes: Axes, item: Shares, *, top: float) -> None:
    x = np.arange(len(item.observed))
    axes.vlines(x, item.low, item.high, color=PALE, linewidth=9)
    for at, share, beyond in zip(x, item.observed, item.beyond, strict=True):
        colour = WARN if beyond else ACCENT
        marker = "X" if beyond else "o"
        axes.plot([at], [share], marker, color=colour, markersize=4.5, markeredgecolor=PANEL)
    axes.set_xticks(x, [short(name, 4) for name in item.categories])
    axes.set(xlim=(-0.6, len(x) - 0.4), ylim=(0, top))
    axes.locator_params(axis="y", nbins=3)
    axes.grid(visible=False, axis="x")
    axes.set_title(short(item.item, 20), loc="left", fontsize=8)


def residual_pairs(pairs: Sequence[Pair]) -> Figure:
    """Residual correlation of each two items on the interval that chance gives it."""
    names = [f"{short(pair.items[0], 18)} · {short(pair.items[1], 18)}" for pair in pairs]
    margin = 0.25 + 0.062 * max(map(len, names))
    figure = sheet(5.0, 0.62 + 0.24 * max(len(pairs), 2))
    axes = place(figure, margin, 0.42, 0.15, 0.08)
    axes.hlines(
        range(len(pairs)),
        [pair.low for pair in pairs],
        [pair.high for pair in pairs],
        color=PALE,
        linewidth=7,
    )
    for row, pair in enumerate(pairs):
        colour, marker = (WARN, "X") if pair.beyond else (ACCENT, "o")
        axes.plot([pair.residual], [row], marker, color=colour, markeredgecolor=PANEL)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, colors=INK)
    axes.set_xlabel("correlation, observed less replicated")
    return figure


def pair_plot(rows: Sequence[Estimate], draws: Sequence[Array]) -> Figure:
    """Draws of each two parameters below the diagonal, their correlation above it."""
    n = len(rows)
    side = 1.3
    figure = sheet(0.5 + side * n, 0.45 + side * n)
    flat = [values.ravel() for values in draws]
    kept = np.linspace(0, flat[0].size - 1, min(_POINTS, flat[0].size)).astype(int)
    for i in range(n):
        for j in range(n):
            left, top = 0.45 + side * j, side * i
            axes = place(
                figure, left, 0.45 + side * (n - 1 - i) + 0.08, side * (n - 1 - j) + 0.13, top + 0.1
            )
            _draw_pair(axes, (i, j), rows, flat, kept)
            axes.tick_params(labelbottom=i == n - 1, labelleft=j == 0 and i > 0, labelsize=6.5)
    return figure


def _draw_pair(
    axes: Axes,
    cell: tuple[int, int],
    rows: Sequence[Estimate],
    flat: Sequence[Array],
    kept: NDArray[np.int64],
) -> None:
    i, j = cell
    if i < j:
        r = float(np.corrcoef(flat[i], flat[j])[0, 1])
        axes.text(0.5, 0.5, f"{r:+.2f}", transform=axes.transAxes, ha="center", va="center")
        axes.set_axis_off()
        return
    axes.locator_params(nbins=3)
    if i == j:
        counts, edges = np.histogram(flat[i], 30)
        axes.stairs(counts, edges, fill=True, color=PALE)
        axes.set(ylim=(0, counts.max() * 1.25), yticks=())
        axes.set_title(f"{rows[i].symbol} · {short(rows[i].item, 14)}", fontsize=6.8, y=0.86)
    else:
        dots(axes, flat[j][kept], flat[i][kept])
        axes.set_ylim(float(flat[i][kept].min()), float(flat[i][kept].max()))
    axes.set_xlim(float(flat[j].min()), float(flat[j].max()))
