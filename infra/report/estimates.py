"""The parameters of a fit in one flat list, and what may be said of them as a whole."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.report.data import FamilyReport, Truth
from infra.report.words import finite, subscript

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One parameter; ``cut`` is None for a discrimination, else a threshold's number from 1.

    ``traits`` are the places of the two traits that it correlates, of a correlation.
    """

    item: str
    index: int
    cut: int | None
    between: str
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    r_hat: float | None
    ess_bulk: float | None
    ess_tail: float | None
    mcse: float | None
    traits: tuple[int, int] | None = None

    @property
    def symbol(self) -> str:
        """``a``, ``b`` with its number, or ``r``."""
        if self.traits is not None:
            return "r"
        return "a" if self.cut is None else f"b{subscript(self.cut)}"

    @property
    def ess(self) -> float | None:
        """The smaller effective sample size."""
        known = [value for value in (self.ess_bulk, self.ess_tail) if value is not None]
        return min(known, default=None)


@dataclass(frozen=True, slots=True)
class Item:
    """One item with its estimates; ``trait`` where there are several."""

    item: str
    index: int
    trait: str | None
    categories: tuple[str, ...]
    discrimination: Estimate
    thresholds: tuple[Estimate, ...]

    @property
    def point(self) -> tuple[float, Array] | None:
        """The means of a and of every b; None where one is missing."""
        a, cuts = self.discrimination.mean, [cut.mean for cut in self.thresholds]
        known = [cut for cut in cuts if cut is not None]
        if a is None or not known or len(known) < len(cuts):
            return None
        return a, np.array(known)


@dataclass(frozen=True, slots=True)
class Pair:
    """A parameter's truth beside its estimate."""

    estimate: Estimate
    mean: float
    truth: float

    @property
    def covered(self) -> bool:
        """Whether the interval holds the truth."""
        low, high = self.estimate.low, self.estimate.high
        return low is not None and high is not None and low <= self.truth <= high


@dataclass(frozen=True, slots=True)
class Recovery:
    """How near the estimates of one kind of parameter are to the truth."""

    kind: str
    pairs: tuple[Pair, ...]

    @property
    def errors(self) -> Array:
        """Estimate minus truth."""
        return np.array([pair.mean - pair.truth for pair in self.pairs])

    @property
    def rmse(self) -> float:
        """Root of the mean squared error."""
        return float(np.sqrt(np.mean(self.errors**2)))

    @property
    def bias(self) -> float:
        """Mean error."""
        return float(np.mean(self.errors))

    @property
    def covered(self) -> int:
        """How many intervals hold the truth."""
        return sum(pair.covered for pair in self.pairs)


def items_of(grm: Mapping[str, Any] | None) -> tuple[Item, ...]:
    """The items of a ``grm.json``, none without one."""
    found = () if grm is None else grm.get("items", ())
    return tuple(_item(index, entry) for index, entry in enumerate(found))


def population_of(grm: Mapping[str, Any] | None) -> tuple[Estimate, ...]:
    """What is known of the items as a population; nothing for maximum likelihood."""
    found = ({} if grm is None else grm.get("population")) or {}
    return tuple(
        _estimate(name.replace("_", " "), index, None, "", summary)
        for index, (name, summary) in enumerate(found.items())
    )


def correlations_of(grm: Mapping[str, Any] | None) -> tuple[Estimate, ...]:
    """The correlation of each two traits; none where there is one."""
    found = {} if grm is None else grm
    traits = list(found.get("traits", ()))
    return tuple(
        replace(
            _estimate(f"{pair['first']} · {pair['second']}", n, None, "", pair["correlation"]),
            traits=(traits.index(pair["first"]), traits.index(pair["second"])),
        )
        for n, pair in enumerate(found.get("correlations", ()))
    )


def by_trait(items: Sequence[Item]) -> dict[str, tuple[Item, ...]]:
    """The items of each trait, by its name; nothing where there is one for all."""
    names = dict.fromkeys(item.trait for item in items if item.trait is not None)
    return {name: tuple(item for item in items if item.trait == name) for name in names}


