from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from events.model import (
    Corpus,
    Family,
    GateVerdict,
    Parameters,
    Sampler,
    SimulatorEvaluator,
)
from infra.ports import Cause, ClaimKey, Receipt, StepRecord, StepStatus
from infra.report.data import FamilyReport, ReportData, ShardCounts
from infra.report.render import render

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
OPENNESS = ("imagination", "artistic", "emotionality", "adventure", "intellect", "liberalism")


def summary(draws: np.ndarray, index: int) -> dict[str, Any]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "mean": float(draws.mean()),
        "sd": float(draws.std()),
        "hdi95": [float(low), float(high)],
        "r_hat": 1.0004 + 0.0001 * (index % 7),
        "ess_bulk": 9000.0 - 37 * index,
        "ess_tail": 7000.0 - 11 * index,
    }


def make_family(
    items: tuple[str, ...] = OPENNESS,
    categories: int = 5,
    *,
    draws: int = 400,
    chains: int = 4,
    name: str = "openness",
    **fields: Any,
) -> FamilyReport:
    random = np.random.default_rng(5)
    n, cuts = len(items), categories - 1
    a_truth = 1.5 * np.exp(0.3 * random.standard_normal(n))
    b_truth = np.linspace(-1.8, 1.8, cuts) + 0.35 * random.standard_normal((n, 1))
    shape = (chains, draws)
    a_mean = a_truth + 0.15 * random.standard_normal(n)
    b_mean = np.sort(b_truth + 0.12 * random.standard_normal((n, cuts)), axis=1)
    a = a_mean + 0.15 * random.standard_normal((*shape, n))
    b = b_mean + 0.12 * random.standard_normal((*shape, n, cuts))
    grm = {
        "schema_version": 1,
        "family": name,
        "model": "grm",
        "n_respondents": 10,
        "n_responses": 3600,
        "items": [
            {
                "item": item,
                "categories": list(range(1, categories + 1)),
                "discrimination": summary(a[:, :, j], j * categories),
                "thresholds": [summary(b[:, :, j, k], j * categories + k + 1) for k in range(cuts)],
            }
            for j, item in enumerate(items)
        ],
        "diagnostics": {
            "method": "nuts",
            "r_hat_max": 1.0012,
            "ess_bulk_min": 8123.4,
            "ess_tail_min": 6543.2,
            "divergences": 0,
            "sampling_seconds": 0.834,
            "tree_depth_max": 3,
            "step_size": [0.71, 0.69, 0.725, 0.7],
            "e_bfmi": [1.02, 0.98, 1.01, 0.99],
            "log_likelihood": -4871.9912,
            "marginal_reliability": 0.94123,
            "versions": {"jax": "0.10.2"},
            "notes": ["item artistic: category 2 was used once"],
        },
    }
    truth = {
        item: (float(a_truth[j]), tuple(map(float, b_truth[j]))) for j, item in enumerate(items)
    }
    found: dict[str, Any] = {
        "family": name,
        "status": "promoted",
        "grm": grm,
        "gates": GATES,
        "invariance": INVARIANCE,
        "discrimination": a,
        "thresholds": b,
        "truth": truth,
    }
    return FamilyReport(**{**found, **fields})


def make_checks(items: tuple[str, ...] = OPENNESS) -> dict[str, Any]:
    """A ``checks.json``, parsed: the first item differs between groups and moved."""
    others = [(items[0], item) for item in items[1:]]
    return {
        "fit": {
            "residual": 0.052, "excess": 0.047, "p_value": 0.0099, "replications": 100,
            "worst_pair": list(others[0]), "worst_residual": -0.102,
            "items": [
                {"item": item, "residual": 0.031, "excess": 0.0, "p_value": 0.4} for item in items
            ],
            "pairs": [
                {"items": list(pair), "residual": 0.01 - 0.1 * (n == 0), "low": -0.04, "high": 0.04}
                for n, pair in enumerate(others)
            ],
            "shares": [
                {"item": item, "categories": [1, 2, 3], "observed": [0.2, 0.5, 0.3],
                 "low": [0.15, 0.45, 0.31], "high": [0.25, 0.55, 0.4]}
                for item in items
            ],
        },
        "prediction_sets": {
            "level": 0.9, "cutoff": 0.12, "coverage": 0.883, "coverage_floor": 0.829,
            "mean_size": 2.87, "n_calibrated": 339, "n_tested": 351,
            "coverage_by_item": [0.87] * (len(items) - 1) + [None],
        },
        "invariance": {
            "given": True,
            "groups": [{"group": "north", "respondents": 4}, {"group": "south", "respondents": 6}],
            "levels": [
                {**level, "delta_bic_se": se, "group_means": [0.0, -0.44], "group_sds": [1.0, 1.18]}
                for level, se in zip(INVARIANCE, (0.0, 5.5, 7.25), strict=True)
            ],
            "items": [
                {"item": item, "delta_bic": -40.0 if item == items[0] else 9.0, "p_value": 0.5,
                 "invariant": item != items[0]}
                for item in items
            ],
        },
        "stability": {
            "scale": 1.02, "shift": -0.13, "largest": 11.55, "limit": 3.59, "n_parameters": 30,
            "parameter": "threshold 4 of item imagination", "moved": [items[0]],
            "not_compared": [items[-1]],
        },
        "odd_respondents": {
            "count": 1,
            "shown": [{"respondent": "r<17>", "lz": -5.4321, "score": 0.25, "n_answers": 60}],
        },
    }  # fmt: skip


