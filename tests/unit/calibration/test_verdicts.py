import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import gates
from calibration.artefact import GrmArtefact
from calibration.data import Responses
from calibration.errors import (
    CalibrationError,
    NonFiniteError,
    SettingError,
    TooFewRespondentsError,
)
from calibration.invariance import compare, split_groups
from calibration.results import Diagnostics, Fit, ItemEstimate, RespondentScores, Summary

finite = st.floats(-1e6, 1e6, allow_nan=False)
summary = st.builds(
    lambda mean, sd, r_hat, ess: Summary(mean, sd, (mean - sd, mean + sd), r_hat, ess, ess, sd),
    finite,
    st.floats(0, 1e3),
    st.none() | st.floats(0.9, 3),
    st.none() | st.floats(1, 1e5),
)


def estimate(name: str, n: int, draw: Summary) -> ItemEstimate:
    return ItemEstimate(name, tuple(range(n)), (9,) * n, draw, (draw,) * (n - 1))


def made(estimates: tuple[ItemEstimate, ...], **changes: Any) -> Fit:
    figures: dict[str, Any] = {
        "method": "nuts",
        "seed": 1,
        "chains": 4,
        "warmup": 300,
        "draws": 1000,
        "r_hat_max": 1.001,
        "ess_bulk_min": 4100.0,
        "ess_tail_min": 4000.0,
        "divergences": 0,
        "tree_depth_max": 3,
        "steps_mean": 7.0,
        "step_size": (0.5,) * 4,
        "e_bfmi": (1.0,) * 4,
        "gradient_max": 1e-9,
        "newton_iterations": 5,
        "sampling_seconds": 1.0,
        "compile_seconds": 1.0,
        "versions": {"jax": "1"},
    }
    return Fit(
        "openness",
        estimates,
        RespondentScores(("ann", "bob"), np.zeros(2), np.ones(2)),
        Diagnostics(**{**figures, **changes}),
        2,
        20,
        -12.5,
        0.8,
    )


GOOD = Summary(1.2, 0.1, (1.0, 1.4), 1.001, 4000.0, 4000.0)


@given(st.lists(st.tuples(st.text(min_size=1), st.integers(2, 7), summary), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_the_artefact_loads_back_equal(items: list[tuple[str, int, Summary]]) -> None:
    artefact = GrmArtefact.from_fit(made(tuple(estimate(*item) for item in items)))
    assert GrmArtefact.from_json(artefact.to_json()) == artefact


def test_the_artefact_of_a_fit_is_the_agreed_document(smoke_fit: Fit) -> None:
    document = json.loads(GrmArtefact.from_fit(smoke_fit).to_json())
    assert list(document) == [
        "schema_version",
        "family",
        "model",
        "n_respondents",
        "n_responses",
        "items",
        "population",
        "diagnostics",
    ]
    assert list(document["items"][0]) == ["item", "categories", "discrimination", "thresholds"]
    first = document["items"][0]["discrimination"]
    assert list(first) == ["mean", "sd", "hdi95", "r_hat", "ess_bulk", "ess_tail", "mcse"]
    assert first["mean"] == smoke_fit.discrimination[0].mean
    assert 0 < first["mcse"] < first["sd"] / 50
    spread = document["population"]["log_discrimination_sd"]
    assert spread["mean"] == pytest.approx(smoke_fit.draws["log_discrimination_sd"].mean())
    assert spread["ess_bulk"] > 400


def test_artefacts_of_before_a_figure_was_kept_are_read(smoke_fit: Fit) -> None:
    document = json.loads(GrmArtefact.from_fit(smoke_fit).to_json())
    del document["population"]
    del document["items"][0]["discrimination"]["mcse"]
    former = GrmArtefact.from_json(json.dumps(document))
    assert former.population == {}
    assert former.items[0].discrimination.mcse is None


@pytest.mark.parametrize(("bad", "word"), [(float("nan"), "NaN"), (float("inf"), "Infinity")])
def test_numbers_that_are_not_finite_are_refused_by_place(bad: float, word: str) -> None:
    fit = made((estimate("x", 3, dataclasses.replace(GOOD, sd=bad)),))
    with pytest.raises(NonFiniteError, match=r"items\.0\.discrimination\.sd"):
        GrmArtefact.from_fit(fit)
    text = GrmArtefact.from_fit(made((estimate("x", 3, GOOD),))).to_json()
    with pytest.raises(NonFiniteError, match="mean"):
        GrmArtefact.from_json(text.replace("1.2", word, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"colour": "red"}, "colour"),
        ({"items": [{"item": "x"}]}, "items.0.categories"),
    ],
)
def test_a_document_of_another_kind_is_refused(change: dict[str, Any], words: str) -> None:
    document = json.loads(GrmArtefact.from_fit(made((estimate("x", 3, GOOD),))).to_json())
    with pytest.raises(CalibrationError, match=words):
        GrmArtefact.from_json(json.dumps({**document, **change}))


