import json
from dataclasses import replace

import pyarrow as pa
import pytest

from events.catalogue import IterationStarted, TrainingRequested
from events.model import Corpus, Family, ResponsesEvaluator, Sampler, SimulatorEvaluator
from handlers.digests import sha256, short
from handlers.training import calibrate_family, family_lost
from infra.errors import CannotCalibrateError
from infra.ports import Training
from infra.profiles import parameters_for
from sagas.engine import run_saga
from sagas.iteration import ITERATION
from schemas.rows import arrow_rows
from schemas.tables import (
    CALIBRATION_METRICS,
    GATES,
    GRADES,
    INVARIANCE,
    ITEM_CHECKS,
    MODEL_COMPARISONS,
    PROMOTIONS,
    SCORES,
    TRAIT_CORRELATIONS,
    TRAIT_SCORES,
)

FAMILY = Family(family="openness", items=("imagination", "intellect"), reversed=("intellect",))
REQUEST = TrainingRequested(
    iteration=4,
    family="openness",
    scale=FAMILY,
    corpus=Corpus(personas=3),
    evaluator=SimulatorEvaluator(seed=7),
    method="mml",
    sampler=Sampler(draws=500),
    seed=7,
)
CHECKS = b"{}"
GRM = json.dumps({"items": []}).encode()
FIGURES = {
    "method": "mml", "r_hat_max": None, "ess_bulk_min": None, "ess_tail_min": None,
    "divergences": 0, "sampling_seconds": 0.5, "n_respondents": 2, "n_responses": 5,
}  # fmt: skip
GATE = {
    "number": 1, "name": "r-hat", "value": None, "threshold": "below 1.01", "passed": True,
    "holds": True, "judged": False, "reason": "no draws",
}  # fmt: skip


MODELS = (
    {
        "model": "grm", "elpd": -10.0, "se": 1.0, "p_loo": 2.0, "difference": 0.0,
        "difference_se": 0.0, "pareto_k_max": None, "unreliable": 0, "left_out": 2,
    },
)  # fmt: skip


def metric(item):
    numbers = dict.fromkeys(
        (
            "discrimination_mean", "discrimination_sd", "discrimination_hdi_low",
            "discrimination_hdi_high", "r_hat_max", "ess_bulk_min", "ess_tail_min",
        ),
        1.0,
    )  # fmt: skip
    return {"item": item, "thresholds": [{"mean": 0.0}], "n_responses": 3, **numbers}


def level(name):
    numbers = dict.fromkeys(("log_likelihood", "aic", "bic", "delta_bic"), 1.0)
    return {"level": name, "n_parameters": 2, "holds": True, **numbers}


def checked(item):
    numbers = dict.fromkeys(("residual", "residual_p_value", "coverage", "delta_bic"), 1.0)
    return {"item": item, "invariant": False, "stable": None, **numbers}


class FixedTrainer:
    """Yields one known fit, and remembers what it was asked."""

    def __init__(self, draws=b"draws"):
        self.jobs = []
        self.draws = draws

    async def train(self, job, progress=None):
        self.jobs.append((job, progress))
        if job.counts.num_rows == 0:
            raise CannotCalibrateError("no answers")
        levels = tuple(level(name) for name in ("configural", "metric", "scalar"))
        metrics = tuple(metric(item) for item in FAMILY.items)
        found = tuple(checked(item) for item in FAMILY.items)
        return Training(
            GRM,
            self.draws,
            self.draws and b"nc",
            CHECKS,
            FIGURES,
            (GATE,),
            metrics,
            levels,
            found,
            MODELS,
            pa.table({"respondent": [0, 1], "mean": [0.5, -0.5], "sd": [0.2, 0.3]}),
        )


class OfTraits(FixedTrainer):
    """The same fit with two traits."""

    async def train(self, job, progress=None):
        assert job.structure == "correlated"
        scores = pa.table(
            {
                "trait": ["intellect", "intellect", "imagination"],
                "respondent": [0, 1, 0],
                "mean": [0.3, 0.4, 0.1],
                "sd": [0.2, 0.2, 0.2],
            }
        )
        names = ("mean", "sd", "hdi_low", "hdi_high", "r_hat", "ess_bulk", "ess_tail", "mcse")
        pair = {"first_trait": "imagination", "second_trait": "intellect"}
        return replace(
            await super().train(job, progress),
            trait_scores=scores,
            correlations=({**pair, **dict.fromkeys(names, 1.0)},),
        )


def grade(persona, construct, value, *, turn=0, iteration=4, family="openness"):
    return {
        "namespace": "smoke", "iteration": iteration, "shard_index": 0, "family": family,
        "persona": persona, "session": 0, "turn": turn, "construct": construct, "grade": value,
    }  # fmt: skip


