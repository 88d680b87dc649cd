"""What can be wrong with responses, by every way to calibrate them.

Each case ends in a refusal that names what is wrong, or in finite numbers with a note that does.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import grm
from calibration.correlated import CorrelatedFit, fit_correlated
from calibration.data import Responses
from calibration.errors import CalibrationError
from calibration.results import Fit, SamplerSettings, Summary
from tests.support.fuzz import fuzzed

ITEMS = ("x", "y", "z")
WHO, TURNS = 20, 12
SHORT = SamplerSettings(chains=2, warmup=100, draws=100)
METHODS: dict[str, Callable[[Responses], Fit | CorrelatedFit]] = {
    "nuts": lambda responses: grm.fit(responses, seed=1, sampler=SHORT),
    "mml": lambda responses: grm.fit(responses, seed=1, method="mml"),
    "correlated": lambda responses: fit_correlated(responses, seed=1, sampler=SHORT),
}


class Columns(NamedTuple):
    """Long columns, as `Responses.from_columns` takes them."""

    respondent: np.ndarray
    item: np.ndarray
    grade: np.ndarray
    count: np.ndarray

    def where(self, kept: np.ndarray) -> "Columns":
        return Columns(*(column[kept] for column in self))


def ordinary() -> Columns:
    """Twenty respondents, three items with traits that correlate by a half, twelve answers each."""
    rng = np.random.default_rng(3)
    who, _, which = (axis.ravel() for axis in np.indices((WHO, TURNS, len(ITEMS))))
    common = np.linspace(-1.6, 1.6, WHO)[:, None]
    theta = np.sqrt(0.5) * (common + rng.standard_normal((WHO, len(ITEMS))))
    eta = np.array([1.2, 1.6, 2.0])[which] * theta[who, which] + rng.logistic(size=who.size)
    names = np.array([f"p{n:02d}" for n in range(WHO)])
    grades = np.digitize(eta, [-1.0, 1.0]).astype(float)
    return Columns(names[who], np.array(ITEMS)[which], grades, np.ones(who.size, np.int64))


def constant_item(c: Columns) -> Columns:
    c.grade[c.item == "y"] = 1
    return c


def perfect_respondent(c: Columns) -> Columns:
    c.grade[c.respondent == "p19"] = 2
    return c


def silent_respondent(c: Columns) -> Columns:
    row = Columns(*(np.array([value]) for value in ("quiet", "x", 1.0, 0)))
    return Columns(*(np.append(column, extra) for column, extra in zip(c, row, strict=True)))


def reversed_item(c: Columns) -> Columns:
    c.grade[c.item == "z"] = 2 - c.grade[c.item == "z"]
    return c


def duplicated_respondent(c: Columns) -> Columns:
    c.grade[c.respondent == "p05"] = c.grade[c.respondent == "p11"]
    return c


def category_seen_once(c: Columns) -> Columns:
    at = np.flatnonzero((c.item == "x") & (c.grade == 2))
    c.grade[at[1:]] = 1
    return c


def equal_items(c: Columns) -> Columns:
    c.grade[c.item == "y"] = c.grade[c.item == "x"]
    return c


def one_bad(value: float) -> Callable[[Columns], Columns]:
    def changed(c: Columns) -> Columns:
        c.grade[7] = value
        return c

    return changed


def one_respondent(c: Columns) -> Columns:
    return c.where(c.respondent == "p03")


def one_item_answered_once(c: Columns) -> Columns:
    kept = c.where(np.unique(c.respondent, return_index=True)[1])
    kept.item[:] = "x"
    return kept


class Case(NamedTuple):
    """``refused`` and ``fitted``: the methods that must end so; with the others either is right."""

    change: Callable[[Columns], Columns]
    words: str
    refused: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()


EVERY = tuple(METHODS)
CASES = {
    "constant item": Case(constant_item, "item y: every answer is 1", refused=EVERY),
    "perfect respondent": Case(
        perfect_respondent, "gave the highest category each time.*p19", fitted=("nuts", "mml")
    ),
    "respondent without answers": Case(
        silent_respondent, "1 respondents without an answer left out: quiet", fitted=EVERY
    ),
    "reversed item": Case(
        reversed_item,
        "item z: correlates -0.* is it keyed the other way",
        refused=("mml",),
        fitted=("nuts", "correlated"),
    ),
    "duplicated respondent": Case(
        duplicated_respondent, "all answers equal to another's: p05, p11", fitted=EVERY
    ),
    "category seen once": Case(
        category_seen_once, "item x: category 2 was used once", fitted=EVERY
    ),
    "equal items": Case(equal_items, "items x and y have equal answers", fitted=("nuts",)),
    "NaN": Case(one_bad(np.nan), "item y, respondent p00: grade nan", refused=EVERY),
    "infinity": Case(one_bad(np.inf), "item y, respondent p00: grade inf", refused=EVERY),
    "a half": Case(one_bad(1.5), "item y, respondent p00: grade 1.5", refused=EVERY),
    "one respondent": Case(one_respondent, "only respondent p03 has an answer", refused=EVERY),
    "one item": Case(one_item_answered_once, r"one item \(x\) answered once", refused=EVERY),
}


def respond(c: Columns) -> Responses:
    return Responses.from_columns("f", c.respondent, c.item, c.grade, count=c.count)


def calibrated(
    method: str, responses: Callable[[], Responses]
) -> Fit | CorrelatedFit | CalibrationError:
    try:
        return METHODS[method](responses())
    except CalibrationError as error:
        return error


def numbers(fit: Fit | CorrelatedFit) -> Iterator[Any]:
    """Everything that is reported, draws aside."""
    summaries: list[Summary] = [
        one for item in fit.estimates for one in (item.discrimination, *item.thresholds)
    ]
    if isinstance(fit, CorrelatedFit):
        summaries += [pair.value for pair in fit.correlations]
        yield from (part.marginal_reliability for part in fit.by_trait)
        yield from (part.log_likelihood for part in fit.by_trait)
    else:
        yield from (fit.marginal_reliability, fit.log_likelihood)
    for one in summaries:
        yield from (one.mean, one.sd, *one.hdi95, one.r_hat, one.ess_bulk, one.ess_tail, one.mcse)
    said = fit.diagnostics
    yield from (said.r_hat_max, said.ess_bulk_min, said.ess_tail_min, *said.e_bfmi)
    yield from (fit.theta.mean, fit.theta.sd)


def assert_finite(fit: Fit | CorrelatedFit) -> None:
    assert all(np.isfinite(value).all() for value in numbers(fit) if value is not None)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named(name: str, method: str) -> None:
    case = CASES[name]
    fit = calibrated(method, lambda: respond(case.change(ordinary())))
    if isinstance(fit, CalibrationError):
        assert method not in case.fitted, fit
        assert re.search(case.words, str(fit))
    else:
        assert method not in case.refused, fit.notes
        assert re.search(case.words, "\n".join(fit.notes))
        assert_finite(fit)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_said_of_ordinary_answers(method: str) -> None:
    fit = METHODS[method](respond(ordinary()))
    assert fit.notes == ()
    assert_finite(fit)


@pytest.mark.parametrize("method", METHODS)
def test_a_respondent_without_answers_changes_no_number(method: str) -> None:
    with_one = METHODS[method](respond(silent_respondent(ordinary())))
    without = METHODS[method](respond(ordinary()))
    assert with_one.estimates == without.estimates
    np.testing.assert_array_equal(with_one.theta.mean, without.theta.mean)


@pytest.mark.parametrize("method", ["nuts", "mml"])
def test_a_perfect_respondent_is_the_highest_and_finite(method: str) -> None:
    fit = METHODS[method](respond(perfect_respondent(ordinary())))
    assert fit.theta.mean.argmax() == 19
    assert fit.theta.mean[19] < 4


def test_a_reversed_item_s_trait_correlates_the_other_way() -> None:
    plain, turned = (
        METHODS["correlated"](respond(change(ordinary())))
        for change in (lambda columns: columns, reversed_item)
    )
    assert isinstance(plain, CorrelatedFit)
    assert isinstance(turned, CorrelatedFit)
    np.testing.assert_allclose(
        turned.correlation_mean[2, :2], -plain.correlation_mean[2, :2], atol=0.1
    )


def test_equal_items_have_equal_discriminations() -> None:
    fit = METHODS["nuts"](respond(equal_items(ordinary())))
    assert isinstance(fit, Fit)
    x, y, _ = (summary.mean for summary in fit.discrimination)
    assert x == pytest.approx(y, rel=0.1)


CELLS = st.sampled_from([0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 1.0, 2.0, np.nan, np.inf, 0.5, -1.0])
TABLES = st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=7)


@fuzzed(60)
@given(TABLES)
def test_any_small_table_is_refused_by_name_or_gives_finite_numbers(
    table: list[list[float]],
) -> None:
    fit = calibrated("mml", lambda: Responses.from_matrix("f", table, items=ITEMS))
    if isinstance(fit, CalibrationError):
        assert re.search("item|respondent|grade", str(fit))
    else:
        assert_finite(fit)