def estimates_of(items: Sequence[Item]) -> tuple[Estimate, ...]:
    """Every parameter, item by item, the discrimination first."""
    return tuple(row for item in items for row in (item.discrimination, *item.thresholds))


def worst(estimates: Sequence[Estimate], limit: int = 4) -> tuple[Estimate, ...]:
    """Half the greatest R-hats, then the least effective sample sizes, each parameter once."""
    by_r_hat = sorted(
        (row for row in estimates if row.r_hat is not None), key=lambda row: -(row.r_hat or 0)
    )
    by_ess = sorted((row for row in estimates if row.ess is not None), key=lambda row: row.ess or 0)
    chosen = list(by_r_hat[: (limit + 1) // 2])
    rest = (row for row in (*by_ess, *by_r_hat, *estimates) if row not in chosen)
    return (*chosen, *dict.fromkeys(rest))[:limit]


def draws_of(family: FamilyReport, row: Estimate) -> Array | None:
    """The draws of one parameter, shape (chains, draws); None where they were not kept."""
    match row.cut:
        case None if row.traits is not None:
            if family.correlation is None:
                return None
            draws = family.correlation[:, :, *row.traits]
        case None if family.discrimination is not None:
            draws = family.discrimination[:, :, row.index]
        case int(cut) if family.thresholds is not None:
            draws = family.thresholds[:, :, row.index, cut - 1]
        case _:
            return None
    usable = draws.size > 0 and bool(np.isfinite(draws).all())
    return np.asarray(draws, np.float64) if usable else None


def recovery(items: Sequence[Item], truth: Truth | None) -> tuple[Recovery, ...]:
    """Truth against estimate, discriminations and thresholds apart; kinds without a pair left out.

    The thresholds of an item count only where it has as many as the truth has: with a category
    that nobody used, the numbers of the cuts no longer match.
    """
    pairs = tuple(_pairs(items, truth or {}))
    kinds = (
        Recovery("discriminations", tuple(pair for pair in pairs if pair.estimate.cut is None)),
        Recovery("thresholds", tuple(pair for pair in pairs if pair.estimate.cut is not None)),
    )
    return tuple(kind for kind in kinds if kind.pairs)


def _pairs(items: Sequence[Item], truth: Truth) -> Iterator[Pair]:
    for item in items:
        if item.item not in truth:
            continue
        a, cuts = truth[item.item]
        matched = item.thresholds if len(cuts) == len(item.thresholds) else ()
        rows = (item.discrimination, *matched)
        for row, value in zip(rows, (a, *cuts), strict=False):
            if row.mean is not None:
                yield Pair(row, row.mean, value)


def _item(index: int, entry: Mapping[str, Any]) -> Item:
    name = str(entry.get("item", f"item {index + 1}"))
    cuts = entry.get("thresholds", ())
    categories = tuple(map(str, entry.get("categories", range(len(cuts) + 1))))
    steps = [*pairwise(categories)] + [("", "")] * len(cuts)
    return Item(
        item=name,
        index=index,
        trait=entry.get("trait"),
        categories=categories,
        discrimination=_estimate(name, index, None, "", entry.get("discrimination")),
        thresholds=tuple(
            _estimate(name, index, k + 1, " | ".join(filter(None, steps[k])), cut)
            for k, cut in enumerate(cuts)
        ),
    )


def _estimate(
    item: str, index: int, cut: int | None, between: str, summary: Mapping[str, Any] | None
) -> Estimate:
    found = summary or {}
    low, high = found.get("hdi95") or (None, None)
    return Estimate(
        item=item,
        index=index,
        cut=cut,
        between=between,
        mean=finite(found.get("mean")),
        sd=finite(found.get("sd")),
        low=finite(low),
        high=finite(high),
        r_hat=finite(found.get("r_hat")),
        ess_bulk=finite(found.get("ess_bulk")),
        ess_tail=finite(found.get("ess_tail")),
        mcse=finite(found.get("mcse")),
    )
