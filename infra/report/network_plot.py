"""The network over families as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray

from infra.report.svg import ACCENT, INK, PANEL, SOFT, WARN, place, sheet
from infra.report.words import plain, short

_Place = NDArray[np.float64]


def network_graph(families: Sequence[str], edges: Sequence[Mapping[str, Any]]) -> Figure:
    """Families on a circle, an arrow per edge: as wide as it is strong, with its weight."""
    names = [short(name, 20) for name in families]
    figure = sheet(6.4, 4.4)
    axes = place(figure, 0.1, 0.1, 0.1, 0.1)
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(names)) / len(names)
    at = np.stack([1.25 * np.cos(angle), np.sin(angle)], 1)
    for edge in edges:
        ends = [at[list(families).index(edge[end])] for end in ("parent", "child")]
        _draw_edge(axes, ends[0], ends[1], edge["weight"], edge["strength"])
    for name, (x, y) in zip(names, at, strict=True):
        frame = {"boxstyle": "round,pad=0.45", "facecolor": PANEL, "edgecolor": INK}
        axes.text(x, y, name, ha="center", va="center", fontsize=8.5, color=INK, bbox=frame)
    axes.set(xlim=(-1.85, 1.85), ylim=(-1.27, 1.27))
    axes.set_axis_off()
    return figure


def _draw_edge(axes: Axes, start: _Place, end: _Place, weight: float, strength: float) -> None:
    colour = ACCENT if weight >= 0 else WARN
    arrow = FancyArrowPatch(
        (start[0], start[1]),
        (end[0], end[1]),
        arrowstyle="-|>",
        mutation_scale=11,
        shrinkA=24,
        shrinkB=24,
        color=colour,
        linewidth=0.6 + 2.4 * strength,
        linestyle="solid" if weight >= 0 else (0, (4, 2)),
    )
    axes.add_patch(arrow)
    x, y = start + 0.42 * (end - start)
    label = plain(weight, 2)
    axes.text(x, y, label, ha="center", va="center", fontsize=8, color=SOFT, fontweight="bold")