@pytest.fixture
async def graded(real):
    rows = [
        grade(0, "imagination", 2),
        grade(0, "imagination", 2, turn=1),
        grade(0, "intellect", 1),
        grade(1, "imagination", 3),
        grade(1, "imagination", 4, turn=1),
    ]
    for iteration, family in ((4, "openness"), (5, "openness"), (4, "another")):
        theirs = [{**row, "iteration": iteration, "family": family} for row in rows]
        constants = {"namespace": "smoke", "iteration": iteration, "family": family}
        await real.ports.warehouse.merge(
            GRADES, arrow_rows(GRADES, theirs), claim=f"c-{iteration}-{family}", constants=constants
        )
    return real


def where(real, trainer):
    return real.ports_with(
        **{name: getattr(real.ports, name) for name in ("warehouse", "objects")}, trainer=trainer
    )


async def test_the_family_s_grades_are_counted_for_the_trainer(graded, claim):
    trainer = FixedTrainer()
    await calibrate_family(REQUEST, claim(REQUEST, "training"), where(graded, trainer))
    [(job, _)] = trainer.jobs
    assert (job.family, job.sampler, job.method, job.seed) == (
        FAMILY,
        Sampler(draws=500),
        "mml",
        7,
    )
    rows = job.counts.to_pylist()
    assert sorted((row["respondent"], row["item"], row["grade"], row["n"]) for row in rows) == [
        (0, "imagination", 2, 2),
        (0, "intellect", 1, 1),
        (1, "imagination", 3, 1),
        (1, "imagination", 4, 1),
    ]


async def test_a_fit_is_kept_once_with_its_metrics(graded, claim):
    ports = where(graded, FixedTrainer())
    outcomes = [
        await calibrate_family(REQUEST, claim(REQUEST, "training", attempt), ports)
        for attempt in (1, 2)
    ]
    assert outcomes[0] == outcomes[1]
    [calibrated] = outcomes[0].events
    assert calibrated.digest == sha256(GRM) == outcomes[0].receipt.digest
    assert await ports.objects.get(calibrated.grm_uri) == GRM
    assert await ports.objects.get(calibrated.draws_uri) == b"draws"
    assert await ports.objects.get(outcomes[0].receipt.uris["checks"]) == CHECKS
    assert short(sha256(GRM)) in calibrated.grm_uri
    assert calibrated.gates[0].reason == "no draws"
    assert outcomes[0].receipt.counts == {"calibration_metrics": 2, "invariance": 3}
    key = {"namespace": "smoke", "iteration": 4, "family": "openness"}
    metrics = (await ports.warehouse.read(CALIBRATION_METRICS, where=key)).to_pylist()
    assert [row["item"] for row in metrics] == ["imagination", "intellect"]
    levels = (await ports.warehouse.read(INVARIANCE, where=key)).to_pylist()
    assert {row["level"] for row in levels} == {"configural", "metric", "scalar"}
    [gate] = (await ports.warehouse.read(GATES, where=key)).to_pylist()
    assert (gate["number"], gate["gate"], gate["judged"]) == (1, "r-hat", False)
    items = (await ports.warehouse.read(ITEM_CHECKS, where=key)).to_pylist()
    assert [(row["item"], row["invariant"], row["stable"]) for row in items] == [
        ("imagination", False, None),
        ("intellect", False, None),
    ]
    [model] = (await ports.warehouse.read(MODEL_COMPARISONS, where=key)).to_pylist()
    assert {name: model[name] for name in MODELS[0]} == MODELS[0]
    scores = (await ports.warehouse.read(SCORES, where=key)).to_pylist()
    assert [(row["persona"], row["mean"], row["sd"]) for row in scores] == [
        (0, 0.5, 0.2),
        (1, -0.5, 0.3),
    ]
    assert await ports.objects.get(outcomes[0].receipt.uris["inference"]) == b"nc"
    assert graded.effects.objects_written == 4


async def test_a_fit_without_draws_has_none_to_show(graded, claim):
    ports = where(graded, FixedTrainer(draws=None))
    outcome = await calibrate_family(REQUEST, claim(REQUEST, "training"), ports)
    assert outcome.events[0].draws_uri is None
    assert set(outcome.receipt.uris) == {"grm", "checks"}


async def test_what_cannot_be_calibrated_leaves_nothing_behind(real, claim):
    ports = where(real, FixedTrainer())
    with pytest.raises(CannotCalibrateError):
        await calibrate_family(REQUEST, claim(REQUEST, "training"), ports)
    assert (real.effects.objects_written, real.effects.merges) == (0, 0)


async def asked(real, claim, event):
    """The job of an event, as the trainer gets it."""
    trainer = FixedTrainer()
    await calibrate_family(event, claim(event, "training"), where(real, trainer))
    return trainer.jobs[0][0]


async def promote(real, iteration, grm, *, namespace="smoke", status="promoted"):
    """A decision as it stands in the warehouse, of a fit that lies among the objects."""
    stored = await real.ports.objects.put_once(f"{namespace}/{iteration}/grm.json", grm)
    key = {"namespace": namespace, "iteration": iteration, "family": "openness"}
    row = {**key, "status": status, "grm_uri": stored.uri, "digest": sha256(grm)}
    rows = arrow_rows(PROMOTIONS, [{**row, "decided_at": real.clock.now}])
    await real.ports.warehouse.merge(PROMOTIONS, rows, claim=f"p-{iteration}", constants=key)


