"""What handlers and sagas may ask of the world; each port has a folder of adapters beside this."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from events.model import Evaluator, Family, Method, Priors, Sampler, Structure
    from schemas.spec import TableSpec


# --- ledger --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimKey:
    """What is done once: a step of a subject, such as ``smoke/0/shard/3`` and ``merge``."""

    subject: str
    step: str

    def __str__(self) -> str:
        return f"{self.subject}/{self.step}"


@dataclass(frozen=True, slots=True)
class Cause:
    """The event that asked for a step: its id, type, time, and W3C trace context."""

    id: str
    type: str
    time: datetime
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event on its way out, as it will travel: wire form, and when it is due.

    ``id`` is derived from its cause, so that the same event saved twice is one row.
    """

    id: str
    topic: str
    data: bytes
    attributes: Mapping[str, str]
    due: datetime
    ordering_key: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an effect leaves behind; the same for every redelivery."""

    digest: str
    counts: Mapping[str, int] = field(default_factory=dict)
    uris: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """A fenced lease: only the holder of the newest token may complete the step."""

    key: ClaimKey
    token: int
    attempt: int
    owner: str
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else is at it until the lease ends."""

    key: ClaimKey
    owner: str
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Completed:
    """The step is done; its receipt and its events are kept."""

    key: ClaimKey
    receipt: Receipt
    outgoing: tuple[Outgoing, ...]


class StepStatus(StrEnum):
    """Where a step stands in the ledger."""

    CLAIMED = "claimed"
    RELEASED = "released"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A row of the timeline: what ran when, what it waited for, what came of it."""

    key: ClaimKey
    status: StepStatus
    owner: str
    attempt: int
    cause: Cause
    claimed_at: datetime
    ended_at: datetime | None
    receipt: Receipt | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class SagaRecord:
    """A saga's saved state; ``version`` counts the events it has seen."""

    saga: str
    key: str
    version: int
    state: Mapping[str, Any]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SagaStep:
    """One line of a saga's history: the event it saw and what it decided."""

    version: int
    event_id: str
    event_type: str
    at: datetime
    event: Mapping[str, Any]
    decision: Mapping[str, Any]


class Ledger(Protocol):
    """Claims, receipts, outbox, timers and saga states, each call one transaction.

    Every method takes the time from its caller. Concurrent use by tasks, processes and hosts
    is safe. After ``close`` no call may be made; calls under way are finished first.
    """

    async def open(self) -> None:
        """Create what is missing. Raises ServiceUnavailableError."""

    async def close(self) -> None:
        """Finish what is under way, then let go of files and connections."""

    async def claim(
        self, key: ClaimKey, *, cause: Cause, owner: str, now: datetime, lease_seconds: float
    ) -> Claim | Held | Completed:
        """Take the lease on a step if it is free, released, failed or run out.

        A step that is completed stays so. Each new lease carries a greater token and counts an
        attempt; the first claim's cause is kept.
        """

    async def renew(self, claim: Claim, *, now: datetime, lease_seconds: float) -> Claim:
        """Lengthen a lease. Raises StaleClaimError when the token was overtaken or closed."""

    async def complete(
        self, claim: Claim, receipt: Receipt, outgoing: Sequence[Outgoing], *, now: datetime
    ) -> None:
        """Save receipt and outgoing events and close the claim, all or nothing.

        Raises StaleClaimError when the token was overtaken, and saves nothing then.
        """

    async def release(
        self,
        claim: Claim,
        *,
        now: datetime,
        reason: str,
        failed: bool = False,
        outgoing: Sequence[Outgoing] = (),
    ) -> None:
        """Give a lease back undone, so that the next delivery may take it at once.

        ``failed`` marks the end of its tries; its outgoing events are saved in the same
        transaction. Raises StaleClaimError.
        """

    async def step(self, key: ClaimKey) -> StepRecord | None:
        """One step's record."""

    async def steps(self, subject_prefix: str) -> tuple[StepRecord, ...]:
        """All steps of the subject and of those below it (``prefix/...``), by claim time."""

    async def take_due(
        self, *, now: datetime, owner: str, lease_seconds: float, limit: int
    ) -> tuple[Outgoing, ...]:
        """Lease outgoing events that are due, unpublished, and leased to nobody, oldest first."""

    async def published(self, ids: Sequence[str], *, now: datetime) -> None:
        """Mark outgoing events as published; unknown or marked ids are no error."""

    async def unpublished(self, subject_prefix: str) -> int:
        """How many outgoing events of these subjects are not published yet, due or not."""

    async def saga(self, saga: str, key: str) -> SagaRecord | None:
        """A saga's state."""

    async def sagas(self, saga: str | None = None) -> tuple[SagaRecord, ...]:
        """All sagas, by last update, the newest first."""

    async def saga_history(self, saga: str, key: str) -> tuple[SagaStep, ...]:
        """What the saga saw and decided, oldest first."""

    async def advance_saga(
        self,
        saga: str,
        key: str,
        *,
        expected_version: int,
        state: Mapping[str, Any],
        step: SagaStep,
        subject: str,
        outgoing: Sequence[Outgoing],
        now: datetime,
    ) -> bool:
        """Save state, history and outgoing events together.

        False, with nothing saved, when the version has moved on. An event id that the saga has
        seen is refused with ValueError: ask ``saga_saw`` first.
        """

    async def saga_saw(self, saga: str, key: str, event_id: str) -> tuple[Outgoing, ...] | None:
        """All events of an earlier handling of this event, published or not; None if it is new.

        Timers are among them, each with the time that it is due.
        """


