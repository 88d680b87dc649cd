"""The report of an iteration as one self-contained HTML file."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events.model import Evaluator, FitFigures, GateVerdict, ResponsesEvaluator, SimulatorEvaluator
from infra.ports import StepRecord
from infra.report import words
from infra.report.data import FamilyReport, ReportData
from infra.report.estimates import (
    Estimate,
    Item,
    Recovery,
    by_trait,
    correlations_of,
    draws_of,
    estimates_of,
    items_of,
    population_of,
    recovery,
    worst,
)
from infra.report.evidence import Evidence
from infra.report.timeline import Timeline, natural, timeline_of

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

    from infra.report.svg import Inliner

RECEIPTS_SHOWN = 300
_OUTWEIGH_THE_PRIOR = 100  # respondents, see docs/calibration/truth.md
_SUMMED_UP = set(FitFigures.model_fields)
_NAMES = {
    "chains": "Chains",
    "draws": "Draws per chain",
    "e_bfmi": "E-BFMI by chain",
    "log_likelihood": "Log-likelihood, θ integrated out",
    "marginal_reliability": "Marginal reliability",
    "step_size": "Step size by chain",
    "tree_depth_max": "Deepest tree",
    "warmup": "Warm-up per chain",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure, ready for the page."""

    title: str
    svg: "Markup"


@dataclass(frozen=True, slots=True)
class Group:
    """Drawings under a title of their own; None for all there are."""

    title: str | None
    drawings: tuple[Drawing, ...]


