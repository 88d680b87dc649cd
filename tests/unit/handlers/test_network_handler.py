import json

import numpy as np
import pyarrow as pa
import pytest

from calibration.errors import CalibrationError
from events.catalogue import IterationCompleted, IterationStarted
from events.cloudevents import Envelope
from handlers.digests import sha256
from handlers.network import common_scores, find_network, network_json, network_lost
from infra.outcome import Retry
from infra.profiles import parameters_for
from sagas.engine import run_saga
from sagas.iteration import ITERATION
from schemas.tables import SCORES

FAMILIES = ("calm", "kind", "open")
COMPLETED = IterationCompleted(
    iteration=4, status="completed", promoted=("open", "calm"), held=("kind",), failed=()
)


def rows(n=200, *, missing=(), seed=0):
    """Open follows from calm and kind, which have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    calm, kind = rng.standard_normal((2, n))
    openness = 0.8 * calm - 0.6 * kind + 0.5 * rng.standard_normal(n)
    parts = []
    for family, mean in zip(FAMILIES, (calm, kind, openness), strict=True):
        who = np.setdiff1d(np.arange(n), missing if family == "kind" else ())
        who = rng.permutation(who)
        parts.append(
            pa.table(
                {
                    "family": pa.repeat(family, who.size),
                    "persona": who,
                    "mean": mean[who],
                    "sd": np.full(who.size, 0.1),
                }
            )
        )
    return pa.concat_tables(parts)


@pytest.fixture
async def started(real):
    parameters = parameters_for(4, "smoke", seed=3)
    event = IterationStarted(iteration=4, parameters=parameters)
    envelope = Envelope(event, "start", "/test", event.type, event.subject, real.clock())
    await run_saga(ITERATION, envelope, real.ports)
    return real


async def keep(real, table):
    constants = {"namespace": "smoke", "iteration": 4}
    same = {name: pa.repeat(value, table.num_rows) for name, value in constants.items()}
    whole = pa.table({**same, **{name: table[name] for name in table.column_names}})
    await real.ports.warehouse.merge(SCORES, whole, claim="s", constants=constants)


async def test_the_network_of_all_calibrated_families_is_kept_once(started, claim):
    await keep(started, rows())
    outcomes = [
        await find_network(COMPLETED, claim(COMPLETED, "network", attempt), started.ports)
        for attempt in (1, 2)
    ]
    assert outcomes[0] == outcomes[1]
    [ended] = outcomes[0].events
    assert ended.reason is None
    kept = await started.ports.objects.get(ended.network_uri)
    assert sha256(kept) == outcomes[0].receipt.digest
    assert started.effects.objects_written == 1
    found = json.loads(kept)
    assert found["families"] == list(FAMILIES)
    assert (found["n_respondents"], found["seed"]) == (200, 3)
    edges = {(edge["parent"], edge["child"]): edge for edge in found["edges"]}
    assert set(edges) == {("calm", "open"), ("kind", "open")}
    assert edges["calm", "open"]["weight"] > 0.4
    assert edges["kind", "open"]["weight"] < -0.3
    assert min(edge["strength"] for edge in edges.values()) > 0.95
    assert found["log_score"] > found["log_score_empty"] + 3 * found["gain_se"]


async def test_one_family_has_no_network_and_says_so(started, claim):
    alone = COMPLETED.model_copy(update={"promoted": ("open",), "held": (), "failed": ("kind",)})
    outcome = await find_network(alone, claim(alone, "network"), started.ports)
    [ended] = outcome.events
    assert (ended.network_uri, ended.reason) == (
        None,
        "1 family was calibrated: a network needs two",
    )
    assert outcome.receipt.details == {"reason": ended.reason}
    assert started.effects.objects_written == 0


async def test_too_few_common_respondents_are_counted(started, claim):
    await keep(started, rows(12, missing=range(3)))
    outcome = await find_network(COMPLETED, claim(COMPLETED, "network"), started.ports)
    assert outcome.events[0].reason == (
        "9 respondents have a score in every family: a network needs 10 or more"
    )


async def test_an_iteration_that_is_not_in_the_ledger_yet_is_tried_again(real, claim):
    assert isinstance(await find_network(COMPLETED, claim(COMPLETED, "network"), real.ports), Retry)


def test_scores_are_matched_by_respondent_whatever_their_order():
    who, mean, sd = common_scores(FAMILIES, rows(40, missing=(0, 7)))
    assert who.tolist() == [n for n in range(40) if n not in {0, 7}]
    _, again, _ = common_scores(FAMILIES, rows(40))
    np.testing.assert_array_equal(mean, again[who])
    assert sd.shape == (38, 3)


def test_equal_scores_give_equal_bytes():
    table = rows(50)
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    assert network_json(FAMILIES, table, 5) == network_json(FAMILIES, shuffled, 5)
    flat = table.set_column(2, "mean", pa.repeat(0.0, table.num_rows))
    with pytest.raises(CalibrationError, match="all scores are equal"):
        network_json(FAMILIES, flat, 5)


def test_without_a_network_the_report_is_drawn_all_the_same():
    told = network_lost(COMPLETED, "why")
    assert (told.subject, told.network_uri, told.reason) == ("smoke/4", None, "why")
