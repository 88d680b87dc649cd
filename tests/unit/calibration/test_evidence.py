import dataclasses

import numpy as np
import pytest

from calibration import gates, grm
from calibration.artefact import GrmArtefact
from calibration.conformal import predict_sets
from calibration.data import Responses
from calibration.errors import SettingError, TooFewItemsError, TooFewRespondentsError
from calibration.invariance import compare, differences_p_value, name_items
from calibration.persons import odd_respondents, person_fit
from calibration.predictive import check_fit
from calibration.results import Fit
from calibration.stability import compare_versions


def survey(n: int = 400, seed: int = 0, second: float = 0.0, shift: float = 0.0) -> Responses:
    """Four items, three categories; ``second`` parts the first two from the last two."""
    rng = np.random.default_rng(seed)
    own = rng.standard_normal(n)[:, None] * np.array([1, 1, -1, -1]) * second
    eta = np.linspace(1, 2, 4) * (rng.standard_normal(n)[:, None] + own) - [shift, 0, 0, 0]
    uniform = rng.random((n, 4))
    grades = sum((uniform < 1 / (1 + np.exp(-(eta - cut)))).astype(int) for cut in (-1.0, 1.0))
    return Responses.from_matrix("f", grades, items=list("wxyz"))


def mml(responses: Responses) -> Fit:
    return grm.fit(responses, seed=0, method="mml")


def test_answers_of_one_trait_pass_the_fit_gate() -> None:
    responses = survey()
    check = check_fit(mml(responses), responses, seed=1)
    assert check.p_value > 0.02
    assert check.excess < 0.05
    assert [item.item for item in check.items] == list("wxyz")
    assert gates.model_fit(check).passed
    assert check == check_fit(mml(responses), responses, seed=1)


def test_a_second_trait_fails_the_fit_gate_and_its_pair_is_named() -> None:
    responses = survey(second=0.6)
    check = check_fit(mml(responses), responses, seed=1)
    assert check.p_value < 0.01
    assert check.worst_pair in {("w", "x"), ("y", "z")}
    gate = gates.model_fit(check)
    assert not gate.passed
    assert "between items" in gate.reason


def test_the_fit_check_of_many_answers_a_respondent(smoke: Responses, smoke_fit: Fit) -> None:
    check = check_fit(smoke_fit, smoke, seed=1)
    assert gates.model_fit(check).passed
    assert 0.02 < check.p_value <= 1
    turned = smoke.counts.copy()
    turned[:, 0] = turned[::-1, 0]
    broken = check_fit(smoke_fit, dataclasses.replace(smoke, counts=turned), seed=1)
    assert broken.p_value < 0.01
    assert broken.items[0].residual > 2 * broken.items[1].residual


def test_few_replications_are_refused(smoke: Responses, smoke_fit: Fit) -> None:
    with pytest.raises(SettingError, match="replications = 99"):
        check_fit(smoke_fit, smoke, seed=1, replications=99)


def test_prediction_sets_hold_what_they_promise() -> None:
    responses = survey()
    runs = [predict_sets(responses, seed=seed, level=0.8) for seed in range(12)]
    tested = sum(run.n_tested for run in runs)
    coverage = sum(run.coverage * run.n_tested for run in runs) / tested
    assert coverage == pytest.approx(0.8, abs=0.04)
    assert all(run.coverage >= run.coverage_floor for run in runs)
    assert all(1 <= run.mean_size < 3 for run in runs)
    assert all(gates.coverage(run).passed for run in runs)
    wider = predict_sets(responses, seed=0, level=0.95)
    assert wider.mean_size > runs[0].mean_size
    assert wider.cutoff < runs[0].cutoff


def test_prediction_sets_for_personas_are_small(smoke: Responses) -> None:
    sets = predict_sets(smoke, seed=2)
    assert sets.n_calibrated + sets.n_tested == pytest.approx(0.2 * smoke.n_responses, rel=0.15)
    assert sets.coverage >= sets.coverage_floor
    assert sets.mean_size < 4
    assert not gates.coverage(dataclasses.replace(sets, coverage=sets.coverage_floor - 0.01)).passed


def test_prediction_sets_want_enough_answers_and_a_level() -> None:
    with pytest.raises(SettingError, match=r"level = 1\.0"):
        predict_sets(survey(), seed=1, level=1.0)
    with pytest.raises(TooFewRespondentsError, match="too few for prediction sets"):
        predict_sets(survey(6), seed=1, level=0.99)