@dataclass(frozen=True, slots=True)
class FamilyView:
    """A family as the template shows it."""

    anchor: str
    report: FamilyReport
    figures: Mapping[str, Any]
    items: tuple[Item, ...]
    estimates: tuple[Estimate, ...]
    population: tuple[Estimate, ...]
    correlations: tuple[Estimate, ...]
    interval: str
    curves: tuple[Group, ...]
    matrix: tuple[Drawing, ...]
    information: tuple[Drawing, ...]
    scores: tuple[Drawing, ...]
    forests: tuple[Drawing, ...]
    traces: tuple[tuple[Estimate, Drawing], ...]
    recovered: tuple[tuple[Recovery, Drawing], ...]
    pairs: tuple[Drawing, ...]
    predictive: tuple[Drawing, ...]
    residuals: tuple[Drawing, ...]
    evidence: Evidence

    def truth_of(self, row: Estimate) -> float | None:
        """The simulator's value of a parameter, where it is known."""
        a, cuts = (self.report.truth or {}).get(row.item, (None, ()))
        if row.cut is None:
            return a
        known = len(cuts) == len(self.items[row.index].thresholds)
        return cuts[row.cut - 1] if known else None

    def true_correlation(self, row: Estimate) -> float | None:
        """The simulator's value of a correlation, where it is known."""
        first, second = row.item.split(" · ")
        return self.report.true_correlations.get((first, second))

    @property
    def traits(self) -> tuple[str, ...]:
        """The correlated traits; empty where there is one."""
        return tuple(by_trait(self.items))

    @property
    def leans_on_prior(self) -> bool:
        """Whether too few respondents were seen for their correlations to outweigh LKJ(2)."""
        seen = self.figures.get("n_respondents") or math.inf
        sampled = self.figures.get("method") != "mml"
        return bool(self.traits) and sampled and seen < _OUTWEIGH_THE_PRIOR

    @property
    def details(self) -> tuple[tuple[str, "Markup"], ...]:
        """What else the fit says of itself, beside the figures of the summary."""
        said = (self.report.grm or {}).get("diagnostics") or {}
        told = {name: words.described(value) for name, value in said.items()}
        return tuple(
            (_NAMES.get(name, name.replace("_", " ").capitalize()), text)
            for name, text in told.items()
            if text is not None and name not in _SUMMED_UP
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the responses."""
        said = (self.report.grm or {}).get("diagnostics") or {}
        return self.report.notes or tuple(map(str, said.get("notes", ())))

    @property
    def missed(self) -> tuple[GateVerdict, ...]:
        """The gates that were not passed."""
        return tuple(gate for gate in self.report.gates if not gate.passed)

    @property
    def judged(self) -> int:
        """How many gates could be judged."""
        return sum(gate.judged for gate in self.report.gates)

    def scatter_of(self, row: Mapping[str, Any]) -> float | None:
        """The standard error of a level's difference; None for the first level."""
        found = [one for one in self.evidence.levels if one["level"] == row.get("level")]
        return found[0]["delta_bic_se"] if found and row.get("delta_bic") is not None else None

    def waiver_of(self, gate: GateVerdict) -> Mapping[str, Any] | None:
        """Who let the family pass this gate, and why."""
        return next((one for one in self.report.waivers if one["number"] == gate.number), None)

    @property
    def why(self) -> str | None:
        """Why it was not promoted, in words."""
        if self.report.status == "promoted":
            return None
        holding = [f"{gate.name}: {gate.reason}" for gate in self.missed if gate.holds]
        return self.report.reason or "; ".join(holding) or "no reason was given"


@dataclass(frozen=True, slots=True)
class NetworkView:
    """The network over families; only ``reason`` where there is none."""

    said: Mapping[str, Any]
    drawing: Drawing | None
    reason: str | None

    @property
    def scores(self) -> tuple[tuple[str, float], ...]:
        """Held-out log scores by graph."""
        names = (
            ("this graph", "log_score"),
            ("no edges", "log_score_empty"),
            ("all edges", "log_score_full"),
        )
        return tuple((words, self.said[name]) for words, name in names)


@dataclass(frozen=True, slots=True)
class Receipts:
    """What the effects left behind; ``digest`` stands for all of them, shown or not."""

    rows: tuple[tuple[str, str, str], ...]
    shown: tuple[tuple[str, str, str], ...]
    digest: str


def render(data: ReportData) -> bytes:
    """The report as UTF-8 HTML; equal data give equal bytes.

    The file needs nothing beside it: no script, no font, no image, no link to the outside.
    """
    from infra.report.svg import Inliner, drawing, ramp_css  # noqa: PLC0415 - matplotlib is slow

    timeline = timeline_of(
        data.timeline,
        f"{data.namespace}/{data.iteration}",
        started_at=data.started_at,
        ended_at=data.ended_at,
    )
    with drawing():
        inline = Inliner()
        families = tuple(
            _family(index, family, inline) for index, family in enumerate(data.families, 1)
        )
        gantt = _gantt(timeline, inline)
        network = _network(data.network, inline)
        ramps = {"light": ramp_css(0.0, 0.82), "dark": ramp_css(0.38, 1.0)}
    page = _template().render(
        data=data,
        families=families,
        timeline=timeline,
        gantt=gantt,
        network=network,
        ramps=ramps,
        source=_source(data.parameters.evaluator),
        wall_seconds=_wall_seconds(data, timeline),
        receipts=_receipts(data.timeline),
    )
    return page.encode()


@cache
def _template() -> "Template":
    import jinja2  # noqa: PLC0415 - a command that renders nothing need not pay for it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "trim": words.trim,
        "whole": words.whole,
        "lasting": words.lasting,
        "moment": words.moment,
        "plural": words.plural,
    }
    return environment.get_template("report.html.j2")


def _family(index: int, family: FamilyReport, inline: "Inliner") -> FamilyView:
    figures = _figures(family)
    items = items_of(family.grm)
    estimates = estimates_of(items)
    correlations = correlations_of(family.grm)
    drawn = (*estimates, *correlations)
    evidence = Evidence(family.checks or {})
    interval = "95% interval" if figures.get("method") == "mml" else "95% HDI"
    return FamilyView(
        anchor=f"family-{index}",
        report=family,
        figures=figures,
        items=items,
        estimates=estimates,
        population=population_of(family.grm),
        correlations=correlations,
        interval=interval,
        curves=tuple(_curves(items, inline)),
        matrix=tuple(_matrix(items, correlations, inline)),
        information=tuple(_information(family.family, items, inline)),
        scores=tuple(_scores(items, family, inline)),
        forests=tuple(_forests(items, family, interval, inline)),
        traces=tuple(_traces(drawn, family, inline)),
        recovered=tuple(_recovered(items, family, interval, inline)),
        pairs=tuple(_pairs(drawn, family, inline)),
        predictive=tuple(_predictive(evidence, inline)),
        residuals=tuple(_residuals(evidence, inline)),
        evidence=evidence,
    )


