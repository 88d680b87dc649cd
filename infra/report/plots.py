"""The figures of the report; each takes plain values and returns a figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from calibration.curves import (
    category_probabilities,
    item_information,
    rank_histogram,
    test_information,
)
from infra.ports import StepStatus
from infra.report.curves import THETA, envelope
from infra.report.data import Truth
from infra.report.estimates import Estimate, Item, Recovery
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
    ramp,
    sheet,
)
from infra.report.timeline import Bar, Lane, Timeline, in_slices, peak
from infra.report.words import duration, short

Array = NDArray[np.float64]
_ROW_INCHES = 0.28
_DOTS = 600
_TICKS = (-4, -2, 0, 2, 4)


def item_curves(item: Item, most: float) -> Figure | None:
    """Category curves above the item's information; ``most`` is the family's highest."""
    if item.point is None:
        return None
    a, cuts = item.point
    figure = sheet(3.4, 2.75)
    upper = place(figure, 0.42, 1.05, 0.08, 0.1)
    lower = place(figure, 0.42, 0.42, 0.08, 1.85)
    _draw_categories(upper, category_probabilities(a, cuts, THETA), item.categories)
    bits = item_information(a, cuts, THETA)
    lower.fill_between(THETA, bits, color=PALE, linewidth=0)
    lower.plot(THETA, bits, color=ACCENT, linewidth=1.1)
    lower.set(ylim=(0, most * 1.08 or 1), xlim=(-4, 4), xticks=_TICKS, xlabel="trait θ")
    lower.locator_params(axis="y", nbins=2)
    lower.set_ylabel("I(θ)", fontsize=7)
    return figure


def family_information(items: Sequence[Item]) -> Figure | None:
    """The information of the whole test, each item's below it, and the error that it leaves."""
    points = [item.point for item in items if item.point is not None]
    if not points:
        return None
    total = test_information([a for a, _ in points], [cuts for _, cuts in points], THETA)
    figure = sheet(10.2, 2.7)
    left = place(figure, 0.42, 0.42, 5.45, 0.28)
    right = place(figure, 5.45, 0.42, 0.12, 0.28)
    for point in points:
        left.plot(THETA, item_information(*point, THETA), color=SOFT, linewidth=0.7)
    left.fill_between(THETA, total, color=PALE, linewidth=0)
    left.plot(THETA, total, color=ACCENT, linewidth=1.8)
    left.set(xlim=(-4, 4), ylim=(0, None), xlabel="trait θ")
    left.set_title("Information: test (bold), items (thin)", loc="left")
    error = 1 / np.sqrt(np.maximum(total, 1e-12))
    right.plot(THETA, error, color=ACCENT, linewidth=1.8)
    right.axhline(1.0, color=SOFT, linewidth=0.8, dashes=(3, 2))
    right.set(xlim=(-4, 4), ylim=(0, min(float(error.max()) * 1.05, 3.0)), xlabel="trait θ")
    right.set_title("Standard error of θ, 1 / √I(θ); dashed: the trait's sd", loc="left")
    return figure


def score_spread(mean: Array, sd: Array, cuts: Sequence[float]) -> Figure:
    """Respondents' scores and the items' thresholds on one scale, and how sure each score is."""
    figure = sheet(10.2, 2.9)
    upper = place(figure, 0.42, 1.0, 5.45, 0.28)
    lower = place(figure, 0.42, 0.42, 5.45, 2.0)
    right = place(figure, 5.45, 0.42, 0.12, 0.28)
    edges = np.linspace(-4, 4, 41).tolist()
    upper.hist(np.clip(mean, -4, 4), edges, color=ACCENT)
    upper.set(xlim=(-4, 4), ylabel="respondents")
    upper.locator_params(axis="y", nbins=4, integer=True)
    upper.tick_params(axis="x", labelbottom=False)
    upper.set_title("Scores above, thresholds of all items below", loc="left")
    lower.eventplot(cuts, lineoffsets=0.5, linelengths=0.8, linewidths=0.9, color=TRUTH)
    lower.set(xlim=(-4, 4), ylim=(0, 1), yticks=(), xlabel="trait θ")
    kept = np.linspace(0, mean.size - 1, min(_DOTS, mean.size)).astype(int)
    order = np.argsort(mean)[kept]
    dots(right, np.clip(mean[order], -4, 4), sd[order])
    right.set(xlim=(-4, 4), ylim=(0, float(sd.max()) * 1.08), xlabel="score (EAP)")
    right.set_title("Posterior sd of each score", loc="left")
    return figure


def dots(axes: Axes, x: Array, y: Array) -> None:
    """All points as one path of segments without length, whose round ends are dots."""
    at = np.repeat(np.column_stack([x, y]), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(x))
    axes.add_patch(
        PathPatch(
            Path(at, codes), facecolor="none", edgecolor=ACCENT, linewidth=2.0, capstyle="round"
        )
    )