@pytest.mark.parametrize(
    ("number", "figures"),
    [
        (1, {"r_hat_max": 1.01}),
        (1, {"r_hat_max": float("nan")}),
        (2, {"ess_tail_min": 399.9}),
        (2, {"ess_bulk_min": 399.9}),
        (3, {"divergences": 1}),
        (4, {"e_bfmi": (1.0, 0.29, 1.0, 1.0)}),
    ],
)
def test_a_bad_figure_fails_its_gate_alone_and_holds(number: int, figures: dict[str, Any]) -> None:
    verdicts = gates.judge(made((estimate("x", 3, GOOD),), **figures))
    assert [gate.number for gate in verdicts if not gate.passed] == [number]
    assert gates.held(verdicts)


def test_a_good_fit_passes_every_gate() -> None:
    verdicts = gates.judge(made((estimate("x", 3, GOOD),)))
    assert [gate.number for gate in verdicts] == [1, 2, 3, 4, 5, 6]
    assert not gates.held(verdicts)


@pytest.mark.parametrize("mean", [0.1, 5.1])
def test_a_discrimination_out_of_bounds_names_the_item(mean: float) -> None:
    item = estimate("odd", 3, dataclasses.replace(GOOD, mean=mean))
    gate = gates.discrimination(made((estimate("x", 3, GOOD), item)))
    assert not gate.passed
    assert "item odd" in gate.reason


def test_a_category_hardly_used_names_item_and_category() -> None:
    item = dataclasses.replace(estimate("odd", 3, GOOD), category_counts=(9, 9, 4))
    gate = gates.category_use(made((estimate("x", 3, GOOD), item)))
    assert not gate.passed
    assert "category is 2 of item odd with 4" in gate.reason


def test_maximum_likelihood_is_judged_by_its_slope(openness_mml: Fit) -> None:
    verdicts = gates.judge(openness_mml)
    assert not gates.held(verdicts)
    assert GrmArtefact.from_json(GrmArtefact.from_fit(openness_mml).to_json()).items
    steep = dataclasses.replace(openness_mml.diagnostics, gradient_max=0.1)
    assert not gates.convergence(dataclasses.replace(openness_mml, diagnostics=steep)).passed


def two_groups(slopes: tuple[float, float], cut: tuple[float, float]) -> Responses:
    """1,000 a group; the first of four items differs in slope or cut, the rest are equal."""
    rng = np.random.default_rng(2)
    group = np.arange(2000) % 2
    theta = rng.standard_normal(2000) * np.where(group, 1.3, 1.0) + 0.5 * group
    a, c = np.ones((2000, 4)) * 1.5, np.zeros((2000, 4))
    a[:, 0], c[:, 0] = np.array(slopes)[group], np.array(cut)[group]
    noise = rng.logistic(size=(2000, 4))
    grades = sum((a * theta[:, None] - c + noise > shift).astype(int) for shift in (-1.5, 1.5))
    return Responses.from_matrix("f", grades, items=list("wxyz"), groups=group)


@pytest.mark.parametrize(
    ("slopes", "cut", "holds"),
    [
        ((1.5, 1.5), (0.0, 0.0), [True, True, True]),
        ((0.7, 2.5), (0.0, 0.0), [True, False, False]),
        ((1.5, 1.5), (-1.0, 1.0), [True, True, False]),
    ],
)
def test_a_level_fails_where_groups_differ(
    slopes: tuple[float, float], cut: tuple[float, float], holds: list[bool]
) -> None:
    rows = compare(two_groups(slopes, cut))
    assert [row.level for row in rows] == ["configural", "metric", "scalar"]
    assert [row.n_parameters for row in rows] == [24, 21, 14]
    assert all(np.isfinite([row.log_likelihood, row.aic, row.bic]).all() for row in rows)
    assert rows[0].log_likelihood > rows[1].log_likelihood > rows[2].log_likelihood
    assert rows[1].delta_bic == pytest.approx(rows[1].bic - rows[0].bic)
    assert [row.holds for row in rows] == holds
    gate = gates.metric_invariance(rows)
    assert gate.passed == holds[1]
    assert gate.advisory
    if all(holds):
        assert rows[2].group_means[1] == pytest.approx(0.5, abs=0.2)
        assert rows[2].group_sds[1] == pytest.approx(1.3, abs=0.2)


def test_a_category_that_one_group_never_used_is_no_trouble() -> None:
    whole = two_groups((1.5, 1.5), (0.0, 0.0))
    counts = whole.counts.copy()
    counts[whole.groups == 1, 0, 0] += counts[whole.groups == 1, 0, 1]
    counts[whole.groups == 1, 0, 1] = 0
    rows = compare(dataclasses.replace(whole, counts=counts))
    assert np.isfinite([row.bic for row in rows]).all()


def test_groups_that_cannot_be_compared_are_refused(smoke: Responses) -> None:
    with pytest.raises(SettingError, match="one group"):
        compare(smoke.regrouped(np.zeros(10)))
    with pytest.raises(TooFewRespondentsError, match="group 3 has one respondent"):
        compare(smoke.regrouped([3] + [0] * 9))


def test_random_halves_are_halves_and_follow_the_seed() -> None:
    assert np.bincount(split_groups(11, 0)).tolist() == [6, 5]
    assert split_groups(50, 1).tolist() == split_groups(50, 1).tolist()
    assert split_groups(50, 1).tolist() != split_groups(50, 2).tolist()