def _figures(family: FamilyReport) -> Mapping[str, Any]:
    grm = family.grm or {}
    sizes = {name: grm.get(name) for name in ("n_respondents", "n_responses")}
    if family.figures is not None:
        return family.figures.model_dump()
    return {**sizes, **(grm.get("diagnostics") or {})}


def _curves(items: Sequence[Item], inline: "Inliner") -> Iterator[Group]:
    """All items, or trait by trait where a trait has more than one."""
    traits = by_trait(items)
    drawings = dict(_item_curves(items, inline))
    apart = any(len(own) > 1 for own in traits.values())
    groups: Sequence[tuple[str | None, Sequence[Item]]] = (
        tuple(traits.items()) if apart else ((None, items),)
    )
    for title, own in groups:
        found = tuple(drawings[item.item] for item in own if item.item in drawings)
        if found:
            yield Group(title, found)


def _item_curves(items: Sequence[Item], inline: "Inliner") -> Iterator[tuple[str, Drawing]]:
    from calibration.curves import item_information  # noqa: PLC0415 - numpy, beside it
    from infra.report import plots  # noqa: PLC0415 - matplotlib is slow
    from infra.report.curves import THETA  # noqa: PLC0415 - numpy, beside it

    points = [item.point for item in items]
    most = max(
        (float(item_information(*point, THETA).max()) for point in points if point), default=1.0
    )
    for item in items:
        figure = plots.item_curves(item, most)
        if figure is not None:
            title = f"Category curves and information of {item.item}"
            yield item.item, Drawing(title, inline(figure, title))


def _matrix(
    items: Sequence[Item], correlations: Sequence[Estimate], inline: "Inliner"
) -> Iterator[Drawing]:
    from infra.report import trait_plots  # noqa: PLC0415 - matplotlib is slow

    if correlations:
        title = "Correlations of the traits"
        figure = trait_plots.correlation_matrix(tuple(by_trait(items)), correlations)
        yield Drawing(title, inline(figure, title))


def _information(family: str, items: Sequence[Item], inline: "Inliner") -> Iterator[Drawing]:
    from infra.report import plots, trait_plots  # noqa: PLC0415 - matplotlib is slow

    traits = by_trait(items)
    figure = trait_plots.trait_information(traits) if traits else plots.family_information(items)
    if figure is not None:
        title = f"Test information of {family} and the standard error that it leaves"
        yield Drawing(title, inline(figure, title))


def _scores(items: Sequence[Item], family: FamilyReport, inline: "Inliner") -> Iterator[Drawing]:
    from infra.report import plots, trait_plots  # noqa: PLC0415 - matplotlib is slow

    if family.trait_scores:
        cuts_of = {
            trait: [cut.mean for item in own for cut in item.thresholds if cut.mean is not None]
            for trait, own in by_trait(items).items()
        }
        title = f"Respondents' scores on the traits of {family.family}"
        figure = trait_plots.trait_scores(family.trait_scores, cuts_of)
        yield Drawing(title, inline(figure, title))
    elif family.scores is not None:
        cuts = [cut.mean for item in items for cut in item.thresholds if cut.mean is not None]
        title = f"Respondents' scores on {family.family}"
        yield Drawing(title, inline(plots.score_spread(*family.scores, cuts), title))


def _forests(
    items: Sequence[Item], family: FamilyReport, interval: str, inline: "Inliner"
) -> Iterator[Drawing]:
    from infra.report import plots  # noqa: PLC0415 - matplotlib is slow

    if items:
        title = f"Discriminations with {interval}"
        yield Drawing(title, inline(plots.forest(items, family.truth), title))
        title = f"Thresholds with {interval}"
        yield Drawing(title, inline(plots.threshold_forest(items, family.truth), title))