def forest(items: Sequence[Item], truth: Truth | None) -> Figure:
    """Discriminations with their intervals, one row per item."""
    figure, axes = _rows(items)
    for row, item in enumerate(items):
        _interval(axes, row, item.discrimination, ACCENT)
        if truth is not None and item.item in truth:
            _diamond(axes, row, truth[item.item][0])
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.set_xlabel("discrimination a")
    return figure


def threshold_forest(items: Sequence[Item], truth: Truth | None) -> Figure:
    """Thresholds with their intervals, one row per item, coloured from low to high."""
    figure, axes = _rows(items)
    for row, item in enumerate(items):
        last = max(len(item.thresholds) - 1, 1)
        for k, cut in enumerate(item.thresholds):
            _interval(axes, row + 0.18 * (k % 2) - 0.09, cut, ramp(k / last))
        known = truth[item.item][1] if truth is not None and item.item in truth else ()
        for k, value in enumerate(known):
            _diamond(axes, row + 0.18 * (k % 2) - 0.09, value)
    axes.set_xlabel("thresholds b on the trait's scale θ")
    return figure


def trace_and_ranks(draws: Array, row: Estimate) -> Figure:
    """Every chain's draws in order, and how its ranks spread."""
    figure = sheet(4.6, 1.75)
    left = place(figure, 0.42, 0.38, 1.95, 0.24)
    right = place(figure, 2.95, 0.38, 0.2, 0.24)
    for chain, values in enumerate(draws):
        positions, kept = envelope(values)
        left.plot(positions, kept, color=CHAINS[chain % 8], linewidth=0.45, alpha=0.75)
    left.set(xlim=(0, draws.shape[1]), xlabel="draw")
    left.locator_params(nbins=4)
    left.set_title(f"{row.symbol} · {short(row.item)}", loc="left")
    _draw_ranks(right, draws)
    return figure


def recovered(kind: Recovery) -> Figure:
    """Truth against estimate with intervals; those that miss the truth are marked apart."""
    figure = sheet(3.4, 3.1)
    axes = place(figure, 0.45, 0.42, 0.12, 0.12)
    for pair in kind.pairs:
        colour, marker = (ACCENT, "o") if pair.covered else (WARN, "X")
        low, high = pair.estimate.low, pair.estimate.high
        if low is not None and high is not None:
            axes.vlines(pair.truth, low, high, color=colour, linewidth=1.1, alpha=0.6)
        axes.plot(
            [pair.truth], [pair.mean], marker, color=colour, markersize=5, markeredgecolor=PANEL
        )
    ends = [*axes.get_xlim(), *axes.get_ylim()]
    low, high = min(ends), max(ends)
    axes.plot([low, high], [low, high], color=SOFT, linewidth=0.8, dashes=(3, 2), zorder=1)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="truth", ylabel="estimate")
    return figure


def gantt(timeline: Timeline) -> Figure | None:
    """What ran when, and what waited for what."""
    if not timeline.lanes:
        return None
    heights = [1.0 if lane.single else 2.6 for lane in timeline.lanes]
    figure = sheet(10.2, 0.7 + 0.19 * sum(heights))
    axes = place(figure, 2.2, 0.42, 1.2, 0.1)
    unit, scale = _time_unit(timeline.seconds)
    span = max(timeline.seconds, 1e-3)
    tops = np.cumsum([0.0, *heights])
    for lane, top, height in zip(timeline.lanes, tops, heights, strict=False):
        if lane.single:
            _draw_bar(axes, lane.bars[0], top + height / 2, span, scale)
        else:
            _draw_band(axes, lane, top + height, height * 0.84, span, scale)
    axes.set(xlim=(0, span / scale), ylim=(tops[-1] + 0.2, -0.2), xlabel=f"{unit} since the start")
    axes.set_yticks(
        [top + height / 2 for top, height in zip(tops, heights, strict=False)],
        [short(lane.label, 34) for lane in timeline.lanes],
    )
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, colors=INK)
    axes.spines["left"].set_visible(False)
    return figure


