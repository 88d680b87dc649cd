"""What is asked of correlated traits beside their chains: gates, models, grm.json."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from calibration import (
    conformal,
    coordinates,
    correlated_scores,
    density,
    gates,
    grm,
    loo,
    scores,
    structures,
)
from calibration.artefact import GrmArtefact
from calibration.conformal import _predicted_at_mode, predict_sets
from calibration.correlated import CorrelatedFit, fit_correlated, penalised_estimates
from calibration.correlated_scores import composite_scores
from calibration.data import Responses
from calibration.errors import CalibrationError, SettingError, TooFewItemsError
from calibration.invariance import InvarianceRow, compare, of_trait, over_traits
from calibration.loo import compare_models
from calibration.persons import odd_respondents
from calibration.predictive import check_fit
from calibration.results import Method, Priors, SamplerSettings
from calibration.stability import compare_versions
from calibration.structures import compare_structures

TRAITS = ("art", "art", "ideas", "ideas")
ITEMS = ("art1", "art2", "ideas1", "ideas2")
SHORT = SamplerSettings(chains=4, warmup=200, draws=400)


def answers(correlation: float, n: int = 12, each: int = 40, seed: int = 0) -> Responses:
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal((n, 2))
    theta -= theta.mean(0)
    theta = theta @ np.linalg.inv(np.linalg.cholesky(theta.T @ theta / n)).T
    theta = theta @ np.linalg.cholesky([[1, correlation], [correlation, 1]]).T
    eta = 1.5 * theta[:, [0, 0, 1, 1], None] + rng.logistic(size=(n, 4, each))
    grades = np.digitize(eta, [-1.5, 0.0, 1.5])
    who, item, _ = (axis.ravel() for axis in np.indices(grades.shape))
    names = np.char.add("p", np.char.zfill(who.astype(str), 2))
    return Responses.from_columns("f", names, np.array(ITEMS)[item], grades.ravel(), items=ITEMS)


def fitted(responses: Responses, seed: int = 1) -> CorrelatedFit:
    return fit_correlated(responses, seed=seed, traits=TRAITS, sampler=SHORT)


@pytest.fixture(scope="module")
def apart() -> tuple[Responses, CorrelatedFit]:
    """Two traits that do not correlate in the sample."""
    responses = answers(0.0)
    return responses, fitted(responses)


@pytest.fixture(scope="module")
def near() -> tuple[Responses, CorrelatedFit]:
    responses = answers(0.9)
    return responses, fitted(responses)


def test_the_artefact_names_traits_and_their_correlations(
    apart: tuple[Responses, CorrelatedFit],
) -> None:
    kept = GrmArtefact.from_fit(apart[1])
    assert GrmArtefact.from_json(kept.to_json()) == kept
    document = json.loads(kept.to_json())
    assert (document["schema_version"], document["model"]) == (1, "grm")
    assert document["traits"] == ["art", "ideas"]
    assert [item["trait"] for item in document["items"]] == list(TRAITS)
    [pair] = document["correlations"]
    assert (pair["first"], pair["second"]) == ("art", "ideas")
    assert set(pair["correlation"]) == {
        "mean", "sd", "hdi95", "r_hat", "ess_bulk", "ess_tail", "mcse",
    }  # fmt: skip
    assert pair["correlation"]["mean"] == pytest.approx(apart[1].correlation_mean[0, 1])
    assert document["n_responses"] == apart[0].n_responses
    assert document["diagnostics"]["log_likelihood"] == apart[1].log_likelihood < 0
    assert 0.8 < document["diagnostics"]["marginal_reliability"] < 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["items"][0].update(trait="music"), "item art1 has the trait music"),
        (lambda d: d["items"][0].pop("trait"), "item art1 has the trait None"),
        (lambda d: d.pop("traits"), "item art1 has the trait art, the traits are not named"),
        (lambda d: d.pop("correlations"), "give one for each two"),
        (lambda d: d["correlations"][0].update(first="ideas"), "give one for each two"),
    ],
)
def test_traits_that_do_not_hang_together_are_refused(
    apart: tuple[Responses, CorrelatedFit], change, words: str
) -> None:
    document = json.loads(GrmArtefact.from_fit(apart[1]).to_json())
    change(document)
    with pytest.raises(CalibrationError, match=words):
        GrmArtefact.from_json(json.dumps(document))


def test_items_that_follow_their_own_traits_pass_the_fit_gate(
    apart: tuple[Responses, CorrelatedFit],
) -> None:
    responses, fit = apart
    assert gates.model_fit(check_fit(fit, responses, seed=3)).passed
    wrong = replace(fit, trait_of_item=(0, 1, 0, 1))
    found = check_fit(wrong, responses, seed=3)
    assert not gates.model_fit(found).passed
    assert found.excess > 0.3


def test_traits_that_were_not_sampled_are_drawn_for_the_fit_gate(
    apart: tuple[Responses, CorrelatedFit],
) -> None:
    responses, fit = apart
    without = replace(fit, draws={k: v for k, v in fit.draws.items() if k != "theta"})
    found = check_fit(without, responses, seed=3)
    assert gates.model_fit(found).passed
    wrong = replace(without, trait_of_item=(0, 1, 0, 1))
    assert not gates.model_fit(check_fit(wrong, responses, seed=3)).passed


def test_traits_are_drawn_at_the_estimates_where_nothing_was_sampled() -> None:
    responses = answers(0.0)
    fit = fit_correlated(responses, seed=0, traits=TRAITS, method="mml")
    assert not fit.draws
    assert gates.model_fit(check_fit(fit, responses, seed=3)).passed
    wrong = replace(fit, trait_of_item=(0, 1, 0, 1))
    assert not gates.model_fit(check_fit(wrong, responses, seed=3)).passed


def test_nothing_is_compared_by_leaving_out_where_nothing_was_sampled(
    apart: tuple[Responses, CorrelatedFit],
) -> None:
    with pytest.raises(SettingError, match="'mml' has no draws: fit it by 'nuts'"):
        compare_structures(replace(apart[1], draws={}), apart[0], seed=0)


@pytest.mark.parametrize("method", ["nuts", "mml"])
def test_prediction_sets_read_each_items_own_trait(
    apart: tuple[Responses, CorrelatedFit], method: Method
) -> None:
    responses = apart[0]
    own = predict_sets(responses, seed=2, method=method, traits=TRAITS, sampler=SHORT)
    one = predict_sets(responses, seed=2, method=method)
    assert own.coverage >= own.coverage_floor
    assert own.mean_size < one.mean_size - 0.1
    assert own.n_tested == one.n_tested


def test_prediction_sets_at_the_mode_are_those_of_draws(
    apart: tuple[Responses, CorrelatedFit], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_draws = predict_sets(apart[0], seed=2, method="nuts", traits=TRAITS, sampler=SHORT)
    monkeypatch.setattr(conformal, "integrates", lambda *_: True)
    at_mode = predict_sets(apart[0], seed=2, method="nuts", traits=TRAITS)
    assert at_mode != by_draws
    assert at_mode.cutoff == pytest.approx(by_draws.cutoff, abs=0.005)
    assert at_mode.mean_size == pytest.approx(by_draws.mean_size, abs=0.05)
    assert at_mode.coverage == pytest.approx(by_draws.coverage, abs=0.02)


def test_predictions_at_the_mode_are_those_of_a_grid_over_both_traits() -> None:
    """With one answer each and traits that correlate by 0.9, much is known from the other trait."""
    rng = np.random.default_rng(3)
    theta = rng.standard_normal((150, 2)) @ np.linalg.cholesky([[1, 0.9], [0.9, 1]]).T
    eta = 2.0 * theta[:, [0, 0, 1, 1]] + rng.logistic(size=(150, 4))
    responses = Responses.from_matrix("f", np.digitize(eta, [-1.5, 0.0, 1.5]), items=ITEMS)
    found = _predicted_at_mode(responses, TRAITS)
    a, b, omega = penalised_estimates(responses, TRAITS)
    nodes = np.linspace(-5, 5, 81)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(nodes, nodes)])
    log_p = scores.log_category_probabilities(responses, a, b, grid[[0, 0, 1, 1]])
    log_prior = -0.5 * np.einsum("it,ij,jt->t", grid, np.linalg.inv(omega), grid)
    joint = np.exp(np.einsum("njk,jkt->nt", responses.counts, log_p) + log_prior)
    expected = np.einsum("nt,jkt->njk", joint / joint.sum(1, keepdims=True), np.exp(log_p))
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_the_right_structure_predicts_best(
    apart: tuple[Responses, CorrelatedFit], near: tuple[Responses, CorrelatedFit]
) -> None:
    rows = {row.model: row for row in compare_structures(apart[1], apart[0], seed=0)}
    assert list(rows) == ["correlated", "independent_traits", "one_trait"]
    assert rows["correlated"].difference == 0
    assert rows["one_trait"].difference < -2 * rows["one_trait"].difference_se
    assert abs(rows["independent_traits"].difference) < 0.1 * abs(rows["one_trait"].difference)
    rows = {row.model: row for row in compare_structures(near[1], near[0], seed=0)}
    assert rows["independent_traits"].difference < -2 * rows["independent_traits"].difference_se


def test_simpler_structures_have_the_fits_own_priors(
    apart: tuple[Responses, CorrelatedFit],
) -> None:
    """So that what differs is the structure."""
    responses, fit = apart
    stated, tight = (
        compare_structures(replace(fit, priors=one), responses, seed=0, most_fitted_again=0)
        for one in (fit.priors, Priors(0.05))
    )
    assert tight[0] == stated[0]
    assert all(one.elpd != other.elpd for one, other in zip(tight[1:], stated[1:], strict=True))


@pytest.mark.parametrize(
    ("method", "traits"), [("nuts", None), ("mml", None), ("nuts", TRAITS), ("mml", TRAITS)]
)
def test_prediction_sets_are_made_with_the_priors_that_are_given(
    apart: tuple[Responses, CorrelatedFit], method: Method, traits: tuple[str, ...] | None
) -> None:
    cutoffs = {
        predict_sets(
            apart[0], seed=2, method=method, traits=traits, sampler=SHORT, priors=priors
        ).cutoff
        for priors in (None, Priors(0.05))
    }
    assert len(cutoffs) == 2


def test_simpler_structures_are_rated_as_if_they_had_been_sampled(
    near: tuple[Responses, CorrelatedFit],
) -> None:
    """Of ten respondents, by fits of one trait and their own leaving out.

    Each sum of ten densities is known to 0.3 by either, from other seeds.
    """
    responses, fit = near
    rows = {row.model: row for row in compare_structures(fit, responses, seed=0)}
    own = np.array(fit.trait_of_item)
    parts = [responses.of_items(own == c, name) for c, name in enumerate(fit.traits)]

    def elpd(part: Responses) -> float:
        sampled = grm.fit(part, seed=5, sampler=SHORT)
        return compare_models(sampled, part, seed=5)[0].elpd

    assert rows["independent_traits"].elpd == pytest.approx(sum(map(elpd, parts)), abs=1.2)
    assert rows["one_trait"].elpd == pytest.approx(elpd(responses), abs=1.2)


def test_simpler_structures_are_weighted_by_the_density_whose_mode_was_found() -> None:
    responses = answers(0.0, each=5)
    mode, data = structures._mode(responses, Priors())
    used = np.asarray(data.used)
    scale = np.linalg.inv(np.linalg.cholesky(-mode.hessian)).T
    y = mode.y + np.random.default_rng(0).standard_normal((6, mode.y.size)) @ scale.T
    log_a, lowest, log_gap = coordinates.unpack_items(y, *used.shape)
    cuts = coordinates.thresholds_of(log_a, lowest, log_gap, used)
    draws = loo.Draws(np.exp(log_a), cuts, np.zeros(len(y)))
    weighted = structures._log_posterior(responses, draws, log_gap, Priors())
    exact = np.array([density.marginal_log_density(jnp.asarray(one), data) for one in y])
    np.testing.assert_allclose(weighted - weighted[0], exact - exact[0], atol=1e-3)
    assert np.ptp(exact) > 1.0


def test_respondents_are_left_out_of_correlated_traits_by_the_draws(
    near: tuple[Responses, CorrelatedFit],
) -> None:
    responses, fit = near
    left, draws = structures._correlated(fit, responses, np.arange(responses.n_respondents))
    assert left.rough.sum() == pytest.approx(fit.log_likelihood, abs=0.01)
    np.testing.assert_array_equal(left.pointwise, loo.smoothed(draws.log_likelihood)[0])
    assert (left.pointwise < left.kept).all()


def test_correlated_traits_are_fitted_without_a_respondent_who_says_too_much(
    near: tuple[Responses, CorrelatedFit],
) -> None:
    """One left out, against a fit of the rest that shares nothing but the model."""
    responses, fit = near
    rows = {row.model: row for row in compare_structures(fit, responses, seed=0)}
    none = {
        row.model: row for row in compare_structures(fit, responses, seed=0, most_fitted_again=0)
    }
    assert none["correlated"].unreliable > 0
    assert rows["correlated"].fitted_again == none["correlated"].unreliable
    assert [row.unreliable for row in rows.values()] == [0, 0, 0]

    one = np.arange(responses.n_respondents) == 4
    own = np.array(fit.trait_of_item)
    chosen = np.arange(responses.n_respondents)
    left, kept = structures._correlated(fit, responses, chosen)
    worst = left._replace(shape=np.where(one, 1.0, 0.0))
    again = loo.fit_again(
        chosen, worst, kept, structures._sampled_again(responses, own, 0, fit.priors), most=1
    )
    others = fitted(responses.chosen(~one), seed=9)
    alone = correlated_scores.prepare(responses.chosen(one), own)
    flat = [
        others.draws[name].reshape(-1, *others.draws[name].shape[2:])
        for name in ("discrimination", "thresholds", "correlation")
    ]
    by_draw = [correlated_scores.log_likelihoods(alone, *at)[0] for at in zip(*flat, strict=True)]
    plain = np.logaddexp.reduce(by_draw) - np.log(len(by_draw))
    assert again.pointwise[4] == pytest.approx(plain, abs=0.35)
    np.testing.assert_array_equal(np.isnan(again.shape), one)


def test_a_fit_without_draws_has_no_structures_to_compare(
    apart: tuple[Responses, CorrelatedFit],
) -> None:
    with pytest.raises(SettingError, match="method 'mml' has no draws"):
        compare_structures(replace(apart[1], draws={}), apart[0], seed=0)
    with pytest.raises(SettingError, match="most_fitted_again = -1: give 0 or more"):
        compare_structures(apart[1], apart[0], seed=0, most_fitted_again=-1)
    with pytest.raises(SettingError, match=r"again = 1: .* 24 respondents' answers are too few"):
        compare_structures(apart[1], answers(0.5, n=24, each=1), seed=0, most_fitted_again=1)


def test_traits_tell_of_each_other_in_prediction_sets(
    near: tuple[Responses, CorrelatedFit],
) -> None:
    """Two people silent on ideas, one at the top of art and one at its bottom."""
    responses = near[0]
    counts = responses.counts.copy()
    counts[:2] = 0
    counts[0, :2, 3] = counts[1, :2, 0] = 40
    silent = replace(responses, counts=counts)
    for predicted in (
        conformal._predicted_by_draws(silent, fitted(silent)),
        conformal._predicted_at_mode(silent, TRAITS),
    ):
        np.testing.assert_allclose(predicted.sum(2), 1.0)
        for item in (2, 3):
            assert predicted[0, item, 3] > 0.5
            assert predicted[1, item, 0] > 0.5


def test_the_composite_of_traits_that_were_integrated_out_is_that_of_their_normals(
    near: tuple[Responses, CorrelatedFit],
) -> None:
    fit = replace(near[1], draws={})
    omega, half = fit.correlation_mean, np.array([0.5, 0.5])
    unit = np.sqrt(half @ omega @ half)
    found = composite_scores(fit)
    np.testing.assert_allclose(found.mean, fit.theta.mean @ half / unit)
    variances = [half @ covariance @ half for covariance in fit.theta_covariance]
    np.testing.assert_allclose(found.sd, np.sqrt(variances) / unit)


def test_the_composite_is_the_traits_mean_in_its_own_unit(
    near: tuple[Responses, CorrelatedFit],
) -> None:
    fit = near[1]
    draws, omega = fit.draws["theta"], fit.draws["correlation"]
    by_hand = np.stack(
        [
            theta @ [0.5, 0.5] / np.sqrt([0.5, 0.5] @ one @ [0.5, 0.5])
            for theta, one in zip(draws.reshape(-1, 12, 2), omega.reshape(-1, 2, 2), strict=True)
        ]
    )
    found = composite_scores(fit)
    np.testing.assert_allclose(found.mean, by_hand.mean(0))
    np.testing.assert_allclose(found.sd, by_hand.std(0))
    assert found.respondents == fit.theta.respondents


def test_answers_are_odd_by_the_items_own_traits(apart: tuple[Responses, CorrelatedFit]) -> None:
    responses, fit = apart
    assert odd_respondents(fit, responses) == (0, ())
    count, shown = odd_respondents(replace(fit, trait_of_item=(1, 1, 0, 0)), responses)
    assert count >= 6
    place = responses.respondents.index(shown[0].respondent)
    assert shown[0].score == pytest.approx(composite_scores(fit).mean[place])


def test_groups_are_compared_trait_by_trait(near: tuple[Responses, CorrelatedFit]) -> None:
    """Groups answer ideas2 with other thresholds; art has one item that is left in the trait."""
    responses = near[0].regrouped(np.arange(12) % 2)
    mine = np.array(TRAITS) == "ideas"
    by_trait = {name: compare(of_trait(responses, name, np.array(TRAITS) == name)) for name in
                ("art", "ideas")}  # fmt: skip
    summed = over_traits(by_trait)
    assert [row.level for row in summed] == ["configural", "metric", "scalar"]
    for k, row in enumerate(summed):
        parts = [rows[k] for rows in by_trait.values()]
        assert row.bic == pytest.approx(sum(part.bic for part in parts))
        assert row.delta_bic == pytest.approx(sum(part.delta_bic for part in parts))
        assert row.holds is all(part.holds for part in parts)
    with pytest.raises(TooFewItemsError, match="one item only"):
        of_trait(responses, "ideas", mine & (np.arange(4) == 2))


def test_traits_rows_add_up_and_hold_together() -> None:
    rows = [
        InvarianceRow("metric", -10.0 * k, k, 21.0 * k, 22.0 * k, 3.0 * k, 0.5 * k, k == 1, (), ())
        for k in (1, 2)
    ]
    [summed] = over_traits({"art": rows[:1], "ideas": rows[1:]})
    expected = InvarianceRow("metric", -30.0, 3, 63.0, 66.0, 9.0, 1.5, False, (), ())
    assert summed == expected
    assert over_traits({"art": rows[:1], "ideas": rows[:1]})[0].holds


def level(name: str, delta: float) -> InvarianceRow:
    return InvarianceRow(name, -1.0, 1, 1.0, 1.0, delta, 0.0, delta <= 0, (0.0,), (1.0,))  # type: ignore[arg-type]


def test_the_worst_trait_decides_gate_8() -> None:
    good = (level("configural", 0.0), level("metric", -2.0), level("scalar", -1.0))
    bad = (level("configural", 0.0), level("metric", 4.0), level("scalar", 9.0))
    gate = gates.invariance_of_traits({"art": good, "ideas": bad, "values": "one item only"})
    assert (gate.passed, gate.judged, gate.advisory, gate.value) == (False, True, True, 4.0)
    assert "art scalar, ideas configural; not judged: values: one item only" in gate.reason
    assert gates.invariance_of_traits({"art": good}).passed
    none = gates.invariance_of_traits({"a": "one item only", "b": "one item only"})
    assert (none.passed, none.judged) == (True, False)
    assert none.reason == "a, b: one item only"


def test_a_version_of_correlated_traits_is_linked_trait_by_trait(
    apart: tuple[Responses, CorrelatedFit],
) -> None:
    kept = GrmArtefact.from_fit(apart[1])
    document = json.loads(kept.to_json())
    for item in document["items"][2:]:  # theta of ideas in another unit, from another origin
        for part in ("mean", "sd"):
            item["discrimination"][part] /= 2.0
        for cut in item["thresholds"]:
            cut["mean"], cut["sd"] = 2.0 * cut["mean"] + 0.7, 2.0 * cut["sd"]
            cut["hdi95"] = [cut["mean"], cut["mean"]]
    moved = GrmArtefact.from_json(json.dumps(document))
    found = compare_versions(moved, kept)
    assert found.largest < 1e-6
    assert (found.scale, found.shift, found.moved) == (None, None, ())
    assert [(link.trait, round(link.scale, 6), round(link.shift, 6)) for link in found.links] == [
        ("art", 1.0, 0.0),
        ("ideas", 2.0, 0.7),
    ]
    assert found.n_parameters == 4 * 4 + 1


def test_a_correlation_that_moved_fails_the_stability_gate(
    apart: tuple[Responses, CorrelatedFit],
) -> None:
    kept = GrmArtefact.from_fit(apart[1])
    document = json.loads(kept.to_json())
    value = document["correlations"][0]["correlation"]
    value["mean"], value["sd"], value["hdi95"] = 0.95, 0.01, [0.93, 0.97]
    gate = gates.stability(compare_versions(GrmArtefact.from_json(json.dumps(document)), kept))
    assert not gate.passed
    assert "the correlation of art and ideas moved furthest" in gate.reason


def test_correlations_are_compared_in_pooled_errors_whatever_the_traits_order(
    apart: tuple[Responses, CorrelatedFit],
) -> None:
    kept = GrmArtefact.from_fit(apart[1])
    document = json.loads(kept.to_json())
    document["traits"].reverse()
    [pair] = document["correlations"]
    pair["first"], pair["second"] = pair["second"], pair["first"]
    value = pair["correlation"]
    mean, sd = value["mean"], value["sd"]
    value.update(mean=mean + 6 * sd, sd=2 * sd, hdi95=[mean, mean + 9 * sd])
    found = compare_versions(GrmArtefact.from_json(json.dumps(document)), kept)
    assert found.largest == pytest.approx(6 / np.sqrt(5))
    assert found.n_parameters == 4 * 4 + 1
    assert found.moved == ()


def test_an_item_of_another_trait_is_not_compared(apart: tuple[Responses, CorrelatedFit]) -> None:
    kept = GrmArtefact.from_fit(apart[1])
    document = json.loads(kept.to_json())
    document["items"][0]["trait"] = "ideas"
    found = compare_versions(GrmArtefact.from_json(json.dumps(document)), kept)
    assert found.not_compared == ("art1",)


def test_all_ten_gates_judge_correlated_traits(apart: tuple[Responses, CorrelatedFit]) -> None:
    responses, fit = apart
    kept = GrmArtefact.from_fit(fit)
    evidence = gates.Evidence(
        check_fit(fit, responses, seed=0),
        predict_sets(responses, seed=0, method="nuts", traits=TRAITS, sampler=SHORT),
        compare_versions(kept, kept),
    )
    halves = responses.regrouped(np.arange(12) % 2)
    levels = {"art": compare(of_trait(halves, "art", np.array(TRAITS) == "art"))}
    mixed = replace(fit, diagnostics=replace(fit.diagnostics, r_hat_max=1.001))
    found = gates.judge(mixed, levels, evidence)
    assert [gate.number for gate in found] == list(range(1, 11))
    assert all(gate.judged for gate in found)
    assert not gates.held(found)
    stuck = replace(fit, diagnostics=replace(fit.diagnostics, r_hat_max=1.2))
    assert gates.held(gates.judge(stuck, levels, evidence))
