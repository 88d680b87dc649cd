"""The training process: fits families, one after the other, until its input ends.

Run as ``python -m infra.trainer.child CACHE_DIR``. Frames come in on stdin and go out on what was
stdout; anything that a library prints goes to stderr.
"""

import io
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

import calibration
from calibration.errors import CalibrationError
from infra import telemetry
from infra.ports import Training, TrainingJob, TrainingProgress
from infra.trainer import checks, frames

if TYPE_CHECKING:
    # As annotations only: JAX must not load before its flags are set.
    from calibration.correlated import CorrelatedFit, Correlation
    from calibration.data import Responses
    from calibration.gates import Gate
    from calibration.invariance import InvarianceRow
    from calibration.results import Fit, ItemEstimate, Progress


def main() -> None:
    """Serve until the worker that started this process closes the pipe or dies."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calibration.configure(cache_dir=sys.argv[1], host_devices=int(sys.argv[2]))
    telemetry.configure()
    for job in iter(_inbox(sys.stdin.buffer).get, None):
        _send(out, _answer(job, lambda progress: _send(out, progress)))
        telemetry.force_flush()


def _inbox(stream: BinaryIO) -> "queue.Queue[TrainingJob]":
    """Jobs as they come; the process ends at once with the pipe, also in the middle of a fit."""
    jobs: queue.Queue[TrainingJob] = queue.Queue()

    def listen() -> None:
        try:
            while (job := frames.read(stream)) is not None:
                jobs.put(job)
        finally:
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    return jobs


def _send(out: BinaryIO, message: object) -> None:
    out.write(frames.pack(message))
    out.flush()


def _answer(job: TrainingJob, tell: Callable[[TrainingProgress], None]) -> object:
    attributes = {"nexus.family": job.family.family, "nexus.method": job.method}
    with telemetry.span("fit", parent=job.traceparent, attributes=attributes):
        try:
            return train(job, tell)
        except CalibrationError as error:
            return error.__class__.__name__, str(error)


def train(job: TrainingJob, tell: Callable[[TrainingProgress], None]) -> Training:
    """Fit one family and judge it. Raises CalibrationError."""
    responses = _responses(job)
    fit = _fit(job, responses, tell)
    began = time.perf_counter()
    found = checks.examine(job, fit, responses, partial(_tell_check, job.family.family, tell))
    gates = calibration.judge(fit, found.levels, checks.evidence(found))
    return Training(
        grm_json=calibration.GrmArtefact.from_fit(fit).to_json().encode(),
        draws_npz=_draws(fit) if fit.draws else None,
        inference_nc=_inference_data(fit) if fit.draws else None,
        checks_json=checks.document(job, found),
        figures={**_figures(fit), "checks_seconds": time.perf_counter() - began},
        gates=tuple(_gate(gate) for gate in gates),
        metrics=tuple(_metric(estimate) for estimate in fit.estimates),
        invariance=tuple(_level(row) for row in checks.rows(found)),
        item_checks=checks.item_rows(fit, found),
        models=checks.model_rows(found),
        scores=_scores(fit),
        trait_scores=_trait_scores(fit),
        correlations=_correlations(fit),
    )


def _fit(
    job: TrainingJob, responses: "Responses", tell: Callable[[TrainingProgress], None]
) -> "Fit | CorrelatedFit":
    def progress(told: "Progress") -> None:
        tell(TrainingProgress(told.family, told.phase, told.done, told.total))

    if job.structure == "correlated":
        return calibration.fit_correlated(
            responses,
            seed=job.seed,
            traits=checks.traits_of(job),
            sampler=checks.settings(job),
            method=job.method,
            priors=checks.priors(job),
            progress=progress,
        )
    return calibration.fit(
        responses,
        seed=job.seed,
        sampler=checks.settings(job),
        method=job.method,
        priors=checks.priors(job),
        progress=progress,
    )


def _tell_check(family: str, tell: Callable[[TrainingProgress], None], done: int) -> None:
    steps = checks.STEPS
    phase = f"check: {steps[done]}" if done < len(steps) else "checked"
    tell(TrainingProgress(family, phase, done, len(steps)))


def _responses(job: TrainingJob) -> "Responses":
    counts = job.counts
    return calibration.Responses.from_columns(
        job.family.family,
        counts["respondent"].to_numpy(),
        counts["item"].to_numpy(zero_copy_only=False),
        counts["grade"].to_numpy(),
        count=counts["n"].to_numpy(),
        items=job.family.items,
        reversed_items=job.family.reversed,
    )


def _draws(fit: "Fit | CorrelatedFit") -> bytes:
    """Discriminations and thresholds, (chains, draws, items[, cuts]), as float32 ``.npz``.

    Of correlated traits the correlations too, (chains, draws, traits, traits).
    """
    file = io.BytesIO()
    names = ("discrimination", "thresholds", "correlation")
    kept = {name: fit.draws[name].astype(np.float32) for name in names if name in fit.draws}
    np.savez_compressed(file, allow_pickle=False, **kept)
    return file.getvalue()


def _inference_data(fit: "Fit | CorrelatedFit") -> bytes:
    """ArviZ's InferenceData, which HDF5 writes to files only."""
    with tempfile.TemporaryDirectory() as folder:
        return calibration.write_netcdf(fit, Path(folder) / "inference.nc").read_bytes()


