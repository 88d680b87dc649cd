"""Whether a calibration agrees with the promoted one, on a common scale. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from calibration.artefact import GrmArtefact, ItemRecord, SummaryRecord


@dataclass(frozen=True, slots=True)
class Link:
    """``theta_new = scale * theta_old + shift`` of one of several traits."""

    trait: str
    scale: float
    shift: float


@dataclass(frozen=True, slots=True)
class Stability:
    """Differences between two versions of a family.

    The scale of each is that of its own respondents; ``theta_new = scale * theta_old + shift``.

    Attributes:
        scale: Ratio of the units; None with correlated traits, see ``links``.
        shift: Difference of the origins; likewise.
        largest: Largest difference of a parameter, in pooled standard errors.
        parameter: Which one.
        limit: What the largest of so many exceeds by chance once in 100 times, at most.
        n_parameters: Parameters compared.
        moved: Items with a parameter beyond the limit, the furthest first.
        not_compared: Items that one version lacks, or that have other categories or another
            trait there.
        links: Of each of several traits with an item to compare.
    """

    scale: float | None
    shift: float | None
    largest: float
    parameter: str
    limit: float
    n_parameters: int
    moved: tuple[str, ...]
    not_compared: tuple[str, ...]
    links: tuple[Link, ...] = ()


_Pair: TypeAlias = "tuple[ItemRecord, ItemRecord]"


def compare_versions(new: "GrmArtefact", promoted: "GrmArtefact") -> Stability:
    """Link two versions by their common items and compare them.

    Without a common item there is nothing to compare: ``n_parameters`` is 0.

    Linked by medians, so that an item that drifted does not move the others: of the log ratios of
    discriminations, then of the differences of thresholds (mean-mean linking, Loyd & Hoover
    1980, with medians). The limit is Bonferroni's at 0.01.

    Correlated traits are linked each by its own items. Correlations have no unit: they are
    compared as they are.
    """
    before = {item.item: item for item in promoted.items}
    pairs = [(item, before[item.item]) for item in new.items if _same(item, before.get(item.item))]
    compared = {now.item for now, _ in pairs}
    apart = tuple(sorted({item.item for item in (*new.items, *promoted.items)} - compared))
    if not pairs:
        return Stability(1.0, 0.0, 0.0, "none", 0.0, 0, (), apart)
    by_trait: dict[str | None, list[_Pair]] = {}
    for pair in pairs:
        by_trait.setdefault(pair[0].trait, []).append(pair)
    links = {trait: _link(own) for trait, own in by_trait.items()}
    found = [move for pair in pairs for move in _differences(*pair, *links[pair[0].trait])]
    differences = sorted((*found, *_of_correlations(new, promoted)), reverse=True)
    limit = NormalDist().inv_cdf(1 - 0.005 / len(differences))
    beyond = (move.item for move in differences if move.size > limit and move.item)
    scale, shift = links.get(None, (None, None))
    return Stability(
        scale=scale,
        shift=shift,
        largest=differences[0].size,
        parameter=differences[0].parameter,
        limit=limit,
        n_parameters=len(differences),
        moved=tuple(dict.fromkeys(beyond)),
        not_compared=apart,
        links=tuple(Link(trait, *link) for trait, link in links.items() if trait is not None),
    )


class _Move(NamedTuple):
    size: float
    parameter: str
    item: str


def _same(now: "ItemRecord", old: "ItemRecord | None") -> bool:
    return old is not None and (now.categories, now.trait) == (old.categories, old.trait)


def _link(pairs: Sequence[_Pair]) -> tuple[float, float]:
    """Scale and shift of the pairs' trait."""
    ratios = [now.discrimination.mean / old.discrimination.mean for now, old in pairs]
    scale = float(1.0 / np.median(ratios))
    shifts = [
        b.mean - scale * was.mean
        for now, old in pairs
        for b, was in zip(now.thresholds, old.thresholds, strict=True)
    ]
    return scale, float(np.median(shifts))


def _differences(now: "ItemRecord", old: "ItemRecord", scale: float, shift: float) -> list[_Move]:
    a = _standardised(now.discrimination, old.discrimination, 1.0 / scale, 0.0)
    thresholds = zip(now.thresholds, old.thresholds, strict=True)
    return [
        _Move(a, f"the discrimination of item {now.item}", now.item),
        *(
            _Move(
                _standardised(b, was, scale, shift), f"threshold {k} of item {now.item}", now.item
            )
            for k, (b, was) in enumerate(thresholds, start=1)
        ),
    ]


def _of_correlations(new: "GrmArtefact", promoted: "GrmArtefact") -> list[_Move]:
    before = {frozenset((one.first, one.second)): one.correlation for one in promoted.correlations}
    return [
        _Move(
            _standardised(now.correlation, before[pair], 1.0, 0.0),
            f"the correlation of {now.first} and {now.second}",
            "",
        )
        for now in new.correlations
        if (pair := frozenset((now.first, now.second))) in before
    ]


def _standardised(new: "SummaryRecord", old: "SummaryRecord", factor: float, shift: float) -> float:
    error = max(float(np.hypot(new.sd, factor * old.sd)), 1e-12)
    return abs(new.mean - factor * old.mean - shift) / error