def _traces(
    estimates: Sequence[Estimate], family: FamilyReport, inline: "Inliner"
) -> Iterator[tuple[Estimate, Drawing]]:
    from infra.report import plots  # noqa: PLC0415 - matplotlib is slow

    drawn = [row for row in estimates if draws_of(family, row) is not None]
    for row in worst(drawn):
        draws = draws_of(family, row)
        if draws is not None:
            title = f"Trace and ranks of {row.symbol} of {row.item}"
            yield row, Drawing(title, inline(plots.trace_and_ranks(draws, row), title))


def _recovered(
    items: Sequence[Item], family: FamilyReport, interval: str, inline: "Inliner"
) -> Iterator[tuple[Recovery, Drawing]]:
    from infra.report import plots  # noqa: PLC0415 - matplotlib is slow

    for kind in recovery(items, family.truth):
        title = f"Truth against estimate: {kind.kind} with {interval}"
        yield kind, Drawing(title, inline(plots.recovered(kind), title))


def _pairs(
    estimates: Sequence[Estimate], family: FamilyReport, inline: "Inliner"
) -> Iterator[Drawing]:
    from infra.report import evidence_plots  # noqa: PLC0415 - matplotlib is slow

    known = {row: draws for row in estimates if (draws := draws_of(family, row)) is not None}
    chosen = worst(list(known))
    if len(chosen) > 1:
        title = "Draws of each two of the worst parameters"
        figure = evidence_plots.pair_plot(chosen, [known[row] for row in chosen])
        yield Drawing(title, inline(figure, title))


def _predictive(evidence: Evidence, inline: "Inliner") -> Iterator[Drawing]:
    from infra.report import evidence_plots  # noqa: PLC0415 - matplotlib is slow

    if evidence.shares:
        title = "Shares of categories, observed and replicated"
        yield Drawing(title, inline(evidence_plots.category_shares(evidence.shares), title))


def _residuals(evidence: Evidence, inline: "Inliner") -> Iterator[Drawing]:
    from infra.report import evidence_plots  # noqa: PLC0415 - matplotlib is slow

    if evidence.pairs:
        title = "Residual correlations between items"
        yield Drawing(title, inline(evidence_plots.residual_pairs(evidence.pairs), title))


def _network(found: Mapping[str, Any] | str | None, inline: "Inliner") -> NetworkView | None:
    from infra.report.network_plot import network_graph  # noqa: PLC0415 - matplotlib is slow

    match found:
        case None:
            return None
        case str(reason):
            return NetworkView({}, None, reason)
        case _:
            title = "Network over families"
            figure = network_graph(found["families"], found["edges"])
            return NetworkView(found, Drawing(title, inline(figure, title)), None)


def _gantt(timeline: Timeline, inline: "Inliner") -> Drawing | None:
    from infra.report import plots  # noqa: PLC0415 - matplotlib is slow

    figure = plots.gantt(timeline)
    title = "Timeline of the iteration: waiting and working by step"
    return None if figure is None else Drawing(title, inline(figure, title))


def _source(evaluator: Evaluator) -> str:
    match evaluator:
        case SimulatorEvaluator():
            return (
                f"local simulator, seed {evaluator.seed}, {evaluator.categories} categories "
                "(its truth is known)"
            )
        case ResponsesEvaluator():
            grouped = f", groups by column {evaluator.groups}" if evaluator.groups else ""
            return f"responses file {evaluator.uri}, {evaluator.digest}{grouped}"


def _wall_seconds(data: ReportData, timeline: Timeline) -> float | None:
    if data.started_at is not None and data.ended_at is not None:
        return (data.ended_at - data.started_at).total_seconds()
    return timeline.seconds if timeline.lanes else None


def _receipts(steps: Sequence[StepRecord]) -> Receipts:
    rows = tuple(
        sorted(
            (
                (step.key.subject, step.key.step, step.receipt.digest)
                for step in steps
                if step.receipt is not None
            ),
            key=lambda row: (natural(row[0]), row[1]),
        )
    )
    lines = "".join(f"{subject} {step} {digest}\n" for subject, step, digest in rows)
    digest = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    return Receipts(rows, rows[:RECEIPTS_SHOWN], digest)
