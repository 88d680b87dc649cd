"""What the report of an iteration is made of: plain frozen values, cheap to import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from events.model import FitFigures, GateVerdict, Namespace, Parameters, namespace_of
from infra.ports import StepRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IterationStatus = Literal["completed", "partial", "failed"]
FamilyStatus = Literal["promoted", "held", "failed"]
Truth = Mapping[str, tuple[float, tuple[float, ...]]]


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """How many shards were asked for, and what came of them."""

    requested: int
    merged: int
    failed: int


@dataclass(frozen=True, slots=True, eq=False)
class FamilyReport:
    """One family: what came of it, and its fit where there is one.

    Attributes:
        family: Its name.
        status: What came of it.
        reason: Why it is held or failed, in words; None where it was promoted.
        grm: The parsed ``grm.json``; None where the family was never fitted.
        figures: What the fit says of itself; taken from ``grm``'s diagnostics where None.
        gates: Every gate's word.
        invariance: Rows with level, log_likelihood, n_parameters, aic, bic, delta_bic, holds.
        discrimination: Draws of a, shape (chains, draws, items); None without sampling.
        thresholds: Draws of b, shape (chains, draws, items, cuts), NaN beyond an item's own.
        correlation: Draws of the traits' correlations, shape (chains, draws, traits, traits);
            None where there is one trait.
        truth: Item to (a, (b, ...)), for simulated data.
        notes: What a reader should know of the responses, one line each.
        checks: The parsed ``checks.json``: what the gates looked at; None where there is none.
        scores: Respondents' expected a posteriori scores and their posterior standard deviations,
            each of shape (respondents,); None where they were not kept. Of correlated traits, the
            composite's.
        trait_scores: The same by trait, of correlated ones.
        true_correlations: Of each two traits, for simulated data.
        waivers: Gates that an operator waived: number, gate, reason, waived_by, waived_at.

    Raises:
        ValueError: The draws don't fit the items of ``grm``.
    """

    family: str
    status: FamilyStatus
    reason: str | None = None
    grm: Mapping[str, Any] | None = None
    figures: FitFigures | None = None
    gates: tuple[GateVerdict, ...] = ()
    invariance: tuple[Mapping[str, Any], ...] = ()
    discrimination: "NDArray[np.floating[Any]] | None" = None
    thresholds: "NDArray[np.floating[Any]] | None" = None
    correlation: "NDArray[np.floating[Any]] | None" = None
    truth: Truth | None = None
    notes: tuple[str, ...] = ()
    checks: Mapping[str, Any] | None = None
    scores: "tuple[NDArray[np.float64], NDArray[np.float64]] | None" = None
    trait_scores: "Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]" = field(
        default_factory=dict
    )
    true_correlations: Mapping[tuple[str, str], float] = field(default_factory=dict)
    waivers: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        items = () if self.grm is None else self.grm.get("items", ())
        traits = () if self.grm is None else self.grm.get("traits", ())
        cuts = max((len(item.get("thresholds", ())) for item in items), default=0)
        for name, draws, expected in (
            ("discrimination", self.discrimination, (len(items),)),
            ("thresholds", self.thresholds, (len(items), cuts)),
            ("correlation", self.correlation, (len(traits), len(traits))),
        ):
            if draws is not None and draws.shape[2:] != expected:
                raise ValueError(
                    f"{name} of family {self.family!r} has shape {draws.shape}, but its grm asks "
                    f"for (chains, draws, {', '.join(map(str, expected))}): give the draws of "
                    "the same fit"
                )


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """One iteration, from its parameters to its last receipt.

    Attributes:
        iteration: Its number.
        status: What came of it.
        parameters: Everything that decided what it computed.
        families: In the order in which they are shown.
        timeline: The ledger's steps of the iteration, in any order.
        command: The command line that computes the same again.
        reason: Why it failed or is partial, in words.
        started_at: When it was asked for; the timeline's first moment where None.
        ended_at: When it ended; the timeline's last moment where None.
        shards: What came of the shards; unknown where None.
        rows_merged: Grades in the warehouse; unknown where None.
        trace_id: The OpenTelemetry trace, as 32 hexadecimal digits.
        versions: Package to version, of what computed it.
        network: The parsed ``network.json``; a text says why there is none, None where it was not
            looked for.
    """

    iteration: int
    status: IterationStatus
    parameters: Parameters
    families: tuple[FamilyReport, ...]
    timeline: tuple[StepRecord, ...]
    command: str
    reason: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    shards: ShardCounts | None = None
    rows_merged: int | None = None
    trace_id: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    network: Mapping[str, Any] | str | None = None

    @property
    def namespace(self) -> Namespace:
        """The namespace that the iteration belongs to."""
        return namespace_of(self.iteration)