def _draw_categories(axes: Axes, curves: Array, categories: Sequence[str]) -> None:
    last = len(curves) - 1
    for k, curve in enumerate(curves):
        axes.plot(THETA, curve, color=ramp(k / last), linewidth=1.7)
        peak = int(curve.argmax())
        axes.annotate(
            short(categories[k], 6),
            (THETA[peak], curve[peak]),
            xytext=({0: 6, len(THETA) - 1: -6}.get(peak, 0), 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7.5,
            fontweight="bold",
            color=ramp(k / last),
            annotation_clip=False,
        )
    axes.set(ylim=(0, 1.12), xlim=(-4, 4), xticks=_TICKS, yticks=(0, 0.5, 1), ylabel="P(Y = k | θ)")
    axes.tick_params(axis="x", labelbottom=False)


def _draw_ranks(axes: Axes, draws: Array) -> None:
    counts = rank_histogram(draws)
    expected = draws.shape[1] / counts.shape[1]
    edges = np.linspace(0, draws.size, counts.shape[1] + 1)
    for chain, bars in enumerate(counts):
        base = float(len(counts) - 1 - chain)
        heights = base + np.minimum(bars / expected * 0.45, 0.95)
        axes.stairs(heights, edges, baseline=base, fill=True, color=CHAINS[chain % 8], alpha=0.75)
        axes.hlines(base + 0.45, 0, draws.size, color=INK, linewidth=0.6, linestyles=(0, (3, 2)))
    axes.set(xlim=(0, draws.size), ylim=(0, len(counts)), yticks=(), xlabel="rank")
    axes.set_xticks([0, draws.size])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_title("ranks by chain", loc="left")


def _rows(items: Sequence[Item]) -> tuple[Figure, Axes]:
    names = [short(item.item) for item in items]
    margin = 0.25 + 0.067 * max(map(len, names), default=0)
    figure = sheet(5.0, 0.62 + _ROW_INCHES * max(len(items), 2))
    axes = place(figure, margin, 0.42, 0.12, 0.08)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, colors=INK)
    return figure, axes


def _interval(axes: Axes, row: float, estimate: Estimate, colour: str) -> None:
    if estimate.low is not None and estimate.high is not None:
        axes.hlines(row, estimate.low, estimate.high, color=colour, linewidth=2.0)
    if estimate.mean is not None:
        axes.plot([estimate.mean], [row], "o", color=colour, markersize=5.5, markeredgecolor=PANEL)


def _diamond(axes: Axes, row: float, value: float) -> None:
    axes.plot(
        [value],
        [row],
        "D",
        color="none",
        markeredgecolor=TRUTH,
        markersize=4.5,
        markeredgewidth=1.2,
    )


def _time_unit(seconds: float) -> tuple[str, float]:
    match seconds:
        case _ if seconds < 300:
            return "seconds", 1.0
        case _ if seconds < 3 * 3600:
            return "minutes", 60.0
        case _:
            return "hours", 3600.0


def _draw_bar(axes: Axes, bar: Bar, middle: float, span: float, scale: float) -> None:
    end = span if bar.ended is None else bar.ended
    least = span * 0.003
    failed = bar.status is StepStatus.FAILED
    colour = WARN if failed else ACCENT
    axes.barh(
        middle, (bar.begun - bar.asked) / scale, left=bar.asked / scale, height=0.26, color=PALE
    )
    width = max(end - bar.begun, least)
    open_ended = bar.status in {StepStatus.CLAIMED, StepStatus.RELEASED}
    axes.barh(
        middle,
        width / scale,
        left=bar.begun / scale,
        height=0.62,
        facecolor="none" if open_ended else colour,
        edgecolor=colour,
        linewidth=0.8,
    )
    axes.annotate(
        _remark(bar),
        ((bar.begun + width) / scale, middle),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
        color=WARN if bar.remarkable else SOFT,
        annotation_clip=False,
    )


def _remark(bar: Bar) -> str:
    worked = "" if bar.worked is None else duration(bar.worked)
    tries = f"attempt {bar.attempt}" if bar.attempt > 1 else ""
    state = "" if bar.status is StepStatus.COMPLETED else _STATES[bar.status]
    return " · ".join(filter(None, (worked, tries, state)))


_STATES = {
    StepStatus.FAILED: "✕ failed",
    StepStatus.CLAIMED: "under way",
    StepStatus.RELEASED: "given back",
}


def _draw_band(
    axes: Axes, lane: Lane, floor: float, height: float, span: float, scale: float
) -> None:
    edges, waiting, working = in_slices(lane, span)
    most = max(float((waiting + working).max()), 1.0)
    unit = height / most
    axes.stairs(floor - working * unit, edges / scale, baseline=floor, fill=True, color=ACCENT)
    axes.stairs(
        floor - (working + waiting) * unit,
        edges / scale,
        baseline=floor - working * unit,
        fill=True,
        color=PALE,
    )
    axes.hlines(floor, 0, span / scale, color=GRID, linewidth=0.6)
    failed = [bar.ended for bar in lane.bars if bar.status is StepStatus.FAILED and bar.ended]
    top = np.full(len(failed), floor - 0.92 * height)
    axes.plot(np.array(failed) / scale, top, "X", color=WARN, markeredgecolor=PANEL)
    axes.annotate(
        f"peak {peak(lane, span):,} working",
        (1, floor - height / 2),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
        color=SOFT,
        annotation_clip=False,
    )