# --- warehouse -----------------------------------------------------------------------------

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a MERGE changed."""

    source_rows: int
    inserted: int
    updated: int


class Warehouse(Protocol):
    """Tables that are written by keyed MERGE only."""

    async def open(self, tables: Sequence["TableSpec"]) -> None:
        """Create the tables that are missing. Raises ServiceUnavailableError."""

    async def close(self) -> None:
        """Finish what is under way, then let go."""

    async def merge(
        self, table: "TableSpec", rows: "pa.Table", *, claim: str, constants: Mapping[str, Scalar]
    ) -> MergeResult:
        """Stage the rows in a table named by the claim, MERGE them by the declared key.

        ``constants`` are key columns with one value in all rows; they narrow the scan of the
        target. The same rows merged again change nothing that a reader can see.

        Raises:
            DuplicateKeyError: two source rows share a key; nothing is merged.
            SchemaMismatchError: a column is missing, unknown, null where required, of another
                type, or differs from its constant; nothing is merged.
            TransientError: worth another try.
        """

    async def read(
        self, table: "TableSpec", *, where: Mapping[str, Scalar], columns: Sequence[str] = ()
    ) -> "pa.Table":
        """The rows whose columns equal ``where``, in key order; all columns unless named."""

    async def count(
        self, table: "TableSpec", *, where: Mapping[str, Scalar], by: Sequence[str]
    ) -> "pa.Table":
        """Rows counted in SQL by the given columns, in their order; the count is ``n`` (int64)."""


# --- objects -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that exists: ``created`` is false when it did before."""

    uri: str
    digest: str
    created: bool


class Objects(Protocol):
    """Write-once objects under one root (a folder or a bucket)."""

    async def put_once(self, key: str, data: bytes) -> Stored:
        """Write an object if it is not there.

        Raises TerminalError when one is there with other content: nothing is overwritten.
        """

    async def get(self, uri: str) -> bytes:
        """Read an object of this root. Raises TerminalError when it does not exist."""

    async def list(self, prefix: str) -> tuple[str, ...]:
        """The URIs below a prefix, sorted."""

    def uri(self, key: str) -> str:
        """The URI that a key has."""


# --- batch ---------------------------------------------------------------------------------


class JobState(StrEnum):
    """A batch job's state, as Vertex AI's batch prediction names them."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    PARTIALLY_SUCCEEDED = "PARTIALLY_SUCCEEDED"


@dataclass(frozen=True, slots=True)
class Job:
    """A batch job; ``output_uri`` once it succeeded."""

    name: str
    display_name: str
    state: JobState
    output_uri: str | None = None
    error: str | None = None


class BatchService(Protocol):
    """Turns a file of requests into a file of grades, in its own time."""

    async def find(self, display_name: str) -> Job | None:
        """The job of that display name, if one was created."""

    async def create(self, *, display_name: str, requests_uri: str, evaluator: "Evaluator") -> Job:
        """Create a job; the caller has looked with ``find`` first."""

    async def get(self, name: str) -> Job:
        """The job's state now. Raises TerminalError when there is no such job."""

    async def close(self) -> None:
        """Stop what runs in this process; a later ``get`` takes it up again."""


