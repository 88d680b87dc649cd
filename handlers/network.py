"""``IterationCompleted`` -> finds the network over the iteration's families -> ``NetworkEnded``."""

import asyncio
import json
from dataclasses import asdict
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from calibration.errors import CalibrationError
from calibration.network import Network, learn_network
from events.catalogue import IterationCompleted, NetworkEnded
from events.model import Parameters
from handlers.digests import sha256, short
from infra.once import Step
from infra.outcome import Ack, Outcome, Retry
from infra.ports import Claim, Ports, Receipt
from schemas.tables import SCORES

FEWEST_FAMILIES = 2
RESAMPLINGS = 100


async def find_network(
    event: IterationCompleted,
    claim: Claim,  # noqa: ARG001 - every handler is called alike
    ports: Ports,
) -> Outcome:
    """Keep the network of the families that were calibrated, promoted or held."""
    record = await ports.ledger.saga("iteration", event.subject)
    if record is None:
        return Retry(f"iteration {event.iteration} has no saga in the ledger yet")
    seed = Parameters.model_validate(record.state["parameters"]).seed
    families = tuple(sorted((*event.promoted, *event.held)))
    if len(families) < FEWEST_FAMILIES:
        return _without(event, f"{len(families)} family was calibrated: a network needs two")
    where = {"namespace": event.namespace, "iteration": event.iteration}
    scores = await ports.warehouse.read(SCORES, where=where)
    try:
        document = await asyncio.to_thread(network_json, families, scores, seed)
    except CalibrationError as error:
        return _without(event, str(error))
    digest = sha256(document)
    key = f"{event.subject}/network/{short(digest)}/network.json"
    uri = (await ports.objects.put_once(key, document)).uri
    ended = NetworkEnded(iteration=event.iteration, network_uri=uri, reason=None)
    return Ack(Receipt(digest=digest, uris={"network": uri}), [ended])


def network_json(
    families: tuple[str, ...], scores: pa.Table, seed: int, *, resamplings: int = RESAMPLINGS
) -> bytes:
    """``network.json`` from rows of the table ``scores``; equal rows give equal bytes.

    Raises:
        CalibrationError: Too many families, or too few respondents with a score in each.
    """
    respondents, mean, sd = common_scores(families, scores)
    found = learn_network(families, mean, sd, seed=seed, resamplings=resamplings)
    return _document(found, len(respondents), seed, resamplings)


def common_scores(
    families: tuple[str, ...], scores: pa.Table
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Respondents with a score in every family; their scores' means and sds, a column a family."""
    parts = [
        scores.filter(pc.equal(scores["family"], name)).sort_by("persona") for name in families
    ]
    who = [part["persona"].to_numpy() for part in parts]
    common = reduce(np.intersect1d, who)
    rows = [np.searchsorted(own, common) for own in who]
    mean, sd = (
        np.stack([part[name].to_numpy()[at] for part, at in zip(parts, rows, strict=True)], 1)
        for name in ("mean", "sd")
    )
    return common, mean, sd


def _document(found: Network, n_respondents: int, seed: int, resamplings: int) -> bytes:
    said = {
        "schema_version": 1,
        **asdict(found),
        "strength": found.strength.tolist(),
        "n_respondents": n_respondents,
        "resamplings": resamplings,
        "seed": seed,
    }
    return (json.dumps(said, indent=1, allow_nan=False, default=float) + "\n").encode()


def _without(event: IterationCompleted, reason: str) -> Ack:
    ended = NetworkEnded(iteration=event.iteration, network_uri=None, reason=reason)
    return Ack(Receipt(digest=sha256(reason.encode()), details={"reason": reason}), [ended])


def network_lost(event: IterationCompleted, reason: str) -> NetworkEnded:
    """The report is drawn all the same."""
    return NetworkEnded(iteration=event.iteration, network_uri=None, reason=reason)


NETWORK = Step(
    handler="network",
    consumes=(IterationCompleted,),
    emits=(NetworkEnded,),
    run=find_network,
    lost=network_lost,
    workers=1,
)
