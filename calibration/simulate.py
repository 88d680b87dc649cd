"""Grades from a known truth, each a function of its own coordinates and nothing else.

Every number is a hash of the seed and of what it belongs to (Steele, Lea & Flood 2014's
SplitMix64 finaliser), so a row is the same in whatever order, batch or process it is drawn, and
the first ten personas of a thousand are the ten personas of ten.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.errors import SettingError, UnknownItemError

_STANDARD = NormalDist()
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Factors:
    """What lies behind constructs that do not share one trait.

    A factor is the weighted sum of its parents and a part of its own, N(0, 1) in the population.
    A construct's trait is its factor. Where constructs are ``specific``, a share of the trait's
    variance between 0.4 and 0.9, which follows from the name, is the factor's, the rest its own.

    Attributes:
        of_construct: Each construct's factor.
        parents: Weights of each factor's parents, by name; acyclic. Without an entry it has none.
        specific: Whether constructs have a part of their own.
    """

    of_construct: Mapping[str, str]
    parents: Mapping[str, Mapping[str, float]]
    specific: bool = False


@dataclass(frozen=True)
class Truth:
    """What the simulator knows of the constructs that it grades.

    Attributes:
        seed: Of every number below.
        n_personas: Respondents.
        constructs: Names of the items.
        n_categories: Grades run from 1 to this.
        factors: Behind the constructs' traits; one trait for all without it.
    """

    seed: int
    n_personas: int
    constructs: tuple[str, ...]
    n_categories: int = 5
    factors: Factors | None = None

    def __post_init__(self) -> None:
        if self.n_personas < 1 or not self.constructs or not 2 <= self.n_categories <= 50:
            raise SettingError(
                f"n_personas = {self.n_personas}, {len(self.constructs)} constructs, n_categories "
                f"= {self.n_categories}: give at least 1, 1, and 2 to 50"
            )

    @cached_property
    def theta(self) -> NDArray[np.float64]:
        """The trait that all constructs share, shape (n_personas,).

        Quantiles of N(0, 1) at a randomly shifted golden-ratio sequence: any first few personas,
        and any second one of them, already spread like a standard normal.
        """
        shift = float(_uniform(self._key("theta"), np.array(0)))
        shares = (shift + np.arange(self.n_personas) * (np.sqrt(5.0) - 1) / 2) % 1.0
        return np.array([_STANDARD.inv_cdf(min(max(p, 1e-9), 1 - 1e-9)) for p in shares.tolist()])

    @cached_property
    def traits(self) -> NDArray[np.float64]:
        """The trait behind each construct, shape (n_personas, n_constructs)."""
        known = self.factors
        if known is None:
            return np.repeat(self.theta[:, None], len(self.constructs), 1)
        columns = [self._factor(known.of_construct[name])[0] for name in self.constructs]
        common = np.stack(columns, 1)
        if not known.specific:
            return common
        own = np.stack([self._normals("specific", name) for name in self.constructs], 1)
        return np.sqrt(self.common_share) * common + np.sqrt(1.0 - self.common_share) * own

    @cached_property
    def common_share(self) -> NDArray[np.float64]:
        """Share of each construct's variance that is its factor's, shape (n_constructs,)."""
        if self.factors is None or not self.factors.specific:
            return np.ones(len(self.constructs))
        keys = [self._key("common share", name) for name in self.constructs]
        return 0.4 + 0.5 * np.array([float(_uniform(key, np.array(0))) for key in keys])

    def _factor(self, name: str) -> tuple[NDArray[np.float64], Mapping[str, float]]:
        """A factor's values, and how it is made of the own parts of itself and its ancestors."""
        known = {} if self.factors is None else self.factors.parents.get(name, {})
        made: dict[str, float] = {}
        for parent, weight in known.items():
            for part, share in self._factor(parent)[1].items():
                made[part] = made.get(part, 0.0) + weight * share
        explained = sum(share**2 for share in made.values())
        if explained >= 1.0:
            raise SettingError(
                f"factor {name}: its parents explain {explained:.2f} of its variance: give "
                "smaller weights"
            )
        made[name] = float(np.sqrt(1.0 - explained))
        parts = [share * self._normals("factor", part) for part, share in made.items()]
        return np.sum(parts, 0), made

    def _normals(self, *words: str) -> NDArray[np.float64]:
        return _normal(self._key(*words), np.arange(self.n_personas))

    @cached_property
    def discrimination(self) -> NDArray[np.float64]:
        """Discriminations, log-normal around 1.5, shape (n_constructs,)."""
        z = [_normal(self._key("discrimination", name), np.array(0)) for name in self.constructs]
        return 1.5 * np.exp(0.3 * np.array(z))

    @cached_property
    def thresholds(self) -> NDArray[np.float64]:
        """Increasing thresholds, centred near 0, shape (n_constructs, n_categories - 1)."""
        n_cuts = self.n_categories - 1
        gap = 3.2 / max(n_cuts, 1)
        even = gap * (np.arange(n_cuts) - (n_cuts - 1) / 2)
        rows = [
            even
            + 0.35 * _normal(self._key("location", name), np.array(0))
            + 0.5 * gap * (_uniform(self._key("gap", name), np.arange(n_cuts)) - 0.5)
            for name in self.constructs
        ]
        return np.array(rows)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Two groups of personas, taken in turn, shape (n_personas,)."""
        return np.arange(self.n_personas, dtype=np.int64) % 2

    def _key(self, *words: str) -> np.uint64:
        return _word("|".join((str(self.seed), *words)))


def simulate_grades(
    truth: Truth,
    persona: ArrayLike,
    session: ArrayLike,
    turn: ArrayLike,
    construct: ArrayLike,
) -> NDArray[np.int64]:
    """Grades 1 to ``truth.n_categories``, in the shape that the arguments broadcast to.

    Args:
        truth: The parameters.
        persona: Indices from 0 to n_personas - 1.
        session: Any whole numbers from 0 up.
        turn: Any whole numbers from 0 up.
        construct: Names of constructs.

    Raises:
        UnknownItemError: A construct that the truth does not hold.
        SettingError: A persona that the truth does not hold.
    """
    who, when, which, names = np.broadcast_arrays(persona, session, turn, construct)
    items = _positions(truth, names)
    if who.size and not (who.min() >= 0 and who.max() < truth.n_personas):
        raise SettingError(
            f"persona {who.max() if who.min() >= 0 else who.min()}: give 0 to "
            f"{truth.n_personas - 1}"
        )
    keys = np.array([_word(f"{truth.seed}|grade|{name}") for name in truth.constructs], np.uint64)
    uniform = _uniform(_mix(_mix(_mix(keys[items], who), when), which), np.zeros_like(who))
    eta = truth.discrimination[items, None] * (
        truth.traits[who, items][..., None] - truth.thresholds[items]
    )
    at_least = 1.0 / (1.0 + np.exp(-eta))
    grades: NDArray[np.int64] = 1 + (uniform[..., None] < at_least).sum(-1)
    return grades


def _positions(truth: Truth, names: NDArray[Any]) -> NDArray[np.int64]:
    unique, inverse = np.unique(names, return_inverse=True)
    known = {name: index for index, name in enumerate(truth.constructs)}
    missing = [str(name) for name in unique if str(name) not in known]
    if missing:
        raise UnknownItemError(
            f"construct {missing[0]} is not in the truth: use {', '.join(truth.constructs)}"
        )
    return np.array([known[str(name)] for name in unique], np.int64)[inverse]


def _word(text: str) -> np.uint64:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _mix(key: ArrayLike, counter: ArrayLike) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = np.asarray(key, np.uint64) + (np.asarray(counter).astype(np.uint64) + np.uint64(1)) * (
            _GOLDEN
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def _uniform(key: ArrayLike, counter: ArrayLike) -> NDArray[np.float64]:
    """Uniform on (0, 1), never an end."""
    bits = _mix(key, counter) >> np.uint64(11)
    uniform: NDArray[np.float64] = (bits.astype(np.float64) + 0.5) * 2.0**-53
    return uniform


def _normal(key: ArrayLike, counter: ArrayLike) -> NDArray[np.float64]:
    """Standard normal by Box & Muller 1958."""
    pair = 2 * np.asarray(counter)
    radius = np.sqrt(-2.0 * np.log(_uniform(key, pair)))
    normal: NDArray[np.float64] = radius * np.cos(2.0 * np.pi * _uniform(key, pair + 1))
    return normal