@pytest.fixture(scope="module")
def promoted() -> GrmArtefact:
    return GrmArtefact.from_fit(mml(survey(seed=3)))


def test_another_sample_of_the_same_items_is_stable(promoted: GrmArtefact) -> None:
    new = GrmArtefact.from_fit(mml(survey(seed=4)))
    gate = gates.stability(compare_versions(new, promoted))
    assert gate.passed
    assert gate.value is not None
    assert 0 < gate.value < 3.2


def test_a_version_is_stable_against_itself_on_another_scale(promoted: GrmArtefact) -> None:
    def stretch(item: dict) -> dict:
        a, thresholds = item["discrimination"], item["thresholds"]
        a = {**a, "mean": a["mean"] / 2, "sd": a["sd"] / 2, "hdi95": (0.0, 9.0)}
        moved = [
            {**b, "mean": 2 * b["mean"] + 1, "sd": 2 * b["sd"], "hdi95": (-9.0, 9.0)}
            for b in thresholds
        ]
        return {**item, "discrimination": a, "thresholds": moved}

    document = promoted.model_dump()
    document["items"] = [stretch(item) for item in document["items"]]
    found = compare_versions(GrmArtefact.model_validate(document), promoted)
    assert found.scale == pytest.approx(2.0)
    assert found.shift == pytest.approx(1.0)
    assert found.largest < 1e-9


def test_an_item_that_moved_fails_the_stability_gate(promoted: GrmArtefact) -> None:
    moved = GrmArtefact.from_fit(mml(survey(seed=4, shift=1.5)))
    gate = gates.stability(compare_versions(moved, promoted))
    assert not gate.passed
    assert "of item w moved furthest" in gate.reason


def test_versions_without_a_common_item_are_not_stable(promoted: GrmArtefact) -> None:
    document = promoted.model_dump()
    for item in document["items"]:
        item["item"] += "2"
    gate = gates.stability(compare_versions(GrmArtefact.model_validate(document), promoted))
    assert (gate.passed, gate.value) == (False, None)
    document["items"][0]["item"] = "w"
    again = gates.stability(compare_versions(GrmArtefact.model_validate(document), promoted))
    assert "not compared: x, x2" in again.reason


def test_gates_follow_their_evidence(promoted: GrmArtefact) -> None:
    responses = survey(seed=4)
    fit = mml(responses)
    evidence = gates.Evidence(
        check_fit(fit, responses, seed=1),
        predict_sets(responses, seed=1),
        compare_versions(GrmArtefact.from_fit(fit), promoted),
    )
    assert [gate.number for gate in gates.judge(fit, (), evidence)] == [1, 2, 3, 4, 5, 6, 7, 9, 10]


def grouped(shift: float) -> Responses:
    """The second 1,000 answer item w as if it were harder, and differ in trait."""
    rng = np.random.default_rng(5)
    group = np.arange(2000) // 1000
    theta = rng.standard_normal(2000) + 0.5 * group
    eta = 1.5 * theta[:, None] - shift * np.outer(group, [1, 0, 0, 0])
    noise = rng.logistic(size=(2000, 4))
    grades = sum((eta + noise > cut).astype(int) for cut in (-1.5, 1.5))
    return Responses.from_matrix("f", grades, items=list("wxyz"), groups=group)


def test_the_item_that_breaks_invariance_is_named_alone() -> None:
    found = name_items(grouped(2.5))
    assert [item.item for item in found if not item.invariant] == ["w"]
    assert found[0].likelihood_ratio > 200
    assert [item.n_parameters for item in found] == [3, 3, 3, 3]
    assert all(item.likelihood_ratio < 20 for item in found[1:])


def test_no_item_is_named_where_groups_differ_in_trait_only() -> None:
    assert all(item.invariant for item in name_items(grouped(0.0)))


def test_a_pair_and_a_category_are_met_where_the_model_holds() -> None:
    responses = survey()
    check = check_fit(mml(responses), responses, seed=1)
    assert [pair.items for pair in check.pairs[:3]] == [("w", "x"), ("w", "y"), ("w", "z")]
    assert sum(not pair.low <= pair.residual <= pair.high for pair in check.pairs) <= 1
    for share in check.shares:
        assert sum(share.observed) == pytest.approx(1.0)
        bands = zip(share.low, share.observed, share.high, strict=True)
        assert all(low < seen < high for low, seen, high in bands)
    broken = check_fit(mml(survey(second=0.6)), survey(second=0.6), seed=1)
    outside = {pair.items for pair in broken.pairs if not pair.low <= pair.residual <= pair.high}
    assert broken.worst_pair in outside


