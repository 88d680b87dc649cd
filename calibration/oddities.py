"""What is odd about responses that are no error: a line each, for the reader of the results."""

import numpy as np
from numpy.typing import NDArray

from calibration.distinct import distinct_rows

_SAME_ANSWERS = 20  # so many equal ordered answers are hardly chance
_FEW = 0.05


def oddities(
    items: tuple[str, ...],
    categories: tuple[tuple[int, ...], ...],
    counts: NDArray[np.int64],
    respondents: NDArray[np.str_],
) -> tuple[str, ...]:
    """Notes on respondents at an end, twice there, or repeated; on items against the rest.

    Args:
        items: Names, shape (n_items,).
        categories: Of each item.
        counts: Shape (n_respondents, n_items, n_categories_max).
        respondents: Names, shape (n_respondents,).
    """
    return (
        *_at_an_end(categories, counts, respondents),
        *_answered_again(items, counts, respondents),
        *_equal_respondents(counts, respondents),
        *_against_the_rest(items, counts),
        *_two_items(items, counts),
    )


def first_names(names: NDArray[np.str_]) -> str:
    """The first five names."""
    return ", ".join(names[:5].tolist()) + (", ..." if names.size > 5 else "")


def _at_an_end(
    categories: tuple[tuple[int, ...], ...],
    counts: NDArray[np.int64],
    respondents: NDArray[np.str_],
) -> list[str]:
    total = counts.sum((1, 2))
    last = np.array([len(observed) - 1 for observed in categories])
    highest = counts[:, np.arange(last.size), last].sum(1)
    ends = (("lowest", counts[:, :, 0].sum(1)), ("highest", highest))
    return [
        f"{rows.size} respondents gave the {end} category each time, so how far out they are is "
        f"the prior's word: {first_names(respondents[rows])}"
        for end, at_end in ends
        for rows in (np.flatnonzero((at_end == total) & (total > 1)),)
        if rows.size
    ]


def _answered_again(
    items: tuple[str, ...], counts: NDArray[np.int64], respondents: NDArray[np.str_]
) -> list[str]:
    answers = counts.sum(2)
    again = np.argwhere(answers > 1)
    if not 0 < len(again) <= _FEW * (answers > 0).sum():
        return []
    i, j = again[0]
    note = (
        f"respondent {respondents[i]} answered item {items[j]} {answers[i, j]} times and "
        f"{len(again) - 1} more did so, where the others answered once: are rows there twice?"
    )
    return [note]


def _equal_respondents(counts: NDArray[np.int64], respondents: NDArray[np.str_]) -> list[str]:
    rows = np.flatnonzero(counts.sum((1, 2)) >= _SAME_ANSWERS)
    if rows.size < 2:
        return []
    found = distinct_rows(counts[rows])
    equal = rows[found.often[found.kind] > 1]
    if not equal.size:
        return []
    shown = first_names(respondents[equal])
    return [f"{equal.size} respondents have all answers equal to another's: {shown}: is one twice?"]


def _against_the_rest(items: tuple[str, ...], counts: NDArray[np.int64]) -> list[str]:
    if len(items) < 3:
        return []
    answers = counts.sum(2)
    mean = counts @ np.arange(counts.shape[2]) / np.maximum(answers, 1)
    centred = np.where(answers > 0, mean - mean.sum(0) / np.maximum((answers > 0).sum(0), 1), 0.0)
    rest = centred.sum(1, keepdims=True) - centred
    size = np.sqrt((centred**2).sum(0) * (rest**2).sum(0))
    r = (centred * rest).sum(0) / np.maximum(size, 1e-12)
    # Below what chance makes of no correlation at all.
    limit = -2.0 / np.sqrt(len(counts))
    return [
        f"item {item}: correlates {value:.2f} with the others: is it keyed the other way?"
        for item, value in zip(items, r, strict=True)
        if value < limit
    ]


def _two_items(items: tuple[str, ...], counts: NDArray[np.int64]) -> list[str]:
    if len(items) != 2 or counts.sum(2).max() > 1:
        return []
    both = " and ".join(items)
    return [f"items {both}: one correlation, so only the prior tells their discriminations apart"]
