"""Every event of the system, in the order of the flow."""

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from events.model import (
    AskedPriors,
    AskedStructure,
    Corpus,
    Digest,
    Evaluator,
    Event,
    Family,
    FamilyEvent,
    FitFigures,
    GateNumber,
    GateVerdict,
    Method,
    Name,
    Parameters,
    Sampler,
    Seed,
    ShardEvent,
    Uri,
    gate_subject,
)


class IterationStarted(Event):
    """A producer asked for a calibration run."""

    type: ClassVar[str] = "nexus.iteration.started.v1"
    parameters: Parameters


class ShardRequested(ShardEvent):
    """The saga asks for the talks ``first_talk <= talk < end_talk`` to be graded."""

    type: ClassVar[str] = "nexus.shard.requested.v1"
    first_talk: Annotated[int, Field(ge=0)]
    end_talk: Annotated[int, Field(ge=1)]
    corpus: Corpus
    families: tuple[Family, ...]
    evaluator: Evaluator


class ShardSubmitted(ShardEvent):
    """The shard's requests are written and its batch job exists."""

    type: ClassVar[str] = "nexus.shard.submitted.v1"
    job: str
    requests_uri: Uri
    n_requests: Annotated[int, Field(ge=1)]
    families: tuple[Family, ...]


class BatchPollRequested(ShardEvent):
    """A durable timer: look at the batch job again."""

    type: ClassVar[str] = "nexus.batch.poll.requested.v1"
    poll: Annotated[int, Field(ge=1)]
    submitted: ShardSubmitted

    @property
    def identity(self) -> str:
        """Each look at the job is an event of its own."""
        return f"{self.subject}/poll/{self.poll}"


class BatchCompleted(ShardEvent):
    """The batch job ended well; its rows wait to be merged."""

    type: ClassVar[str] = "nexus.batch.completed.v1"
    job: str
    requests_uri: Uri
    output_uri: Uri
    n_requests: Annotated[int, Field(ge=1)]
    families: tuple[Family, ...]


class ShardMerged(ShardEvent):
    """The shard's grades are in the warehouse, each once."""

    type: ClassVar[str] = "nexus.shard.merged.v1"
    rows: Annotated[int, Field(ge=0)]
    digest: Digest


class ShardFailed(ShardEvent):
    """A step of the shard ended for good without its effect."""

    type: ClassVar[str] = "nexus.shard.failed.v1"
    step: Name
    reason: str


class TrainingRequested(FamilyEvent):
    """The saga asks for one family to be calibrated on all merged shards."""

    type: ClassVar[str] = "nexus.training.requested.v1"
    scale: Family
    corpus: Corpus
    evaluator: Evaluator
    method: Method
    structure: AskedStructure = "unidimensional"
    priors: AskedPriors = "default"
    sampler: Sampler
    seed: Seed


class FamilyCalibrated(FamilyEvent):
    """A fit exists, with its metrics merged and its gates judged."""

    type: ClassVar[str] = "nexus.family.calibrated.v1"
    grm_uri: Uri
    draws_uri: Uri | None
    digest: Digest
    figures: FitFigures
    gates: tuple[GateVerdict, ...]


class FamilyPromoted(FamilyEvent):
    """Every gate that holds let the fit pass: it is the family's current calibration."""

    type: ClassVar[str] = "nexus.family.promoted.v1"
    grm_uri: Uri


class FamilyHeld(FamilyEvent):
    """At least one gate holds the fit back."""

    type: ClassVar[str] = "nexus.family.held.v1"
    reason: str


class FamilyFailed(FamilyEvent):
    """The family could not be fitted at all."""

    type: ClassVar[str] = "nexus.family.failed.v1"
    step: Name
    reason: str


class GateWaived(FamilyEvent):
    """An operator lets a family pass a gate that it failed."""

    type: ClassVar[str] = "nexus.gate.waived.v1"
    number: GateNumber
    gate: str
    reason: Annotated[str, Field(min_length=1, max_length=1000)]
    waived_by: Annotated[str, Field(min_length=1, max_length=200)]
    waived_at: AwareDatetime

    @property
    def subject(self) -> str:
        """The gate of the family: each is waived once."""
        return gate_subject(self.iteration, self.family, self.number)


class IterationCompleted(Event):
    """Every step has ended; ``partial`` where some shard or family failed."""

    type: ClassVar[str] = "nexus.iteration.completed.v1"
    status: Literal["completed", "partial"]
    promoted: tuple[Name, ...]
    held: tuple[Name, ...]
    failed: tuple[Name, ...]


class NetworkEnded(Event):
    """The network over the iteration's families is kept, or there is none, with the reason."""

    type: ClassVar[str] = "nexus.network.ended.v1"
    network_uri: Uri | None
    reason: str | None


class IterationAmended(FamilyEvent):
    """After the end of its iteration, a waiver let a held family be promoted."""

    type: ClassVar[str] = "nexus.iteration.amended.v1"


class IterationFailed(Event):
    """The iteration ended without a calibrated family."""

    type: ClassVar[str] = "nexus.iteration.failed.v1"
    reason: str


EVENTS: tuple[type[Event], ...] = (
    IterationStarted,
    ShardRequested,
    ShardSubmitted,
    BatchPollRequested,
    BatchCompleted,
    ShardMerged,
    ShardFailed,
    TrainingRequested,
    FamilyCalibrated,
    FamilyPromoted,
    FamilyHeld,
    FamilyFailed,
    GateWaived,
    IterationCompleted,
    NetworkEnded,
    IterationAmended,
    IterationFailed,
)

BY_TYPE: dict[str, type[Event]] = {event.type: event for event in EVENTS}
