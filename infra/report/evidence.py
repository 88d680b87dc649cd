"""What ``checks.json`` says, as the report shows it; no part of it need be there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PAIRS_SHOWN = 15


@dataclass(frozen=True, slots=True)
class Shares:
    """An item's categories: observed shares, and where 95% of the replications lie."""

    item: str
    categories: tuple[str, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def beyond(self) -> tuple[bool, ...]:
        """Whether a share lies outside its interval."""
        return tuple(
            not low <= share <= high
            for share, low, high in zip(self.observed, self.low, self.high, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Two items' residual correlation, and where 95% of the replications lie."""

    items: tuple[str, str]
    residual: float
    low: float
    high: float

    @property
    def beyond(self) -> bool:
        """Whether it lies outside its interval."""
        return not self.low <= self.residual <= self.high


@dataclass(frozen=True, slots=True)
class ItemCheck:
    """A row of the table of items; None where a check did not look at it."""

    item: str
    residual: float | None
    p_value: float | None
    coverage: float | None
    delta_bic: float | None
    difference_p_value: float | None
    invariant: bool | None
    stable: bool | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """The document, by parts; a part is empty where it was not judged."""

    document: Mapping[str, Any]

    def part(self, name: str) -> Mapping[str, Any]:
        """A part; empty where there is none."""
        found = self.document.get(name) or {}
        return {} if "not_judged" in found else found

    @property
    def groups(self) -> Sequence[Mapping[str, Any]]:
        """The groups that were compared, with their mean and sd at the highest level that holds."""
        said = self.part("invariance")
        levels = self.levels
        held = [row for row in levels if row["holds"]] or levels[:1]
        return [
            {
                **group,
                "mean": held[-1]["group_means"][n] if held and not self.by_trait else None,
                "sd": held[-1]["group_sds"][n] if held and not self.by_trait else None,
            }
            for n, group in enumerate(said.get("groups", ()))
        ]

    @property
    def by_trait(self) -> Mapping[str, Sequence[Mapping[str, Any]] | Mapping[str, str]]:
        """Each correlated trait's levels of invariance, or why it has none."""
        found: Mapping[str, Any] = self.part("invariance").get("by_trait", {})
        return found

    @property
    def level(self) -> str:
        """The highest level of invariance that holds."""
        held = [str(row["level"]) for row in self.levels if row["holds"]]
        return held[-1] if held else "configural"

    @property
    def levels(self) -> Sequence[Mapping[str, Any]]:
        """The levels of invariance, with the uncertainty of their difference."""
        found = self.part("invariance").get("levels", ())
        return found if isinstance(found, list) else ()

    @property
    def shares(self) -> tuple[Shares, ...]:
        """Category shares, by item."""
        return tuple(
            Shares(
                share["item"],
                tuple(map(str, share.get("categories", range(len(share["observed"]))))),
                *(tuple(share[name]) for name in ("observed", "low", "high")),
            )
            for share in self.part("fit").get("shares", ())
        )

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The largest residual correlations, the largest first."""
        pairs = [
            Pair((pair["items"][0], pair["items"][1]), pair["residual"], pair["low"], pair["high"])
            for pair in self.part("fit").get("pairs", ())
        ]
        return tuple(sorted(pairs, key=lambda pair: -abs(pair.residual))[:PAIRS_SHOWN])

    @property
    def odd(self) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """How many respondents are odd, and the oddest of them."""
        said = self.part("odd_respondents")
        return int(said.get("count", 0)), said.get("shown", ())

    @property
    def models(self) -> Sequence[Mapping[str, Any]]:
        """The fit's own model and simpler ones; empty where they were not compared."""
        found = self.document.get("models", ())
        return found if isinstance(found, list) else ()

    @property
    def models_reason(self) -> str | None:
        """Why no models were compared; None where they were, or nobody asked."""
        found = self.document.get("models", ())
        return found["not_judged"] if isinstance(found, Mapping) else None

    def items(self, names: Sequence[str]) -> tuple[ItemCheck, ...]:
        """A row for each item."""
        return tuple(self._items(names))

    def _items(self, names: Sequence[str]) -> Iterator[ItemCheck]:
        fit = {one["item"]: one for one in self.part("fit").get("items", ())}
        covered = dict(
            zip(names, self.part("prediction_sets").get("coverage_by_item", ()), strict=False)
        )
        invariance = {one["item"]: one for one in self.part("invariance").get("items", ())}
        stability = self.part("stability")
        known = stability.get("n_parameters", 0) > 0
        for name in names:
            apart = name in stability.get("not_compared", ())
            yield ItemCheck(
                item=name,
                residual=fit.get(name, {}).get("residual"),
                p_value=fit.get(name, {}).get("p_value"),
                coverage=covered.get(name),
                delta_bic=invariance.get(name, {}).get("delta_bic"),
                difference_p_value=invariance.get(name, {}).get("p_value"),
                invariant=invariance.get(name, {}).get("invariant"),
                stable=None if not known or apart else name not in stability["moved"],
            )
