"""The producer: starts an iteration once, or finds that it was started."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from events.catalogue import IterationStarted
from events.cloudevents import derived_id
from events.model import (
    Parameters,
    ResponsesEvaluator,
    SimulatorEvaluator,
    iteration_subject,
)
from handlers.digests import sha256, short
from infra.errors import ParametersError, ResponsesError
from infra.outbox import outgoing, publish
from infra.ports import Cause, Claim, ClaimKey, Completed, Held, Ports, Receipt
from infra.profiles import RealResponses, Wanted, parameters_for
from infra.telemetry import span

if TYPE_CHECKING:
    from infra.ports import Objects


@dataclass(frozen=True, slots=True)
class Request:
    """An iteration as it is asked for, checked; ``csv`` are the responses to run on, if any."""

    iteration: int
    parameters: Parameters
    csv: bytes | None = None

    @property
    def digest(self) -> str:
        """What the parameters come to, wherever the responses lie."""
        known = self.parameters.model_dump_json(exclude={"evaluator": {"uri"}})
        return sha256(known.encode())

    @property
    def known_as(self) -> frozenset[str]:
        """The digests under which it may have been registered.

        All the simulator's families shared one trait once: what was started so goes on so.
        """
        evaluator = self.parameters.evaluator
        if not isinstance(evaluator, SimulatorEvaluator):
            return frozenset({self.digest})
        shared = evaluator.model_copy(update={"traits": "shared"})
        parameters = self.parameters.model_copy(update={"evaluator": shared})
        return frozenset({self.digest, Request(self.iteration, parameters).digest})


def request_for(
    iteration: int,
    profile: str,
    objects: "Objects",
    *,
    responses: Path | None = None,
    scales: Path | None = None,
    groups: str | None = None,
    **wanted: Unpack[Wanted],
) -> Request:
    """Check what is asked for; nothing is written.

    Raises:
        ParametersError: The profile does not exist or does not fit the iteration; the structure
            does not fit the data, or the priors the method.
        ResponsesError: A file can't be read, or a cell, column or scale can't be used.
    """
    if responses is None:
        if scales is not None:
            raise ResponsesError(f"--scales {scales} needs --responses: it groups its columns")
        if groups is not None:
            raise ResponsesError(f"--groups {groups} needs --responses: it names a column of it")
        return Request(iteration, parameters_for(iteration, profile, **wanted))
    csv = _bytes(responses)
    families = _bytes(scales) if scales else None
    real = _real_responses(csv, families, responses, objects, groups)
    return Request(iteration, parameters_for(iteration, profile, responses=real, **wanted), csv)


def _real_responses(
    csv: bytes, scales: bytes | None, source: Path, objects: "Objects", groups: str | None
) -> RealResponses:
    from infra.responses import read_responses  # noqa: PLC0415 - loads NumPy

    file = read_responses(csv, scales=scales, source=source.name, groups=groups)
    digest = sha256(csv)
    uri = objects.uri(responses_key(digest))
    evaluator = ResponsesEvaluator(uri=uri, digest=digest, groups=groups)
    return RealResponses(file.respondents, file.families, evaluator)


def responses_key(digest: str) -> str:
    """Where responses are kept."""
    return f"responses/{short(digest)}.csv"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ResponsesError(f"{path} can't be read: {error.strerror}") from None


async def start_iteration(request: Request, ports: Ports) -> bool:
    """Start the iteration; False when it was started before with the same parameters.

    An iteration that is under way is told again that it has started, which heals what a lost
    bus has forgotten, and changes nothing else.

    Raises:
        ParametersError: It was started with other parameters.
    """
    key = ClaimKey(iteration_subject(request.iteration), "start")
    event = IterationStarted(iteration=request.iteration, parameters=request.parameters)
    with span(f"start iteration {request.iteration}", kind="producer"):
        leaving = outgoing(event, cause=str(key), source="producer", ports=ports)
    traceparent = leaving.attributes.get("traceparent")
    cause = Cause(derived_id("producer", event), event.type, ports.clock(), traceparent)
    match await take(key, cause, ports):
        case Completed() as before:
            refuse_other_parameters(request, before.receipt)
            await publish(before.outgoing, ports)
            return False
        case Claim() as taken:
            if request.csv is not None:
                await ports.objects.put_once(responses_key(sha256(request.csv)), request.csv)
            receipt = Receipt(digest=request.digest)
            await ports.ledger.complete(taken, receipt, [leaving], now=ports.clock())
            await publish([leaving], ports)
            return True


async def take(key: ClaimKey, cause: Cause, ports: Ports) -> Claim | Completed:
    """The claim; while another producer holds it, wait: it is done soon, or its lease runs out."""
    while True:
        now = ports.clock()
        lease_seconds = ports.retrying.lease_seconds
        taken = await ports.ledger.claim(
            key, cause=cause, owner=ports.owner, now=now, lease_seconds=lease_seconds
        )
        if not isinstance(taken, Held):
            return taken
        await ports.sleep(ports.poll_seconds)


def refuse_other_parameters(request: Request, receipt: Receipt) -> None:
    """Raises ParametersError when the iteration was started with other parameters."""
    if receipt.digest not in request.known_as:
        raise ParametersError(
            f"iteration {request.iteration} exists with other parameters "
            f"({short(receipt.digest)}, asked for {short(request.digest)}): "
            "use another number, or the same profile, responses, scales, groups, method, "
            "structure, priors and seed"
        )