def _scores(fit: "Fit | CorrelatedFit") -> pa.Table:
    """Of correlated traits the composite's: one score of the family."""
    theta = fit.theta if isinstance(fit, calibration.Fit) else calibration.composite_scores(fit)
    respondents = pa.array(theta.respondents).cast(pa.int64())
    return pa.table({"respondent": respondents, "mean": theta.mean, "sd": theta.sd})


def _trait_scores(fit: "Fit | CorrelatedFit") -> pa.Table | None:
    if isinstance(fit, calibration.Fit):
        return None
    respondents = pa.array(fit.theta.respondents).cast(pa.int64())
    by_trait = [
        pa.table(
            {
                "trait": pa.repeat(trait, len(respondents)),
                "respondent": respondents,
                "mean": fit.theta.mean[:, c],
                "sd": fit.theta.sd[:, c],
            }
        )
        for c, trait in enumerate(fit.traits)
    ]
    return pa.concat_tables(by_trait)


def _correlations(fit: "Fit | CorrelatedFit") -> tuple[dict[str, Any], ...]:
    return () if isinstance(fit, calibration.Fit) else tuple(map(_correlation, fit.correlations))


def _correlation(pair: "Correlation") -> dict[str, Any]:
    value = pair.value
    kept = ("mean", "sd", "r_hat", "ess_bulk", "ess_tail", "mcse")
    return {
        "first_trait": pair.first,
        "second_trait": pair.second,
        "hdi_low": value.hdi95[0],
        "hdi_high": value.hdi95[1],
        **{name: getattr(value, name) for name in kept},
    }


def _figures(fit: "Fit | CorrelatedFit") -> dict[str, Any]:
    said = fit.diagnostics
    return {
        "method": said.method,
        "r_hat_max": said.r_hat_max,
        "ess_bulk_min": said.ess_bulk_min,
        "ess_tail_min": said.ess_tail_min,
        "divergences": said.divergences,
        "sampling_seconds": said.sampling_seconds,
        "compile_seconds": said.compile_seconds,
        "n_respondents": fit.n_respondents,
        "n_responses": fit.n_responses,
    }


def _gate(gate: "Gate") -> dict[str, Any]:
    verdict = asdict(gate)
    verdict["holds"] = not verdict.pop("advisory")
    return verdict


def _metric(estimate: "ItemEstimate") -> dict[str, Any]:
    a = estimate.discrimination
    parameters = (a, *estimate.thresholds)
    return {
        "item": estimate.item,
        "discrimination_mean": a.mean,
        "discrimination_sd": a.sd,
        "discrimination_hdi_low": a.hdi95[0],
        "discrimination_hdi_high": a.hdi95[1],
        "thresholds": [
            {"mean": b.mean, "sd": b.sd, "hdi95": list(b.hdi95)} for b in estimate.thresholds
        ],
        "r_hat_max": _worst(max, [p.r_hat for p in parameters]),
        "ess_bulk_min": _worst(min, [p.ess_bulk for p in parameters]),
        "ess_tail_min": _worst(min, [p.ess_tail for p in parameters]),
        "n_responses": sum(estimate.category_counts),
    }


def _worst(pick: Callable[[list[float]], float], values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return pick(known) if known else None


def _level(row: "InvarianceRow") -> dict[str, Any]:
    kept = ("level", "log_likelihood", "n_parameters", "aic", "bic", "holds")
    first = row.level == "configural"
    return {
        **{name: getattr(row, name) for name in kept},
        "delta_bic": None if first else row.delta_bic,
    }


if __name__ == "__main__":
    main()
