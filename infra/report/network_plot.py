"""The network over families as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text

from infra.report.svg import ACCENT, INK, PANEL, WARN, place, sheet
from infra.report.words import plain, short

_LABEL_AT = 0.34  # of the way: in the middle, arrows of a circle cross


def network_graph(families: Sequence[str], edges: Sequence[Mapping[str, Any]]) -> Figure:
    """Families on a circle, an arrow per edge: as wide as it is strong, with its weight."""
    figure = sheet(4.9, 3.7)
    axes = place(figure, 0.05, 0.05, 0.05, 0.05)
    axes.set(xlim=(-1.72, 1.72), ylim=(-1.3, 1.3))
    axes.set_axis_off()
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(families)) / len(families)
    boxes = {
        name: _draw_box(axes, name, 1.2 * float(np.cos(at)), 1.12 * float(np.sin(at)))
        for name, at in zip(families, angle, strict=True)
    }
    figure.draw_without_rendering()  # only now do the boxes know their size
    for edge in edges:
        _draw_edge(axes, boxes[edge["parent"]], boxes[edge["child"]], edge)
    return figure


def _draw_box(axes: Axes, name: str, x: float, y: float) -> Text:
    frame = {"boxstyle": "round,pad=0.5", "facecolor": PANEL, "edgecolor": INK}
    return axes.text(
        x, y, short(name, 18), ha="center", va="center", fontsize=8, color=INK, bbox=frame
    )


def _draw_edge(axes: Axes, parent: Text, child: Text, edge: Mapping[str, Any]) -> None:
    start, end = np.array(parent.get_position()), np.array(child.get_position())
    positive = edge["weight"] >= 0
    arrow = FancyArrowPatch(
        parent.get_position(),
        child.get_position(),
        arrowstyle="-|>",
        mutation_scale=9,
        patchA=parent.get_bbox_patch(),
        patchB=child.get_bbox_patch(),
        shrinkA=0,
        shrinkB=2,
        color=ACCENT if positive else WARN,
        linewidth=0.5 + 1.8 * edge["strength"],
        linestyle="solid" if positive else (0, (4, 2)),
    )
    axes.add_patch(arrow)
    frame = {"boxstyle": "square,pad=0.15", "facecolor": PANEL, "edgecolor": "none"}
    x, y = (start + _LABEL_AT * (end - start)).tolist()
    label = axes.text(x, y, plain(edge["weight"], 2), bbox=frame)
    label.set(ha="center", va="center", fontsize=7.5, color=INK)