GATES = (
    GateVerdict(
        number=1, name="convergence", value=1.0012, threshold="below 1.01", passed=True,
        reason="R-hat is at most 1.0012, below 1.01",
    ),
    GateVerdict(
        number=2, name="effective sample size", value=6543.2, threshold="at least 400", passed=True,
        reason="at least 6,543 effective draws for every parameter",
    ),
    GateVerdict(
        number=3, name="divergences", value=0.0, threshold="0", passed=True,
        reason="no divergent transition",
    ),
)  # fmt: skip
INVARIANCE = (
    {"level": "configural", "log_likelihood": -4870.123, "n_parameters": 60, "aic": 9860.246,
     "bic": 10231.5, "delta_bic": None, "holds": True},
    {"level": "metric", "log_likelihood": -4874.5, "n_parameters": 55, "aic": 9859.0,
     "bic": 10199.1, "delta_bic": -32.4, "holds": True},
    {"level": "scalar", "log_likelihood": -4950.7, "n_parameters": 31, "aic": 9963.4,
     "bic": 10155.2, "delta_bic": -43.9, "holds": False},
)  # fmt: skip


def make_step(
    subject: str,
    step: str,
    asked: float,
    begun: float,
    ended: float | None,
    **fields: Any,
) -> StepRecord:
    found: dict[str, Any] = {
        "key": ClaimKey(subject, step),
        "status": StepStatus.COMPLETED if ended is not None else StepStatus.CLAIMED,
        "owner": "worker-1",
        "attempt": 1,
        "cause": Cause("id", "nexus.shard.requested.v1", START + timedelta(seconds=asked)),
        "claimed_at": START + timedelta(seconds=begun),
        "ended_at": None if ended is None else START + timedelta(seconds=ended),
        "receipt": None if ended is None else Receipt(f"sha256:{abs(hash_of(subject, step)):064x}"),
        "reason": None,
    }
    return StepRecord(**{**found, **fields})


def hash_of(*parts: str) -> int:
    return int.from_bytes("/".join(parts).encode(), "big") % 2**255


def make_timeline(shards: int = 6, families: tuple[str, ...] = ("openness",)) -> list[StepRecord]:
    steps = []
    for shard in range(shards):
        at, lane = 0.2 + 0.05 * shard, 0.6 * (shard // 3)
        subject = f"smoke/0/shard/{shard}"
        steps += [
            make_step(subject, "shards", 0.1, at, at + 0.12),
            make_step(subject, "batches", at + 0.12, at + 0.4, at + 0.9 + lane),
            make_step(subject, "merge", at + 0.92 + lane, at + 1.0 + lane, at + 1.2 + lane),
        ]
    done = 0.2 + 0.05 * shards + 0.6 * ((shards - 1) // 3) + 1.2
    for index, family in enumerate(families):
        subject = f"smoke/0/family/{family}"
        begun = done + 0.1 + 6.5 * index
        steps += [
            make_step(subject, "training", done, begun, begun + 6.4),
            make_step(subject, "promotion", begun + 6.41, begun + 6.45, begun + 6.5),
        ]
    return steps


def make_report(**fields: Any) -> ReportData:
    found: dict[str, Any] = {
        "iteration": 0,
        "status": "completed",
        "parameters": Parameters(
            profile="smoke",
            corpus=Corpus(personas=10, sessions=6, turns=12),
            shards=6,
            families=(Family(family="openness", items=OPENNESS),),
            evaluator=SimulatorEvaluator(seed=7),
            sampler=Sampler(warmup=300, draws=4000),
            seed=20,
        ),
        "families": (make_family(),),
        "timeline": tuple(make_timeline()),
        "command": "nexus run --iteration 0 --profile smoke --seed 20",
        "shards": ShardCounts(6, 6, 0),
        "rows_merged": 4320,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "versions": {"nexus-calibration": "0.1.0", "jax": "0.10.2", "numpyro": "0.22.0"},
    }
    return ReportData(**{**found, **fields})


@pytest.fixture
def report() -> Callable[..., ReportData]:
    return make_report


@pytest.fixture(scope="session")
def smoke_html() -> bytes:
    return render(make_report())


@pytest.fixture
def family() -> Callable[..., FamilyReport]:
    return make_family


@pytest.fixture
def checks() -> Callable[..., dict[str, Any]]:
    return make_checks


@pytest.fixture
def step() -> Callable[..., StepRecord]:
    return make_step


@pytest.fixture
def timeline_steps() -> Callable[..., list[StepRecord]]:
    return make_timeline


@pytest.fixture
def started() -> datetime:
    return START
