"""The base of every event, and the parts that events are made of."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Iteration = Annotated[int, Field(ge=0, le=999_999, description="The number of a calibration run.")]
ShardIndex = Annotated[int, Field(ge=0, le=99_999)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$")]
Uri = Annotated[str, Field(min_length=1, max_length=2048)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
GateNumber = Annotated[int, Field(ge=1, le=99)]
Namespace = Literal["smoke", "production"]
Method = Literal["nuts", "mml"]
Structure = Literal["unidimensional", "correlated"]
Priors = Literal["default", "weak"]

FIRST_PRODUCTION_ITERATION = 10


def namespace_of(iteration: int) -> Namespace:
    """The namespace of an iteration: 0-9 are smoke runs, 10 and up production."""
    return "smoke" if iteration < FIRST_PRODUCTION_ITERATION else "production"


def iteration_subject(iteration: int) -> str:
    """The name of an iteration in every store: its namespace and number."""
    return f"{namespace_of(iteration)}/{iteration}"


def shard_subject(iteration: int, shard_index: int) -> str:
    """The name of a shard in every store."""
    return f"{iteration_subject(iteration)}/shard/{shard_index}"


def family_subject(iteration: int, family: str) -> str:
    """The name of a family's calibration in every store."""
    return f"{iteration_subject(iteration)}/family/{family}"


def gate_subject(iteration: int, family: str, number: int) -> str:
    """The name of a gate of a family's calibration."""
    return f"{family_subject(iteration, family)}/gate/{number}"


class Frozen(BaseModel):
    """A value: no field can be set, none can be added."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Event(Frozen):
    """A fact in the past tense, or a request named ``...Requested``.

    A subclass states its CloudEvents type; its topic follows from it:
    ``nexus.shard.requested.v1`` travels on ``shard-requested``.
    """

    type: ClassVar[str]
    iteration: Iteration

    @classmethod
    def topic(cls) -> str:
        """The topic that carries this event, without the deployment's prefix."""
        found = re.fullmatch(r"nexus\.([a-z.]+)\.v(\d+)", cls.type)
        if found is None:
            raise ValueError(f"{cls.__name__}.type is {cls.type!r}: nexus.<subject>.<verb>.v<n>")
        return found[1].replace(".", "-")

    @property
    def namespace(self) -> Namespace:
        """The namespace that the event's iteration belongs to."""
        return namespace_of(self.iteration)

    @property
    def subject(self) -> str:
        """What the event is about (CloudEvents ``subject``); claims are made on subjects."""
        return iteration_subject(self.iteration)

    @property
    def identity(self) -> str:
        """What tells this event from others of its type with the same cause."""
        return self.subject


class ShardEvent(Event):
    """An event about one shard."""

    shard_index: ShardIndex

    @property
    def subject(self) -> str:
        """The shard."""
        return shard_subject(self.iteration, self.shard_index)


class Family(Frozen):
    """The constructs (or items) that are calibrated together."""

    family: Name
    items: Annotated[tuple[Name, ...], Field(min_length=1)]
    reversed: tuple[Name, ...] = ()
    # Left out where empty, so that events, states and digests of before traits had names stand.
    traits: Annotated[
        tuple[Name, ...],
        Field(
            description="Each item's trait, where traits are correlated; empty: one each.",
            exclude_if=lambda traits: not traits,
        ),
    ] = ()

    @model_validator(mode="after")
    def _reversed_are_items(self) -> "Family":
        unknown = sorted(set(self.reversed) - set(self.items))
        if unknown:
            raise ValueError(f"reversed names {unknown[0]!r}, which is not an item of the family")
        if len(set(self.items)) < len(self.items):
            raise ValueError("an item is named twice")
        return self

    @model_validator(mode="after")
    def _a_trait_for_each_item(self) -> "Family":
        if self.traits and len(self.traits) != len(self.items):
            raise ValueError(
                f"{len(self.traits)} traits for {len(self.items)} items: name each item's trait, "
                "or none"
            )
        return self

    @property
    def trait_of_item(self) -> dict[str, str]:
        """The trait that each item belongs to where traits are correlated."""
        return dict(zip(self.items, self.traits or self.items, strict=True))


class FamilyEvent(Event):
    """An event about one family's calibration."""

    family: Name

    @property
    def subject(self) -> str:
        """The family's calibration."""
        return family_subject(self.iteration, self.family)


