import numpy as np
import pytest

from calibration import gates, grm
from calibration.artefact import GrmArtefact
from calibration.data import Responses
from calibration.errors import NotConvergedError, TooFewRespondentsError

NAMES = ["i0", "i1", "i2", "i3"]


def table(seed: int = 0, n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    eta = np.linspace(1, 2, 4) * rng.standard_normal(n)[:, None]
    noise = rng.logistic(size=(n, 4))
    return sum((eta + noise > cut).astype(float) for cut in (-1.0, 1.0))


def of(grades: np.ndarray) -> Responses:
    return Responses.from_matrix("f", grades, items=NAMES[: grades.shape[1]])


def said(responses: Responses, words: str) -> bool:
    return any(words in note for note in responses.notes)


def test_nothing_is_said_about_ordinary_answers() -> None:
    grades = table()
    grades = grades[(grades != grades[:, :1]).any(1)]
    assert of(grades).notes == ()


def test_perfect_respondents_have_finite_scores_and_a_note() -> None:
    grades = table()
    grades[0] = 2
    responses = of(grades)
    assert said(responses, "gave the highest category each time")
    fit = grm.fit(responses, seed=0, method="mml")
    assert np.isfinite(fit.theta.mean).all()
    assert fit.theta.mean[0] == fit.theta.mean.max() < 3


def test_a_reversed_item_is_named_whatever_happens_next() -> None:
    grades = table()
    grades[:, 2] = 2 - grades[:, 2]
    responses = of(grades)
    assert said(responses, "item i2: correlates -0.")
    with pytest.raises(NotConvergedError, match="item i2: correlates"):
        grm.fit(responses, seed=0, method="mml")


def test_equal_items_are_named_where_the_maximum_runs_off() -> None:
    grades = table()
    grades[:, 1] = grades[:, 0]
    with pytest.raises(NotConvergedError, match="items i0 and i1 have equal answers"):
        grm.fit(of(grades), seed=0, method="mml")


def test_a_category_seen_once_is_finite_and_held_by_its_gate() -> None:
    grades = table()
    grades[5, 0] = 3
    responses = of(grades)
    assert said(responses, "item i0: category 3 was used once")
    fit = grm.fit(responses, seed=0, method="mml")
    GrmArtefact.from_fit(fit)
    assert not gates.category_use(fit).passed


def test_a_duplicated_respondent_is_named() -> None:
    wide = np.hstack([table(seed, 40) for seed in range(6)])
    twice = Responses.from_matrix(
        "f", np.vstack([wide, wide[7]]), items=[f"i{j}" for j in range(24)]
    )
    assert said(twice, "2 respondents have all answers equal to another's: 07, 40")


def test_rows_that_are_there_twice_are_named() -> None:
    grades = table(n=30)
    who, which = (axis.ravel() for axis in np.indices(grades.shape))
    again = np.append(np.arange(who.size), [0, 0])
    responses = Responses.from_columns(
        "f", who[again], np.array(NAMES)[which[again]], grades.ravel()[again]
    )
    assert said(responses, "respondent 0 answered item i0 3 times and 0 more did so")


def test_one_respondent_is_named_before_anything_else() -> None:
    with pytest.raises(TooFewRespondentsError, match="only respondent 0 has an answer"):
        of(table()[:1])


def test_two_items_are_told_apart_by_the_prior_alone() -> None:
    assert said(of(table()[:, :2]), "only the prior tells their discriminations apart")


def test_items_of_two_categories_are_the_logistic_model() -> None:
    rng = np.random.default_rng(1)
    a, b = np.array([1.0, 1.5, 2.0, 1.2]), np.array([-0.5, 0.0, 0.5, 1.0])
    theta = rng.standard_normal((3000, 1))
    grades = (a * (theta - b) + rng.logistic(size=(3000, 4)) > 0).astype(float)
    fit = grm.fit(of(grades), seed=0, method="mml")
    for item, slope, cut in zip(fit.estimates, a, b, strict=True):
        assert abs(item.discrimination.mean - slope) < 3 * item.discrimination.sd
        assert abs(item.thresholds[0].mean - cut) < 3 * item.thresholds[0].sd


def test_few_respondents_and_two_categories_have_a_likelihood() -> None:
    rng = np.random.default_rng(2)
    who, which = (axis.ravel() for axis in np.indices((4, 120)))
    theta = np.array([-1.5, -0.5, 0.5, 1.5])
    grades = (2 * theta[who] + rng.logistic(size=who.size) > 0).astype(int)
    responses = Responses.from_columns("f", who, np.array(["x", "y"])[which % 2], grades)
    fit = grm.fit(responses, seed=0, sampler=grm.SamplerSettings(warmup=100, draws=200))
    assert (np.diff(fit.theta.mean) > 0.2).all()


def test_maximum_likelihood_names_the_items_that_ran_off() -> None:
    grades = table()
    grades[:, 1] = 2 - grades[:, 1]
    with pytest.raises(NotConvergedError, match=r"item i1 ran to a = \S+e-\d+: leave out") as told:
        grm.fit(of(grades), seed=0, method="mml")
    assert "item i0 ran" not in str(told.value)
