"""Whether a calibration agrees with the promoted one, on a common scale. NumPy only."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from calibration.artefact import GrmArtefact, ItemRecord, SummaryRecord


@dataclass(frozen=True, slots=True)
class Stability:
    """Differences between two versions of a family.

    The scale of each is that of its own respondents; ``theta_new = scale * theta_old + shift``.

    Attributes:
        scale: Ratio of the units.
        shift: Difference of the origins.
        largest: Largest difference of a parameter, in pooled standard errors.
        parameter: Which one.
        limit: What the largest of so many exceeds by chance once in 100 times, at most.
        n_parameters: Parameters compared.
        moved: Items with a parameter beyond the limit, the furthest first.
        not_compared: Items that one version lacks or that have other categories there.
    """

    scale: float
    shift: float
    largest: float
    parameter: str
    limit: float
    n_parameters: int
    moved: tuple[str, ...]
    not_compared: tuple[str, ...]


def compare_versions(new: "GrmArtefact", promoted: "GrmArtefact") -> Stability:
    """Link two versions by their common items and compare them.

    Without a common item there is nothing to compare: ``n_parameters`` is 0.

    Linked by medians, so that an item that drifted does not move the others: of the log ratios of
    discriminations, then of the differences of thresholds (mean-mean linking, Loyd & Hoover
    1980, with medians). The limit is Bonferroni's at 0.01.
    """
    before = {item.item: item for item in promoted.items}
    pairs = [
        (item, before[item.item])
        for item in new.items
        if item.item in before and item.categories == before[item.item].categories
    ]
    compared = {now.item for now, _ in pairs}
    apart = tuple(sorted({item.item for item in (*new.items, *promoted.items)} - compared))
    if not pairs:
        return Stability(1.0, 0.0, 0.0, "none", 0.0, 0, (), apart)
    ratios = [now.discrimination.mean / old.discrimination.mean for now, old in pairs]
    scale = float(1.0 / np.median(ratios))
    shift = float(
        np.median(
            [
                b.mean - scale * was.mean
                for now, old in pairs
                for b, was in zip(now.thresholds, old.thresholds, strict=True)
            ]
        )
    )
    differences = sorted(
        (found for pair in pairs for found in _differences(*pair, scale, shift)), reverse=True
    )
    limit = NormalDist().inv_cdf(1 - 0.005 / len(differences))
    beyond = (move.item for move in differences if move.size > limit)
    return Stability(
        scale=scale,
        shift=shift,
        largest=differences[0].size,
        parameter=f"{differences[0].parameter} of item {differences[0].item}",
        limit=limit,
        n_parameters=len(differences),
        moved=tuple(dict.fromkeys(beyond)),
        not_compared=apart,
    )


class _Move(NamedTuple):
    size: float
    parameter: str
    item: str


def _differences(now: "ItemRecord", old: "ItemRecord", scale: float, shift: float) -> list[_Move]:
    a = _standardised(now.discrimination, old.discrimination, 1.0 / scale, 0.0)
    thresholds = zip(now.thresholds, old.thresholds, strict=True)
    return [
        _Move(a, "the discrimination", now.item),
        *(
            _Move(_standardised(b, was, scale, shift), f"threshold {k}", now.item)
            for k, (b, was) in enumerate(thresholds, start=1)
        ),
    ]


def _standardised(new: "SummaryRecord", old: "SummaryRecord", factor: float, shift: float) -> float:
    error = max(float(np.hypot(new.sd, factor * old.sd)), 1e-12)
    return abs(new.mean - factor * old.mean - shift) / error