def version(*items, note=""):
    return json.dumps({"items": [{"item": item} for item in items], "note": note}).encode()


async def started(real, iteration, seed):
    """What the ledger knows of an iteration of the simulator."""
    parameters = parameters_for(iteration, "smoke", seed=seed)
    event = IterationStarted(iteration=iteration, parameters=parameters)
    await run_saga(ITERATION, real.envelope(event, f"start-{iteration}"), real.ports)


async def test_without_a_former_version_there_is_nothing_to_be_stable_against(graded, claim):
    job = await asked(graded, claim, REQUEST)
    assert job.promoted == "no version was promoted before in smoke"


async def test_a_fit_is_compared_with_the_version_promoted_last_before_it(graded, claim):
    await promote(graded, 2, version("imagination", note="old"))
    await promote(graded, 3, version("imagination", note="new"))
    await promote(graded, 5, version("imagination", note="later"))
    assert (await asked(graded, claim, REQUEST)).promoted == version("imagination", note="new")


async def test_versions_that_were_held_or_are_of_another_namespace_do_not_count(graded, claim):
    await promote(graded, 3, version("imagination"), status="held")
    await promote(graded, 2, version("imagination"), namespace="production")
    assert isinstance((await asked(graded, claim, REQUEST)).promoted, str)


async def test_other_items_or_another_truth_are_no_version_of_the_family(graded, claim):
    await promote(graded, 1, version("intellect", note="same truth"))
    await started(graded, 1, seed=REQUEST.evaluator.seed)
    await promote(graded, 2, version("O1", "O2"))
    await promote(graded, 3, version("imagination"))
    await started(graded, 3, seed=REQUEST.evaluator.seed + 1)
    same = version("intellect", note="same truth")
    assert (await asked(graded, claim, REQUEST)).promoted == same


def traits_of(*pairs):
    items = [{"item": item, "trait": trait} for item, trait in pairs]
    return json.dumps({"items": items, "traits": sorted({trait for _, trait in pairs})}).encode()


async def test_the_fit_is_asked_for_with_the_events_priors(graded, claim):
    assert (await asked(graded, claim, REQUEST)).priors == "default"
    weak = REQUEST.model_copy(update={"method": "nuts", "priors": "weak"})
    assert (await asked(graded, claim, weak)).priors == "weak"


async def test_a_version_of_another_structure_is_another_instrument(graded, claim):
    correlated = REQUEST.model_copy(update={"method": "nuts", "structure": "correlated"})
    await promote(graded, 1, version("imagination", "intellect"))
    await promote(graded, 2, traits_of(("imagination", "intellect"), ("intellect", "mind")))
    told = "the versions promoted before, in iterations 1, 2, are of other items, traits or cohorts"
    assert (await asked(graded, claim, correlated)).promoted == told
    same = traits_of(("imagination", "imagination"), ("intellect", "intellect"))
    await promote(graded, 3, same)
    assert (await asked(graded, claim, correlated)).promoted == same
    assert (await asked(graded, claim, REQUEST)).promoted == version("imagination", "intellect")


async def test_scores_by_trait_and_correlations_are_merged_beside_the_composite(graded, claim):
    request = REQUEST.model_copy(update={"method": "nuts", "structure": "correlated"})
    await calibrate_family(request, claim(request, "training"), where(graded, OfTraits()))
    stored = graded.ports.warehouse
    at = {"namespace": "smoke", "iteration": 4, "family": "openness"}
    rows = (await stored.read(TRAIT_SCORES, where=at)).to_pylist()
    assert [(row["trait"], row["persona"], row["mean"]) for row in rows] == [
        ("imagination", 0, 0.1),
        ("intellect", 0, 0.3),
        ("intellect", 1, 0.4),
    ]
    [pair] = (await stored.read(TRAIT_CORRELATIONS, where=at)).to_pylist()
    assert (pair["first_trait"], pair["second_trait"], pair["hdi_low"]) == (
        "imagination",
        "intellect",
        1.0,
    )
    assert (await stored.read(SCORES, where=at)).num_rows == 2


async def test_personas_have_the_simulator_s_groups(graded, claim):
    assert (await asked(graded, claim, REQUEST)).groups == ("group 0", "group 1", "group 0")


async def test_respondents_have_the_groups_of_their_column(graded, claim):
    csv = b"imagination,intellect,who\n1,2,man\n2,1,NA\n1,1, woman\n"
    stored = await graded.ports.objects.put_once("r.csv", csv)
    evaluator = ResponsesEvaluator(uri=stored.uri, digest=sha256(csv), groups="who")
    event = REQUEST.model_copy(update={"evaluator": evaluator})
    assert (await asked(graded, claim, event)).groups == ("man", None, "woman")
    without = evaluator.model_copy(update={"groups": None})
    event = REQUEST.model_copy(update={"evaluator": without})
    assert (await asked(graded, claim, event)).groups is None


def test_what_the_saga_is_told():
    told = family_lost(REQUEST, "why")
    assert (told.subject, told.step, told.reason) == ("smoke/4/family/openness", "training", "why")
