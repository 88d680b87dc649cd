"""The page as a reader and a browser take it: structure, escaping, numbers, odd inputs."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from events.model import (
    Corpus,
    Family,
    FitFigures,
    GateVerdict,
    Parameters,
    ResponsesEvaluator,
)
from infra.ports import StepStatus
from infra.report.data import FamilyReport
from infra.report.estimates import correlations_of, draws_of
from infra.report.render import render

DASHES = {ord("\N{MINUS SIGN}"): "-", ord("\N{EN DASH}"): "-"}
VOID = {"meta", "br", "hr", "img", "link", "input", "path", "use", "col"}


class Page(HTMLParser):
    def __init__(self, html: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.values: list[float] = []
        self.feed(html.decode())
        self.close()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"} and self.rows:
            self.rows[-1].append("")
        if tag == "data":
            self.values.append(float(found["value"]))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        data = data.translate(DASHES)
        self.texts.append(data)
        if {"td", "th"} & set(self.open[-4:]):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def row(self, *start: str) -> list[str]:
        (found,) = (row for row in self.rows if row[: len(start)] == list(start))
        return found

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(data) -> Page:
    page = Page(render(data))
    assert page.open == []
    return page


def test_every_element_is_closed_and_every_id_is_unique_and_reachable(smoke_html):
    page = Page(smoke_html)
    assert page.open == []
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(set(ids)) == len(ids)
    targets = [
        value[1:]
        for _, found in page.tags
        for name, value in found.items()
        if name in {"href", "xlink:href"} and value
    ]
    clips = re.findall(r"url\(#([^)]+)\)", smoke_html.decode())
    assert clips
    assert set(targets) | set(clips) <= set(ids)


def test_nothing_points_outside_and_nothing_runs(smoke_html):
    html = smoke_html.decode()
    assert "http" not in html
    assert "//" not in re.sub(r"<(title|pre)\b.*?</\1>", "", html)
    tags = {name for name, _ in Page(html.encode()).tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed"}
    assert "@import" not in html


def test_figures_and_tables_can_be_read_aloud(smoke_html):
    page = Page(smoke_html)
    svgs = page.named("svg")
    assert len(svgs) == 6 + 1 + 2 + 2 + 4 + 1 + 1
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in svgs)
    assert all(cell.get("scope") in {"row", "col"} for cell in page.named("th"))
    assert len(page.named("caption")) == len(page.named("table"))
    assert page.named("html")[0]["lang"] == "en"


def test_no_stand_in_colour_and_no_fixed_font_is_left(smoke_html):
    svgs = re.findall(r"<svg.*?</svg>", smoke_html.decode(), flags=re.DOTALL)
    drawn = "".join(svgs)
    assert not re.search(r"#[0-9a-f]{6}", drawn)
    assert "DejaVu" not in drawn
    assert "var(--accent)" in drawn


def test_equal_data_give_equal_bytes(report, smoke_html):
    assert render(report()) == smoke_html


def test_every_parameter_is_printed_with_its_own_numbers(report, family):
    fitted = family(items=("calm", "bold"), categories=3)
    page = page_of(report(families=(fitted,)))
    for item in fitted.grm["items"]:
        summaries = [("a", item["discrimination"])]
        summaries += [(f"b{'₁₂'[k]}", cut) for k, cut in enumerate(item["thresholds"])]
        for symbol, found in summaries:
            row = page.row(item["item"], symbol)
            shown = [cell.replace(",", "") for cell in row]
            assert shown[3] == f"{found['mean']:.3f}"
            assert shown[4] == f"{found['sd']:.3f}"
            assert shown[5] == f"{found['hdi95'][0]:.3f} to {found['hdi95'][1]:.3f}"
            assert shown[7] == f"{found['r_hat']:.4f}"
            assert shown[8] == f"{found['ess_bulk']:.0f}"
            assert shown[9] == f"{found['ess_tail']:.0f}"
            assert {found["mean"], found["sd"], *found["hdi95"]} <= set(page.values)


def test_summary_row_says_what_the_fit_says_of_itself(report, family):
    figures = FitFigures(
        method="nuts", r_hat_max=1.00387, ess_bulk_min=1234.5, ess_tail_min=987.4, divergences=3,
        sampling_seconds=83.2, n_respondents=2800, n_responses=13957,
    )  # fmt: skip
    row = page_of(
        report(
            families=(
                family(items=("calm",), discrimination=None, thresholds=None, figures=figures),
            )
        )
    ).row("openness", "✓ promoted")
    assert row[2:] == ["1.0039", "1,234", "987", "3", "1 min 23 s", "2,800", "3 of 3 passed"]


def test_a_held_family_says_why_before_anything_else(report, family):
    gates = (
        GateVerdict(
            number=1, name="convergence", value=1.0312, threshold="below 1.01", passed=False,
            reason="R-hat reaches 1.0312 where 1.01 is allowed",
        ),
        GateVerdict(
            number=9, name="fit", value=None, threshold="at most 0.1", passed=False, holds=False,
            reason="two items fit poorly",
        ),
    )  # fmt: skip
    text = page_of(
        report(
            families=(
                family(
                    items=("calm",),
                    discrimination=None,
                    thresholds=None,
                    status="held",
                    gates=gates,
                ),
            )
        )
    ).text
    first = text.index("R-hat reaches 1.0312 where 1.01 is allowed")
    assert "openness is held back:" in text[:first]
    assert first < text.index("Wall time")
    alert = text[first : text.index("Wall time")]
    assert "two items fit poorly" not in alert
    assert "0 of 2 passed, 2 not" in text
    assert "two items fit poorly (noted, holds nothing back)" in text


@pytest.mark.parametrize("status", ["held", "failed"])
def test_a_reason_that_was_given_is_the_one_that_is_shown(report, family, status):
    text = page_of(
        report(
            families=(
                family(
                    items=("calm",),
                    discrimination=None,
                    thresholds=None,
                    status=status,
                    reason="the chains disagree",
                ),
            )
        )
    ).text
    assert text.count("the chains disagree") == 2


def test_markup_in_names_and_reasons_stays_text(report, family, step):
    evil = '<script>alert("x")</script>&amp;$a_b$'
    fitted = family(items=(evil, "b"), name=evil, status="held", reason=evil, notes=(evil,))
    failed = step(
        f"smoke/0/family/{evil}", evil, 0, 1, 2, status=StepStatus.FAILED, reason=evil, receipt=None
    )
    data = report(
        families=(fitted,), timeline=(failed,), command=f"nexus {evil}", reason=evil,
        trace_id=evil, versions={evil: evil},
    )  # fmt: skip
    page = page_of(data)
    assert not page.named("script")
    assert evil in page.text
    assert '<script>alert("x")' not in render(data).decode()


def test_a_family_that_was_never_fitted(report):
    failed = FamilyReport("openness", "failed", reason="item calm: every answer is 3")
    page = page_of(report(families=(failed,), status="partial", reason="1 of 1 families failed"))
    assert "openness is without a calibration: item calm: every answer is 3" in page.text
    assert "There is no fit to show." in page.text
    assert page.row("openness", "✕ failed")[2:] == ["-"] * 7
    assert len(page.named("svg")) == 1


def test_an_iteration_that_never_got_anywhere(report):
    page = page_of(
        report(
            families=(),
            timeline=(),
            status="failed",
            reason="no shard was merged",
            shards=None,
            rows_merged=None,
            trace_id=None,
            versions={},
        )
    )
    assert "Iteration failed: no shard was merged" in page.text
    assert "The ledger holds no step of this iteration." in page.text
    assert not page.named("svg")


def test_maximum_likelihood_has_neither_r_hat_nor_traces(report, family):
    fitted = family(items=("calm", "bold"), discrimination=None, thresholds=None, truth=None)
    summaries = [
        cut for item in fitted.grm["items"] for cut in (item["discrimination"], *item["thresholds"])
    ]
    for found in summaries:
        found.update(r_hat=None, ess_bulk=None, ess_tail=None)
    fitted.grm["diagnostics"].update(method="mml", r_hat_max=None, ess_bulk_min=None)
    page = page_of(report(families=(fitted,)))
    assert page.row("calm", "a")[-3:] == ["-", "-", "-"]
    assert "95% HDI" not in page.text
    assert "95% interval" in page.text
    assert "No draws were kept" in page.text
    assert "Truth" not in page.text


def test_an_item_without_a_usable_estimate_keeps_its_rows(report, family):
    fitted = family(items=("calm", "bold"), discrimination=None, thresholds=None)
    fitted.grm["items"][0]["discrimination"].update(mean=float("nan"), hdi95=None)
    page = page_of(report(families=(fitted,)))
    assert page.row("calm", "a")[3:6] == ["-", page.row("calm", "a")[4], "- to -"]
    assert not [
        svg
        for svg in page.named("svg")
        if "curves" in svg["aria-label"] and "calm" in svg["aria-label"]
    ]


def test_an_empty_grm_is_no_fault(report):
    page_of(report(families=(FamilyReport("openness", "failed", grm={}),)))
    page_of(report(families=(FamilyReport("openness", "failed", grm={"items": [{}]}),)))


@pytest.mark.parametrize(
    ("items", "categories"),
    [
        (("only",), 2),
        (tuple(f"item {j} " + "very long " * 20 for j in range(12)), 7),
        (("日本語の項目", "ελληνικά"), 3),
        (("a" * 300, "line\nbreak\ttab"), 21),
    ],
)
def test_families_of_every_shape(report, family, items, categories):
    fitted = family(items=items, categories=categories, draws=60, chains=2)
    page = page_of(report(families=(fitted,)))
    assert len([row for row in page.rows if len(row) == 11 and row[1] == "a"]) == len(items)


def test_items_may_differ_in_categories(report, family):
    fitted = family(items=("calm", "bold"), categories=4)
    fitted.grm["items"][1]["thresholds"].pop()
    fitted.grm["items"][1]["categories"].pop(0)
    fitted.thresholds[:, :, 1, 2] = np.nan
    page = page_of(report(families=(fitted,)))
    assert page.row("bold", "b₁")[2] == "2 | 3"
    assert page.row("bold", "b₁")[6] == "-"
    assert page.row("calm", "b₁")[6] != "-"


def test_ten_families_stay_apart(report, family):
    fitted = tuple(
        family(items=("x",), discrimination=None, thresholds=None, truth=None, name=f"trait{k}")
        for k in range(10)
    )
    page = page_of(report(families=fitted))
    anchors = [found["id"] for found in page.named("section")]
    assert [f"family-{k + 1}" in anchors for k in range(10)] == [True] * 10


def test_truth_is_counted_against_the_intervals(report, family):
    fitted = family(items=("calm", "bold"), categories=2, discrimination=None, thresholds=None)
    for item, a, b in zip(fitted.grm["items"], (1.0, 2.0), (0.5, -0.5), strict=True):
        item["discrimination"].update(mean=a, hdi95=[a - 0.1, a + 0.1])
        item["thresholds"][0].update(mean=b, hdi95=[b - 0.1, b + 0.1])
    truth = {"calm": (1.05, (0.5,)), "bold": (1.65, (-0.4,))}
    text = page_of(report(families=(dataclasses.replace(fitted, truth=truth),))).text
    assert "RMSE 0.250 , bias 0.150 ; 1 of 2 intervals hold the truth" in text
    assert "RMSE 0.071 , bias -0.050 ; 2 of 2 intervals hold the truth" in text


def test_invariance_is_printed_as_given(smoke_html):
    page = Page(smoke_html)
    assert page.row("configural")[1:] == [
        "-4,870.12",
        "60",
        "9,860.25",
        "10,231.50",
        "-",
        "-",
        "✓ yes",
    ]
    assert page.row("scalar")[4:] == ["10,155.20", "-43.90", "-", "✕ no"]


def test_what_else_the_fit_says_of_itself_is_shown(smoke_html):
    text = Page(smoke_html).text
    assert "E-BFMI by chain 1.02 , 0.98 , 1.01 , 0.99" in text
    assert "Log-likelihood, θ integrated out -4,871.99" in text
    assert "Marginal reliability 0.9412" in text
    assert "item artistic: category 2 was used once" in text


def test_responses_are_named_with_their_digest(report):
    parameters = Parameters(
        profile="smoke",
        corpus=Corpus(personas=2800),
        shards=6,
        families=(Family(family="openness", items=("O1", "O2")),),
        evaluator=ResponsesEvaluator(uri="file:/data/bfi.csv", digest="sha256:" + "ab" * 32),
        method="mml",
    )
    text = page_of(report(families=(), parameters=parameters)).text
    assert "responses file file:/data/bfi.csv, sha256:" + "ab" * 32 in text
    assert "marginal maximum likelihood" in text


def test_draws_of_another_fit_are_refused(family):
    fitted = family(items=("calm", "bold"))
    with pytest.raises(ValueError, match="discrimination of family 'openness' has shape"):
        dataclasses.replace(fitted, discrimination=np.zeros((4, 100, 3)))
    with pytest.raises(ValueError, match="thresholds of family 'openness' has shape"):
        dataclasses.replace(fitted, thresholds=np.zeros((4, 100, 2, 3)))


def test_a_long_run_stays_a_small_file(report, family):
    html = render(report(families=(family(draws=4000),)))
    assert len(html) < 1_000_000


def test_receipts_are_listed_with_one_digest_over_all(report, step):
    steps = (step("smoke/0/shard/10", "merge", 0, 1, 2), step("smoke/0/shard/9", "merge", 0, 1, 2))
    page = page_of(report(families=(), timeline=steps))
    subjects = [row[0] for row in page.rows if row and row[0].startswith("smoke/0/shard")]
    assert subjects == ["smoke/0/shard/9", "smoke/0/shard/10"]
    other = page_of(report(families=(), timeline=steps[:1]))
    all_of = re.compile(r"in this order: (sha256:\w{64})")
    assert all_of.search(page.text)[1] != all_of.search(other.text)[1]


def test_two_hundred_shards_become_bands(report, timeline_steps):
    steps = timeline_steps(shards=200)
    steps[31] = dataclasses.replace(
        steps[31], status=StepStatus.FAILED, attempt=3, reason="quota", receipt=None
    )
    page = page_of(report(families=(), timeline=tuple(steps)))
    assert page.row("shard · batches (200)")[1:4] == ["199", "1", "1"]
    listed = [row for row in page.rows if len(row) == 10 and row[1] == "batches"]
    assert [(row[0], row[3], row[9]) for row in listed] == [("shard 10", "3", "quota")]
    (drawn,) = (svg for svg in page.named("svg") if "Timeline" in svg["aria-label"])
    assert float(drawn["viewbox"].split()[3]) < 400


def test_a_dollar_in_a_name_is_no_formula(report, family):
    fitted = family(items=("$a_b$",), discrimination=None, thresholds=None)
    svgs = re.findall(r"<svg.*?</svg>", render(report(families=(fitted,))).decode(), re.DOTALL)
    (forest,) = (svg for svg in svgs if "Discriminations with" in svg)
    assert ">$a_b$</text>" in forest


def test_what_the_gates_looked_at_is_shown_item_by_item(report, family, checks):
    page = page_of(report(families=(family(checks=checks()),)))
    assert page.row("imagination", "0.031")[1:] == [
        "0.031", "0.40", "87.0%", "-40.0", "0.500", "✕ no", "✕ no",
    ]  # fmt: skip
    assert page.row("intellect", "0.031")[3:] == ["87.0%", "9.0", "0.500", "✓ yes", "✓ yes"]
    assert page.row("liberalism", "0.031")[3] == "-"
    assert page.row("liberalism", "0.031")[-1] == "-"
    assert page.row("r<17>")[1:] == ["-5.43", "0.25", "60"]
    assert page.row("metric")[-3:] == ["-32.40", "5.50", "✓ yes"]
    for said in (
        "held 88.3 % of 351 held-out answers, with 2.87 grades on average",
        "is between imagination and artistic.",
        "north ( 4 respondents) 0.00 and 1.00 ; south ( 6 respondents) -0.44 and 1.18 .",
        "at the metric level",
        "moved furthest: 11.55 pooled standard errors, of 3.59 allowed",
    ):
        assert said in page.text
    titles = {attributes.get("aria-label") for attributes in page.named("svg")}
    assert {
        "Shares of categories, observed and replicated",
        "Residual correlations between items",
        "Draws of each two of the worst parameters",
    } <= titles


def test_checks_that_were_not_judged_leave_no_empty_figure(report, family, checks):
    why = {"not_judged": "too few answers"}
    parts = dict.fromkeys(("fit", "prediction_sets", "stability"), why)
    none = {**checks(), **parts, "odd_respondents": {"count": 0, "shown": []}}
    none["invariance"] = {"given": False, "groups": [], "levels": why, "items": []}
    page = page_of(report(families=(family(checks=none, invariance=()),)))
    assert page.row("imagination", "-")[1:] == ["-"] * 7
    assert "Posterior predictive checks" not in page.text
    assert "No respondent's answers are less probable" in page.text


def test_gates_say_whether_they_were_judged_and_who_waived_them(report, family):
    gates = (
        GateVerdict(
            number=7, name="fit", value=0.2, threshold="<= 0.08", passed=False,
            reason="they are 0.2",
        ),
        GateVerdict(
            number=10, name="stability", value=None, threshold="no move", passed=True,
            judged=False, reason="no version before",
        ),
    )  # fmt: skip
    waiver = {
        "number": 7, "gate": "fit", "reason": "known <and> small", "waived_by": "ada@host",
        "waived_at": "2026-11-21T09:00:00Z",
    }  # fmt: skip
    page = page_of(report(families=(family(gates=gates, waivers=(waiver,)),)))
    assert page.row("7")[2] == "✕ waived"
    assert "Waived by ada@host, 2026-11-21T09:00:00Z: known <and> small" in page.row("7")[5]
    assert page.row("10")[2:4] == ["not judged", "-"]
    gates_told = page.row("openness", "✓ promoted")[-1]
    assert "0 of 1 passed" in gates_told
    assert "1 not judged" in gates_told
    held = page_of(report(families=(family(gates=gates, status="held"),)))
    assert held.row("7")[2] == "✕ holds back"


MODELS = [
    {"model": "grm", "elpd": -20384.48, "se": 104.3, "p_loo": 32.95, "pareto_k_max": 0.36,
     "unreliable": 0, "difference": 0.0, "difference_se": 0.0, "left_out": 8, "fitted_again": 0},
    {"model": "equal_discrimination", "elpd": -20447.6, "se": 105.9, "p_loo": 28.7,
     "pareto_k_max": 0.3, "unreliable": 0, "difference": -63.12, "difference_se": 12.84,
     "left_out": 8, "fitted_again": 0},
    {"model": "independence", "elpd": -21216.49, "se": 96.0, "p_loo": 26.3, "pareto_k_max": None,
     "unreliable": 0, "difference": -832.01, "difference_se": 50.46, "left_out": 8,
     "fitted_again": 0},
]  # fmt: skip


def test_simpler_models_are_compared_as_they_were(report, family, checks):
    page = page_of(report(families=(family(checks=checks() | {"models": MODELS}),)))
    assert page.row("one discrimination for all items")[3:5] == ["-63.1", "12.8"]
    assert page.row("no trait")[-1] == "-"
    assert "8 of 10 respondents were left out" in page.text
    assert "read the differences as rough" not in page.text
    assert "fitted again" not in page.text
    again = [{**row, "fitted_again": 3} for row in MODELS]
    page = page_of(report(families=(family(checks=checks() | {"models": again}),)))
    assert "For 3 of 8 , who say too much for importance sampling" in page.text
    rough = [{**row, "unreliable": 7} for row in MODELS]
    page = page_of(report(families=(family(checks=checks() | {"models": rough}),)))
    assert "For 7 of 8 the fit leans too much on the one respondent" in page.text
    why = {"models": {"not_judged": "method 'mml' has no draws"}}
    page = page_of(report(families=(family(checks=checks() | why),)))
    assert "Not compared: method 'mml' has no draws." in page.text


def test_scores_are_drawn_where_they_were_kept(report, family):
    scores = (np.linspace(-5, 2, 700), np.full(700, 0.4))
    page = page_of(report(families=(family(scores=scores),)))
    labels = [svg["aria-label"] for svg in page.named("svg")]
    assert "Respondents' scores on openness" in labels
    assert "Respondents' scores on openness" not in [
        svg["aria-label"] for svg in page_of(report()).named("svg")
    ]


NETWORK = {
    "families": ["calm", "kind <b>", "open"],
    "edges": [
        {"parent": "calm", "child": "open", "weight": 0.71, "strength": 1.0, "direction": 0.64},
        {"parent": "kind <b>", "child": "open", "weight": -0.2, "strength": 0.9, "direction": 0.5},
    ],
    "n_respondents": 200, "resamplings": 100, "log_score": -6.171, "log_score_empty": -6.454,
    "log_score_full": -6.168, "gain_se": 0.018,
}  # fmt: skip


def test_the_network_is_drawn_and_told_edge_by_edge(report):
    page = page_of(report(network=NETWORK))
    assert "Network over families" in [svg["aria-label"] for svg in page.named("svg")]
    assert page.row("calm → open") == ["calm → open", "0.71", "100%", "64%"]
    assert page.row("kind <b> → open") == ["kind <b> → open", "-0.20", "90%", "50%"]
    assert page.row("this graph") == ["this graph", "-6.171", "0.283 ± 0.018"]
    assert page.row("all edges") == ["all edges", "-6.168", "0.286"]
    assert "#network" in [link["href"] for link in page.named("a")]


def test_a_network_without_edges_or_without_families_says_so(report):
    page = page_of(report(network={**NETWORK, "edges": []}))
    assert "no two families depend on each other" in page.text
    page = page_of(report(network="1 family was calibrated: a network needs two"))
    assert "Not learned: 1 family was calibrated: a network needs two." in page.text
    assert "Network over families" not in page_of(report()).text


OF_TRAITS = ("art", "art", "art", "ideas", "ideas", "ideas")


def correlated(family, **fields):
    """A family of two traits with its correlation, seen less than it is."""
    made = family()
    drawn = np.full((4, 400, 2, 2), -0.25) + 0.01 * np.arange(400)[:, None, None]
    value = {
        "mean": -0.25, "sd": 0.11, "hdi95": [-0.46, -0.03], "r_hat": 1.0456, "ess_bulk": 321.0,
        "ess_tail": 300.0, "mcse": 0.0021,
    }  # fmt: skip
    items = [
        {**item, "trait": trait} for item, trait in zip(made.grm["items"], OF_TRAITS, strict=True)
    ]
    grm = {
        **made.grm,
        "items": items,
        "traits": ["art", "ideas"],
        "correlations": [{"first": "art", "second": "ideas", "correlation": value}],
    }
    scores = {trait: (np.linspace(-2, 2, 10), np.full(10, 0.3)) for trait in ("art", "ideas")}
    known = {"grm": grm, "correlation": drawn, "trait_scores": scores, **fields}
    return dataclasses.replace(made, **known)


def test_correlated_traits_are_drawn_apart_and_their_correlations_told(report, family):
    made = correlated(family)
    page = page_of(report(families=(made,)))
    labels = [svg["aria-label"] for svg in page.named("svg")]
    for label in (
        "Correlations of the traits",
        "Respondents' scores on the traits of openness",
        "Trace and ranks of r of art · ideas",
    ):
        assert label in labels
    assert page.row("art · ideas") == [
        "art · ideas", "-0.25", "0.11", "-0.46 to -0.03", "1.0456", "321", "300", "0.0021",
    ]  # fmt: skip
    [row] = correlations_of(made.grm)
    np.testing.assert_array_equal(draws_of(made, row), made.correlation[:, :, 0, 1])
    assert page.text.index("Trait art") < page.text.index("Trait ideas")
    assert "each item with the θ of its own of 2 traits" in page.text
    assert "Correlations of the traits" not in page_of(report()).text


def test_a_known_correlation_stands_beside_the_estimate(report, family):
    known = correlated(family, true_correlations={("art", "ideas"): -0.31})
    assert page_of(report(families=(known,))).row("art · ideas")[4] == "-0.31"


@pytest.mark.parametrize(
    ("seen", "method", "leans"), [(10, "nuts", True), (100, "nuts", False), (10, "mml", False)]
)
def test_correlations_of_few_are_said_to_be_the_prior_s(report, family, seen, method, leans):
    made = correlated(family)
    grm = {**made.grm, "n_respondents": seen}
    grm["diagnostics"] = {**grm["diagnostics"], "method": method}
    text = page_of(report(families=(dataclasses.replace(made, grm=grm),))).text
    assert ("they are mostly the prior's" in text) is leans
    assert ("intervals miss together" in text) is leans
    assert ("About one in twenty should." in text) is not leans


def test_one_trait_leans_on_no_prior_of_correlations(report, family):
    assert "the prior's" not in page_of(report(families=(family(),))).text


def test_each_trait_s_invariance_and_link_are_told(report, family, checks):
    said = checks()
    levels = [
        {"level": name, "holds": holds, "delta_bic": delta, "delta_bic_se": 1.0,
         "group_means": [0.0, 0.1], "group_sds": [1.0, 1.0]}
        for name, holds, delta in (
            ("configural", True, 0.0), ("metric", True, -12.34), ("scalar", False, 3.0)
        )
    ]  # fmt: skip
    said["invariance"] |= {
        "by_trait": {"art": levels, "ideas": {"not_judged": "one item only"}},
        "levels": [{**level, "group_means": [], "group_sds": []} for level in levels],
    }
    said["stability"] |= {
        "scale": None,
        "shift": None,
        "links": [{"trait": "art", "scale": 1.25, "shift": -0.5}],
    }
    page = page_of(report(families=(correlated(family, checks=said),)))
    text = "".join(page.text.split())
    assert "art:metric,metricΔBIC-12.3;ideas:notjudged(oneitemonly)." in text
    assert "artθnew=1.25θold+-0.50." in text


def test_draws_of_other_traits_are_refused(family):
    with pytest.raises(ValueError, match="correlation of family 'openness' has shape"):
        correlated(family, correlation=np.zeros((4, 400, 3, 3)))