class Corpus(Frozen):
    """Who speaks how often: the talks of an iteration are personas x sessions."""

    personas: Annotated[int, Field(ge=1, le=1_000_000)]
    sessions: Annotated[int, Field(ge=1, le=10_000)] = 1
    turns: Annotated[int, Field(ge=1, le=10_000)] = 1

    @property
    def talks(self) -> int:
        """How many talks the shards share among them."""
        return self.personas * self.sessions


class Sampler(Frozen):
    """What NUTS is asked for; draws and warm-up per chain.

    Without ``draws`` or ``target_accept`` the calibration takes what the shape of the data needs.
    """

    chains: Annotated[int, Field(ge=2, le=16)] = 4
    warmup: Annotated[int, Field(ge=50, le=100_000)] = 300
    draws: Annotated[int, Field(ge=50, le=100_000)] | None = None
    target_accept: Annotated[float, Field(ge=0.5, lt=1.0)] | None = None


class SimulatorEvaluator(Frozen):
    """Grades from the local simulator, whose truth follows from its seed."""

    kind: Literal["simulator"] = "simulator"
    seed: Seed
    categories: Annotated[int, Field(ge=2, le=20)] = 5
    traits: Annotated[
        Literal["shared", "by_family", "by_construct"],
        Field(
            description="One trait for all; one per family; or a part of each construct's own too.",
            exclude_if=lambda traits: traits == "shared",
        ),
    ] = "shared"


class ResponsesEvaluator(Frozen):
    """Grades from a file of real responses: respondent i is row i of the object."""

    kind: Literal["responses"] = "responses"
    uri: Uri
    digest: Digest
    groups: Annotated[
        str | None, Field(max_length=200, description="The column that says who is in which group.")
    ] = None


Evaluator = Annotated[SimulatorEvaluator | ResponsesEvaluator, Field(discriminator="kind")]


_UNIDIMENSIONAL: Structure = "unidimensional"
# Left out where it is the default, so that what was asked for before there was a choice stands.
AskedStructure = Annotated[
    Structure,
    Field(
        description="One trait for all items of a family, or several that correlate.",
        exclude_if=lambda structure: structure == _UNIDIMENSIONAL,
    ),
]


_DEFAULT: Priors = "default"
AskedPriors = Annotated[
    Priors,
    Field(
        description="Of the items: how much discriminations are drawn together; weak: less.",
        exclude_if=lambda priors: priors == _DEFAULT,
    ),
]


class Parameters(Frozen):
    """Everything that decides what an iteration computes: equal parameters, equal receipts."""

    profile: Name
    corpus: Corpus
    shards: Annotated[int, Field(ge=1, le=100_000)]
    families: Annotated[tuple[Family, ...], Field(min_length=1)]
    evaluator: Evaluator
    sampler: Sampler = Sampler()
    method: Method = "nuts"
    structure: AskedStructure = _UNIDIMENSIONAL
    priors: AskedPriors = _DEFAULT
    seed: Seed = 0

    @model_validator(mode="after")
    def _no_empty_shard(self) -> "Parameters":
        if self.shards > self.corpus.talks:
            raise ValueError(
                f"shards is {self.shards}, but there are only {self.corpus.talks} talks to share: "
                "ask for fewer shards or more sessions",
            )
        names = [family.family for family in self.families]
        if len(set(names)) < len(names):
            raise ValueError(f"families names one twice: {', '.join(names)}")
        return self


class GateVerdict(Frozen):
    """One gate's word on a fit."""

    number: GateNumber
    name: str
    value: float | None
    threshold: Annotated[str, Field(description="What must hold of the value, in words.")]
    passed: bool
    holds: Annotated[bool, Field(description="Whether a failure holds the family back.")] = True
    judged: Annotated[bool, Field(description="False: nothing to judge by, so it passes.")] = True
    reason: str


class FitFigures(Frozen):
    """What a fit says of itself, over every parameter."""

    method: Method
    r_hat_max: float | None
    ess_bulk_min: float | None
    ess_tail_min: float | None
    divergences: Annotated[int, Field(ge=0)]
    sampling_seconds: Annotated[float, Field(ge=0)]
    compile_seconds: Annotated[float, Field(ge=0)] | None = None
    checks_seconds: Annotated[float, Field(ge=0)] | None = None
    n_respondents: Annotated[int, Field(ge=1)]
    n_responses: Annotated[int, Field(ge=1)]