def test_what_could_not_be_judged_passes_and_says_why() -> None:
    fit = mml(survey(seed=4))
    evidence = gates.Evidence("one item", "too few answers", "no version before")
    verdicts = {gate.number: gate for gate in gates.judge(fit, "one group", evidence)}
    assert list(verdicts) == list(range(1, 11))
    assert {n for n, gate in verdicts.items() if not gate.judged} == {2, 3, 4, 7, 8, 9, 10}
    assert [verdicts[n].reason for n in (7, 8, 9, 10)] == [
        "one item", "one group", "too few answers", "no version before",
    ]  # fmt: skip
    assert not gates.held(tuple(verdicts.values()))


def test_the_stability_gate_names_every_item_that_moved(promoted: GrmArtefact) -> None:
    moved = compare_versions(GrmArtefact.from_fit(mml(survey(seed=4, shift=1.5))), promoted)
    assert moved.moved == ("w",)
    assert "items that moved: w" in gates.stability(moved).reason


def test_the_invariance_gate_names_the_items_that_differ() -> None:
    responses = grouped(2.5)
    levels = compare(responses)
    gate = gates.metric_invariance(levels, name_items(responses))
    assert "items that differ: w" in gate.reason
    assert differences_p_value(levels) < 1e-6
    assert differences_p_value(compare(grouped(0.0))) > 0.01
    assert levels[0].delta_bic_se == 0
    assert levels[2].delta_bic_se > levels[1].delta_bic_se > 0


def test_few_respondents_are_predicted_from_the_mode_that_nuts_starts_from(
    smoke: Responses,
) -> None:
    runs = [predict_sets(smoke, seed=seed, method="nuts") for seed in range(8)]
    coverage = np.average([run.coverage for run in runs], weights=[run.n_tested for run in runs])
    assert coverage == pytest.approx(0.9, abs=0.02)
    assert all(gates.coverage(run).passed for run in runs)
    marginal = predict_sets(smoke, seed=0, method="mml")
    assert marginal.cutoff != runs[0].cutoff
    assert marginal.cutoff == pytest.approx(runs[0].cutoff, abs=0.02)


def test_a_respondent_who_answers_at_random_is_odd() -> None:
    rng = np.random.default_rng(3)
    eta = 2.0 * rng.standard_normal((400, 1)) * np.ones((1, 12))
    uniform = rng.random((400, 12))
    grades = sum((uniform < 1 / (1 + np.exp(-(eta - cut)))).astype(int) for cut in (-2.0, 2.0))
    grades[17] = [0, 2] * 6
    responses = Responses.from_matrix("f", grades, items=list("abcdefghijkl"))
    fit = mml(responses)
    lz = person_fit(fit, responses)
    assert lz.argmin() == 17
    assert lz.std() == pytest.approx(1, abs=0.25)
    count, (first, *_) = odd_respondents(fit, responses)
    assert first.respondent == responses.respondents[17]
    assert (first.lz < -5, first.n_answers) == (True, 12)
    assert count <= 4
    few = Responses.from_matrix("f", grades[:, :3], items=list("abc"))
    assert np.isnan(person_fit(mml(few), few)).all()


def test_chosen_respondents_keep_their_answers_and_groups() -> None:
    responses = grouped(0.0)
    kept = np.arange(2000) % 3 == 0
    some = responses.chosen(kept)
    assert some.n_respondents == kept.sum()
    assert np.array_equal(some.counts, responses.counts[kept])
    assert np.array_equal(some.groups, responses.groups[kept])
    assert some.respondents[1] == responses.respondents[3]


def test_an_item_without_others_to_compare_groups_by_is_refused() -> None:
    who, _ = np.indices((8, 6))
    grades = (who + np.random.default_rng(0).integers(0, 4, who.shape)) // 4
    alone = Responses.from_columns("f", who.ravel(), np.full(who.size, "x"), grades.ravel())
    with pytest.raises(TooFewItemsError, match="item x is alone"):
        name_items(alone.regrouped(np.arange(8) % 2))
