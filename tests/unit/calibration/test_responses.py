import numpy as np
import pytest

from calibration import distinct
from calibration.data import Responses
from calibration.errors import (
    ConstantItemError,
    InvalidGradeError,
    ShapeError,
    TooFewItemsError,
    TooFewRespondentsError,
    UnknownItemError,
)

WHO = ["ann", "ann", "bob", "bob", "bob"]
ITEM = ["x", "y", "x", "y", "y"]
GRADE = [1, 5, 3, 2, 2]


def test_counts_each_answer_in_its_category() -> None:
    responses = Responses.from_columns("f", WHO, ITEM, GRADE, groups={"bob": 1})
    assert responses.items == ("x", "y")
    assert responses.categories == ((1, 3), (2, 5))
    assert responses.respondents == ("ann", "bob")
    assert responses.counts.tolist() == [[[1, 0], [0, 1]], [[0, 1], [2, 0]]]
    assert responses.groups.tolist() == [0, 1]
    assert responses.n_responses == 5
    assert "item x: category 2 was never used" in responses.notes


def test_counts_given_are_the_same_as_rows_repeated() -> None:
    repeated = Responses.from_columns("f", WHO, ITEM, GRADE)
    counted = Responses.from_columns("f", WHO[:4], ITEM[:4], GRADE[:4], count=[1, 1, 1, 2])
    np.testing.assert_array_equal(repeated.counts, counted.counts)


def test_reversed_items_turn_around_the_scale() -> None:
    turned = Responses.from_columns("f", WHO, ITEM, GRADE, reversed_items=["y"])
    assert turned.categories == ((1, 3), (1, 4))
    wider = Responses.from_columns("f", WHO, ITEM, GRADE, reversed_items=["y"], scale=(1, 7))
    assert wider.categories == ((1, 3), (3, 6))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"grade": [1, 5, np.nan, 2, 2]}, InvalidGradeError, "item x, respondent bob: grade nan"),
        ({"grade": [1, 5, 2.5, 2, 2]}, InvalidGradeError, "grade 2.5"),
        ({"grade": ["1", "a", "2", "2", "2"]}, InvalidGradeError, "not numbers"),
        ({"grade": [1, 2, 3, 2, 2]}, ConstantItemError, "item y: every answer is 2"),
        ({"grade": [1, 2]}, ShapeError, "one length"),
        ({"respondent": ["ann"] * 5}, TooFewRespondentsError, "at least 2"),
        ({"reversed_items": ["z"]}, UnknownItemError, "reversed_items names z"),
        ({"items": ["x", "y", "z"]}, UnknownItemError, "item z has no answer"),
        ({"items": ["x", "y", "x"]}, UnknownItemError, "names x twice"),
        ({"count": [1, 1, 1, 1, -1]}, InvalidGradeError, "count holds -1"),
        ({"count": [1, 1]}, ShapeError, "one per row, 5"),
    ],
)
def test_bad_columns_are_refused_by_name(change: dict, error: type, words: str) -> None:
    columns = {"respondent": WHO, "item": ITEM, "grade": GRADE, **change}
    with pytest.raises(error, match=words):
        Responses.from_columns("f", **columns)


def test_one_item_answered_once_is_refused() -> None:
    with pytest.raises(TooFewItemsError, match="add an item"):
        Responses.from_matrix("f", [[1], [2], [3]], items=["x"])


def test_respondents_without_an_answer_are_left_out_and_named() -> None:
    responses = Responses.from_matrix(
        "f", [[1, 2], [np.nan, np.nan], [2, 1]], items=["x", "y"], groups=[4, 5, 6]
    )
    assert responses.respondents == ("0", "2")
    assert responses.groups.tolist() == [4, 6]
    assert "1 respondents without an answer left out: 1" in responses.notes


def test_a_matrix_without_a_column_per_item_is_refused() -> None:
    with pytest.raises(ShapeError, match="2 items are named"):
        Responses.from_matrix("f", [[1, 2, 3]], items=["x", "y"])


def test_equal_items_and_single_answers_are_noted() -> None:
    responses = Responses.from_matrix("f", [[1, 1], [2, 2], [3, 3], [3, 3]], items=["x", "y"])
    assert "items x and y have equal answers: discriminations are overstated" in responses.notes
    assert "item x: category 1 was used once" in responses.notes


def test_regrouping_wants_one_group_per_respondent() -> None:
    responses = Responses.from_columns("f", WHO, ITEM, GRADE)
    assert responses.regrouped([3, 4]).groups.tolist() == [3, 4]
    assert responses.regrouped(["west", "east"]).groups.tolist() == [1, 0]
    with pytest.raises(ShapeError, match="2 respondents"):
        responses.regrouped([1])


def test_a_matrix_is_counted_as_its_long_columns_are() -> None:
    rng = np.random.default_rng(3)
    table = rng.integers(1, 6, (60, 4)).astype(float)
    table[rng.random((60, 4)) < 0.2] = np.nan
    table[7] = np.nan
    items = ["d", "a", "c", "b"]
    rows, columns = np.nonzero(~np.isnan(table))
    names = np.array([f"{row:02d}" for row in range(60)])
    groups = rng.integers(0, 3, 60)
    wide = Responses.from_matrix("f", table, items=items, reversed_items=["a"], groups=groups)
    long = Responses.from_columns(
        "f",
        names[rows],
        np.array(items)[columns],
        table[rows, columns],
        items=items,
        reversed_items=["a"],
        groups=dict(zip(names.tolist(), groups.tolist(), strict=True)),
    )
    assert wide.respondents == long.respondents
    assert wide.categories == long.categories
    np.testing.assert_array_equal(wide.counts, long.counts)
    np.testing.assert_array_equal(wide.groups, long.groups)
    assert wide.notes == (*long.notes, "1 respondents without an answer left out: 07")


def test_equal_rows_are_found_also_where_hashes_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers(0, 2, (200, 3, 2))
    found = distinct.distinct_rows(rows)

    class Colliding:
        def integers(self, *_: object) -> np.ndarray:
            return np.zeros(6, np.uint64)

    monkeypatch.setattr(np.random, "default_rng", lambda _: Colliding())
    for by in (found, distinct.distinct_rows(rows)):
        np.testing.assert_array_equal(rows[by.first][by.kind], rows)
        assert by.first.size == len(np.unique(rows.reshape(200, -1), axis=0))
        assert by.often.sum() == 200