# --- training ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One family to fit.

    Attributes:
        family: Its items.
        counts: Columns respondent, item, grade, n.
        sampler: How NUTS is run.
        method: ``nuts`` or ``mml``.
        seed: Of the chains and of every check.
        structure: ``unidimensional``, or ``correlated`` for the traits that the family names.
        priors: Of the items, ``default`` or ``weak``.
        groups: Group of respondent i at place i, None where unknown; None for two random halves.
        promoted: ``grm.json`` of the version to be stable against; a text says why there is none.
        traceparent: The trace that the fit belongs to.
    """

    family: "Family"
    counts: "pa.Table"
    sampler: "Sampler"
    method: "Method"
    seed: int
    structure: "Structure" = "unidimensional"
    priors: "Priors" = "default"
    groups: tuple[str | None, ...] | None = None
    promoted: bytes | str = "no version was promoted before"
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Training:
    """What a fit yields, as stored: documents and rows, no arrays of draws in memory.

    ``checks_json`` holds what the gates from 7 on looked at, for the report; ``inference_nc`` all
    draws as ArviZ reads them (netCDF); ``scores`` has the columns respondent, mean, sd. Of
    correlated traits, ``scores`` is of the family's composite, ``trait_scores`` has the columns
    trait, respondent, mean, sd, and ``correlations`` a row for each two traits.
    """

    grm_json: bytes
    draws_npz: bytes | None
    inference_nc: bytes | None
    checks_json: bytes
    figures: Mapping[str, Any]
    gates: tuple[Mapping[str, Any], ...]
    metrics: tuple[Mapping[str, Any], ...]
    invariance: tuple[Mapping[str, Any], ...]
    item_checks: tuple[Mapping[str, Any], ...]
    models: tuple[Mapping[str, Any], ...]
    scores: "pa.Table"
    trait_scores: "pa.Table | None" = None
    correlations: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a fit is: ``done`` of ``total`` iterations over all chains."""

    family: str
    phase: str
    done: int
    total: int


class Trainer(Protocol):
    """Fits one family without blocking the event loop."""

    async def train(
        self, job: TrainingJob, progress: Callable[[TrainingProgress], None] | None = None
    ) -> Training:
        """Fit. Cancelling the call ends the fit.

        Raises TerminalError when the responses can't be calibrated (the text names the item or
        respondent), TransientError when the training process died.
        """

    async def close(self) -> None:
        """End the training processes."""


# --- mail ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mail:
    """A plain-text message; ``message_id`` is derived from what it is about."""

    message_id: str
    subject: str
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Mailer(Protocol):
    """Sends mail to the operators that the settings name."""

    async def send(self, mail: Mail) -> None:
        """Deliver one message. Raises TransientError when it may be tried again."""


# --- bus -----------------------------------------------------------------------------------


class Publisher(Protocol):
    """Puts outgoing events on the bus."""

    async def publish(self, outgoing: Sequence[Outgoing]) -> tuple[str, ...]:
        """Publish all; the ids of those that the server has confirmed.

        The others may be tried again: one that is refused holds none of its neighbours up.
        """


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that no handler could take, with the reason."""

    subscription: str
    message_id: str
    reason: str
    attributes: Mapping[str, str]
    data: bytes
    publish_time: datetime


Clock = Callable[[], datetime]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Retrying:
    """How often a step is tried, and how long its lease and its pauses are."""

    tries: int = 3
    base_seconds: float = 0.2
    cap_seconds: float = 10.0
    lease_seconds: float = 10.0
    redeliver_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Ports:
    """The world as handlers and sagas see it; every part can be replaced."""

    ledger: Ledger
    warehouse: Warehouse
    objects: Objects
    batch: BatchService
    trainer: Trainer
    mailer: Mailer
    publisher: Publisher
    clock: Clock
    sleep: Sleep
    random: Random
    owner: str
    retrying: Retrying = Retrying()
    poll_seconds: float = 0.1
    on_training: Callable[[TrainingProgress], None] | None = None
