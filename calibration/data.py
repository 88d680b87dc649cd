"""Ordered responses: checked, recoded, and counted per respondent, item and category."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.errors import (
    ConstantItemError,
    InvalidGradeError,
    ShapeError,
    TooFewItemsError,
    TooFewRespondentsError,
    UnknownItemError,
)
from calibration.oddities import first_names, oddities

_Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Responses:
    """One family's responses.

    Attributes:
        family: Name of the trait.
        items: Names of the items.
        categories: Observed ordered categories of each item, at least two each.
        counts: How often respondent i answered item j in its k-th category, int64, shape
            (n_respondents, n_items, n_categories_max). 0 and 1 for a survey; all zero = missing.
        respondents: Names of the respondents.
        groups: Group of each respondent, 0 and up, shape (n_respondents,).
        notes: What a reader of the results should know about the data, one line each.
    """

    family: str
    items: tuple[str, ...]
    categories: tuple[tuple[int, ...], ...]
    counts: NDArray[np.int64]
    respondents: tuple[str, ...]
    groups: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @property
    def n_respondents(self) -> int:
        """Respondents with at least one answer."""
        return len(self.respondents)

    @property
    def n_responses(self) -> int:
        """Answers, all respondents and items together."""
        return int(self.counts.sum())

    @classmethod
    def from_columns(
        cls,
        family: str,
        respondent: ArrayLike,
        item: ArrayLike,
        grade: ArrayLike,
        *,
        count: ArrayLike | None = None,
        items: Sequence[str] | None = None,
        reversed_items: Sequence[str] = (),
        scale: tuple[int, int] | None = None,
        groups: Mapping[str, int] | None = None,
    ) -> "Responses":
        """Count long columns, one row per answer (or per respondent, item and grade with a count).

        Args:
            family: Name of the trait.
            respondent: Names of respondents, shape (n,).
            item: Names of items, shape (n,).
            grade: Whole numbers, shape (n,); a missing answer has no row.
            count: How often each row was seen, shape (n,); 1 without it.
            items: The items to keep, in this order; all, sorted by name, without it.
            reversed_items: Items keyed the other way: recoded as min + max - grade.
            scale: The lowest and highest grade that could be given, which recoding turns
                around; the family's lowest and highest seen grade without it.
            groups: Group of each respondent; group 0 for one that is not in it.

        Raises:
            CalibrationError: One of its kinds, naming the item or respondent and the value.
        """
        grades = _whole_grades(np.asarray(respondent), np.asarray(item), np.asarray(grade))
        weights = _weights(count, grades.size)
        person_names, persons = np.unique(np.asarray(respondent).astype(str), return_inverse=True)
        names = np.asarray(item).astype(str)
        order = tuple(items) if items is not None else tuple(np.unique(names).tolist())
        _refuse_unknown(reversed_items, order, "reversed_items")
        _refuse_duplicates(order)
        kept = np.isin(names, order)
        _refuse_lone(family, person_names[np.unique(persons[kept & (weights > 0)])])
        low, high = scale or _seen_range(grades[kept])
        columns = {
            name: (persons[rows], _keyed(grades[rows], low + high, name in reversed_items), rows)
            for name in order
            for rows in (np.flatnonzero(names == name),)
        }
        categories = tuple(
            _categories(name, values, weights[rows]) for name, (_, values, rows) in columns.items()
        )
        counts = np.zeros(
            (person_names.size, len(order), max(map(len, categories), default=0)), np.int64
        )
        for j, (who, values, rows) in enumerate(columns.values()):
            np.add.at(counts[:, j], (who, np.searchsorted(categories[j], values)), weights[rows])
        by_name = groups or {}
        labels = np.array([by_name.get(name, 0) for name in person_names.tolist()], np.int64)
        return _checked(family, order, categories, counts, person_names, labels)

    @classmethod
    def from_matrix(
        cls,
        family: str,
        grades: ArrayLike,
        *,
        items: Sequence[str],
        reversed_items: Sequence[str] = (),
        scale: tuple[int, int] | None = None,
        groups: ArrayLike | None = None,
    ) -> "Responses":
        """Count a survey, one row per respondent and one column per item; NaN = missing.

        Respondents are named by their row, from 0. See `from_columns` for the arguments.

        Raises:
            CalibrationError: One of its kinds, naming the item or respondent and the value.
        """
        table = np.asarray(grades, float)
        if table.ndim != 2 or table.shape[1] != len(items):
            raise ShapeError(
                f"{family}: grades have shape {table.shape}, but {len(items)} items are named: "
                "give one column per item"
            )
        width = len(str(table.shape[0]))
        labels = np.array([f"{row:0{width}d}" for row in range(table.shape[0])])
        if groups is not None and np.shape(groups) != labels.shape:
            raise ShapeError(
                f"{family}: {labels.size} rows but groups of shape {np.shape(groups)}: "
                "give one group per row"
            )
        _refuse_unknown(reversed_items, items, "reversed_items")
        _refuse_duplicates(items)
        given = ~np.isnan(table)
        _refuse_fractions(table, given, items, labels)
        answered = given.any(1)
        _refuse_lone(family, labels[answered])
        low, high = scale or _seen_range(table[given])
        turned = np.isin(np.asarray(items), np.asarray(reversed_items, str))
        keyed = np.where(turned, low + high - table, table)
        seen = [np.unique(keyed[given[:, j], j]) for j in range(len(items))]
        categories = tuple(map(_named_categories, items, seen))
        counts = np.zeros((*table.shape, max(map(len, categories), default=0)), np.int64)
        for j, values in enumerate(seen):
            rows = np.flatnonzero(given[:, j])
            counts[rows, j, np.searchsorted(values, keyed[rows, j])] = 1
        by_row = np.zeros(labels.size) if groups is None else groups
        return _checked(
            family, tuple(items), categories, counts, labels, np.asarray(by_row, np.int64)
        )

    def regrouped(self, groups: ArrayLike) -> "Responses":
        """The same responses with other groups.

        Args:
            groups: Whole numbers, or labels such as a column of a survey holds (numbered in
                sorted order), shape (n_respondents,).

        Raises:
            ShapeError: Not one group per respondent.
        """
        labels = np.asarray(groups)
        if labels.dtype.kind not in "iub":
            labels = np.unique(labels.astype(str), return_inverse=True)[1].reshape(labels.shape)
        labels = labels.astype(np.int64)
        if labels.shape != (self.n_respondents,):
            raise ShapeError(
                f"{self.family}: {self.n_respondents} respondents but groups of shape "
                f"{labels.shape}: give one group per respondent"
            )
        return Responses(
            self.family,
            self.items,
            self.categories,
            self.counts,
            self.respondents,
            labels,
            self.notes,
        )

    def chosen(self, respondents: ArrayLike) -> "Responses":
        """The same items of some respondents.

        Args:
            respondents: Which to keep, bool, shape (n_respondents,).
        """
        kept = np.asarray(respondents, bool)
        return replace(
            self,
            counts=self.counts[kept],
            respondents=tuple(np.array(self.respondents)[kept].tolist()),
            groups=self.groups[kept],
        )

    def of_items(self, kept: ArrayLike, family: str) -> "Responses":
        """Some items of all respondents, such as one trait's, under a name of their own.

        Args:
            kept: Which to keep, bool, shape (n_items,).
            family: The name.
        """
        own = np.flatnonzero(kept)
        categories = tuple(self.categories[j] for j in own)
        return replace(
            self,
            family=family,
            items=tuple(self.items[j] for j in own),
            categories=categories,
            counts=self.counts[:, own, : max(map(len, categories))],
        )


def _whole_grades(respondent: _Column, item: _Column, grade: _Column) -> NDArray[np.int64]:
    if not (respondent.shape == item.shape == grade.shape) or grade.ndim != 1:
        raise ShapeError(
            f"respondent, item and grade have shapes {respondent.shape}, {item.shape} and "
            f"{grade.shape}: give three columns of one length"
        )
    try:
        numbers = grade.astype(float)
    except (TypeError, ValueError) as error:
        raise InvalidGradeError(f"grades are not numbers ({error}): give whole numbers") from error
    bad = np.flatnonzero(~np.isfinite(numbers) | (numbers != np.round(numbers)))
    if bad.size:
        row = int(bad[0])
        raise _fraction(item[row], respondent[row], grade[row])
    return numbers.astype(np.int64)


def _refuse_fractions(
    table: NDArray[np.float64],
    given: NDArray[np.bool_],
    items: Sequence[str],
    respondents: NDArray[np.str_],
) -> None:
    bad = np.argwhere(given & (~np.isfinite(table) | (table != np.round(table))))
    if bad.size:
        row, column = bad[0]
        raise _fraction(items[column], respondents[row], table[row, column])


def _fraction(item: object, respondent: object, grade: object) -> InvalidGradeError:
    return InvalidGradeError(
        f"item {item}, respondent {respondent}: grade {grade} is not a whole number: leave the "
        "row out where the answer is missing"
    )


def _weights(count: ArrayLike | None, size: int) -> NDArray[np.int64]:
    if count is None:
        return np.ones(size, np.int64)
    weights = np.asarray(count)
    if weights.shape != (size,):
        raise ShapeError(f"count has shape {weights.shape}: give one per row, {size}")
    if not np.issubdtype(weights.dtype, np.integer) or weights.min(initial=0) < 0:
        raise InvalidGradeError(
            f"count holds {weights.min(initial=0)} as {weights.dtype}: give whole numbers from 0 up"
        )
    return weights.astype(np.int64)


def _seen_range(grades: NDArray[Any]) -> tuple[int, int]:
    return (int(grades.min()), int(grades.max())) if grades.size else (0, 0)


def _refuse_unknown(named: Sequence[str], known: Sequence[str], argument: str) -> None:
    unknown = [name for name in named if name not in known]
    if unknown:
        raise UnknownItemError(
            f"{argument} names {', '.join(unknown)}, the items are {', '.join(known)}: correct it"
        )


def _refuse_lone(family: str, respondents: NDArray[np.str_]) -> None:
    if respondents.size == 1:
        raise TooFewRespondentsError(
            f"{family}: only respondent {respondents[0]} has an answer: at least 2 are needed"
        )


def _refuse_duplicates(items: Sequence[str]) -> None:
    twice = {name for name in items if items.count(name) > 1}
    if twice:
        raise UnknownItemError(f"items names {', '.join(sorted(twice))} twice: name each once")


def _keyed(grades: NDArray[np.int64], span: int, turned: bool) -> NDArray[np.int64]:
    turned_round: NDArray[np.int64] = span - grades
    return turned_round if turned else grades


def _categories(
    item: str, grades: NDArray[np.int64], weights: NDArray[np.int64]
) -> tuple[int, ...]:
    return _named_categories(item, np.unique(grades[weights > 0]))


def _named_categories(item: str, seen: NDArray[Any]) -> tuple[int, ...]:
    match seen.size:
        case 0:
            raise UnknownItemError(f"item {item} has no answer at all: leave it out of the family")
        case 1:
            raise ConstantItemError(
                f"item {item}: every answer is {int(seen[0])}, so it tells nobody apart: leave it "
                "out of the family"
            )
        case _:
            return tuple(int(value) for value in seen)


def _checked(
    family: str,
    items: tuple[str, ...],
    categories: tuple[tuple[int, ...], ...],
    counts: NDArray[np.int64],
    names: NDArray[np.str_],
    groups: NDArray[np.int64],
) -> Responses:
    answered = counts.sum((1, 2)) > 0
    if answered.sum() < 2:
        raise TooFewRespondentsError(
            f"{family}: {int(answered.sum())} respondents with an answer: at least 2 are needed"
        )
    if len(items) == 1 and counts.sum((1, 2)).max() <= 1:
        raise TooFewItemsError(
            f"{family}: one item ({items[0]}) answered once by each respondent: add an item"
        )
    notes = (
        *_notes(items, categories, counts[answered]),
        *oddities(items, categories, counts[answered], names[answered]),
    )
    if not answered.all():
        notes = (*notes, _silent_note(names[~answered]))
    return Responses(
        family,
        items,
        categories,
        counts[answered],
        tuple(names[answered].tolist()),
        groups[answered],
        notes,
    )


def _silent_note(names: NDArray[np.str_]) -> str:
    return f"{names.size} respondents without an answer left out: {first_names(names)}"


def _notes(
    items: tuple[str, ...], categories: tuple[tuple[int, ...], ...], counts: NDArray[np.int64]
) -> tuple[str, ...]:
    used = counts.sum(0)
    lines: list[str] = []
    for j, (item, observed) in enumerate(zip(items, categories, strict=True)):
        unused = sorted(set(range(observed[0], observed[-1] + 1)) - set(observed))
        lines += [f"item {item}: category {value} was never used" for value in unused]
        lines += [
            f"item {item}: category {observed[k]} was used once"
            for k in np.flatnonzero(used[j, : len(observed)] == 1)
        ]
    lines += [
        f"items {items[i]} and {items[j]} have equal answers: discriminations are overstated"
        for i in range(len(items))
        for j in range(i + 1, len(items))
        if np.array_equal(used[i], used[j]) and np.array_equal(counts[:, i], counts[:, j])
    ]
    return tuple(lines)
