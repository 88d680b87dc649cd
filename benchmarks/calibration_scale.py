"""Wall time, memory and effective draws at scale, and how cost grows with size.

    python benchmarks/calibration_scale.py survey [--respondents 100000] [--items 20] [--nuts]
        [--rscript Rscript]
    python benchmarks/calibration_scale.py corpus [--personas 2000] [--families 10] [--nuts]
    python benchmarks/calibration_scale.py grow survey|corpus [--nuts]

`survey`: one answer per respondent and item; where `--rscript` is given, mirt fits the same
answers before ours does. `corpus`: every turn of 50 sessions x 12 turns is
graded on six constructs of ten families; the grades are written to the product's warehouse table
by SQL, and read back by the product's own query, which counts them there. `grow` runs a tenth and
the whole, each in a process of its own, and prints the exponent of the cost.

Peak memory is the largest resident set of the process (of the worker that reads and of the
training process, for `corpus`), JAX and its compiled programs included.
"""

import argparse
import asyncio
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the training process has it

import numpy as np  # after its setting

if TYPE_CHECKING:
    from calibration.results import Fit

SESSIONS, TURNS, CONSTRUCTS, FAMILIES = 50, 12, 6, 10
QUICK = {"chains": 4, "warmup": 200, "draws": 500}


def peak_gib(who: int = resource.RUSAGE_SELF) -> float:
    return round(resource.getrusage(who).ru_maxrss / 2**20, 2)


def survey_grades(respondents: int, items: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a = rng.lognormal(0.4, 0.3, items)
    cuts = np.sort(rng.normal(0, 1.5, (items, 4)), axis=1) * a[:, None]
    eta = a * rng.standard_normal((respondents, 1)) + rng.logistic(size=(respondents, items))
    return np.sum([eta > cuts[:, k] for k in range(4)], axis=0).astype(np.int8)


def said(fit: "Fit") -> dict[str, Any]:
    d = fit.diagnostics
    line = {
        "sampling_seconds": round(d.sampling_seconds, 2),
        "compile_seconds": round(d.compile_seconds, 2),
        "newton_iterations": d.newton_iterations,
        "log_likelihood": round(fit.log_likelihood, 3),
    }
    if d.method == "nuts":
        ess = min(d.ess_bulk_min or 0.0, d.ess_tail_min or 0.0)
        line |= {
            "r_hat_max": round(d.r_hat_max or math.nan, 4),
            "ess_min": round(ess),
            "ess_per_second": round(ess / d.sampling_seconds, 1),
            "divergences": d.divergences,
        }
    return line


def survey(options: argparse.Namespace) -> dict[str, Any]:
    import calibration  # noqa: PLC0415  # its own peak memory is measured

    calibration.configure(host_devices=4, cache_dir=options.cache)
    grades = survey_grades(options.respondents, options.items)
    names = [f"i{j:02d}" for j in range(options.items)]
    peer = by_mirt(options.rscript, grades, names) if options.rscript else {}
    began, cpu = time.perf_counter(), time.process_time()
    responses = calibration.Responses.from_matrix("survey", grades, items=names)
    read = time.perf_counter() - began
    fit = calibration.fit(
        responses,
        seed=0,
        method="nuts" if options.nuts else "mml",
        sampler=calibration.SamplerSettings(**QUICK),
    )
    return {
        "respondents": options.respondents,
        "items": options.items,
        "count_seconds": round(read, 2),
        "wall_seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_gib": peak_gib(),
        **said(fit),
        **peer,
    }


def by_mirt(rscript: str, grades: np.ndarray, names: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grades.csv"
        np.savetxt(path, grades, fmt="%d", delimiter=",", header=",".join(names), comments="")
        script = str(Path(__file__).parent / "calibration_peers.R")
        ran = subprocess.run(
            [rscript, script, str(path), "mirt-once"], capture_output=True, text=True, check=True
        )
    lines = [line.split(",") for line in ran.stdout.splitlines()]
    return {f"mirt_{quantity}": float(value) for _, quantity, _, _, value in lines}


FILL = """
INSERT INTO grades BY NAME
WITH turns AS (
  SELECT p.range AS persona, s.range AS session, t.range AS turn, i.range AS item
  FROM range({personas}) p, range({sessions}) s, range({turns}) t, range({constructs}) i
), drawn AS (
  SELECT *,
    sqrt(-2 * ln((hash(persona, {family}, 'u') % 1000003 + 1) / 1000004.0))
      * cos(6.283185307 * (hash(persona, {family}, 'v') % 1000003) / 1000003.0) AS theta,
    (hash(persona, session, turn, item, {family}) % 1000003 + 1) / 1000005.0 AS u
  FROM turns
)
SELECT 'production' AS namespace, 10 AS iteration, persona // 2 AS shard_index,
  'family{family}' AS family, persona, session, turn, 'construct' || item AS construct,
  1 + list_sum(list_transform([-1.6, -0.5, 0.5, 1.6],
      lambda cut: ((1.0 + 0.2 * item) * (theta - cut - 0.1 * item) + ln(u / (1 - u)) > 0)::INT
  ))::BIGINT AS grade
FROM drawn ORDER BY shard_index
"""


def fill(path: Path, personas: int, families: int) -> None:
    import duckdb  # noqa: PLC0415  # in the process that fills, not in the one that is measured

    from schemas.sql import Dialect, ddl  # noqa: PLC0415
    from schemas.tables import GRADES, PROMOTIONS  # noqa: PLC0415

    with duckdb.connect(str(path), config={"memory_limit": "3GB"}) as connection:
        for table, name in ((GRADES, "grades"), (PROMOTIONS, "promotions")):
            connection.execute(ddl(table, Dialect.DUCKDB, (name,)))
        for family in range(families):
            sql = FILL.format(
                personas=personas, sessions=SESSIONS, turns=TURNS, constructs=CONSTRUCTS,
                family=family,
            )  # fmt: skip
            connection.execute(sql)


async def corpus(options: argparse.Namespace) -> dict[str, Any]:
    """The training step as the product runs it: its query, its training process."""
    from events.catalogue import TrainingRequested  # noqa: PLC0415
    from events.model import Corpus, Family, ResponsesEvaluator, Sampler  # noqa: PLC0415
    from handlers.training import training_job  # noqa: PLC0415
    from infra.ports import Ports  # noqa: PLC0415
    from infra.trainer import ProcessTrainer  # noqa: PLC0415
    from infra.warehouse.duckdb import DuckDbWarehouse  # noqa: PLC0415
    from schemas.tables import GRADES  # noqa: PLC0415

    path = Path(options.path)
    warehouse = DuckDbWarehouse(path)
    ports = cast("Ports", SimpleNamespace(warehouse=warehouse))
    trainer = ProcessTrainer(Path(options.cache or path.parent / "programs"))
    items = tuple(f"construct{i}" for i in range(CONSTRUCTS))
    families: list[dict[str, Any]] = []
    for family in range(options.fit_families):
        name = f"family{family}"
        event = TrainingRequested(
            iteration=10,
            family=name,
            scale=Family(family=name, items=items),
            corpus=Corpus(personas=options.personas, sessions=SESSIONS, turns=TURNS),
            evaluator=ResponsesEvaluator(uri="none", digest=f"sha256:{0:064d}"),  # no groups
            method="nuts" if options.nuts else "mml",
            sampler=Sampler(**QUICK),
            seed=family,
        )
        began = time.perf_counter()
        job = await training_job(event, ports)
        read = time.perf_counter()
        training = await trainer.train(job)
        families.append(
            {
                "query_seconds": round(read - began, 2),
                "rows_read": job.counts.num_rows,
                "arrow_mib": round(job.counts.nbytes / 2**20, 1),
                "train_seconds": round(time.perf_counter() - read, 2),
                **training.figures,
            }
        )
        print(json.dumps(families[-1]), flush=True)
    rows = await warehouse.count(GRADES, where={"iteration": 10}, by=())
    await trainer.close()
    await warehouse.close()
    return {
        "grades": rows["n"][0].as_py(),
        "families": len(families),
        "query_seconds": sum(family["query_seconds"] for family in families),
        "train_seconds": sum(family["train_seconds"] for family in families),
        "worker_peak_gib": peak_gib(),
        "training_peak_gib": peak_gib(resource.RUSAGE_CHILDREN),
    }


def filled_corpus(options: argparse.Namespace) -> dict[str, Any]:
    if options.path:
        return asyncio.run(corpus(options))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        options.path = str(Path(folder) / "warehouse.duckdb")
        began = time.perf_counter()
        subprocess.run(
            [
                sys.executable, __file__, "fill", "--path", options.path,
                "--personas", str(options.personas), "--families", str(options.families),
            ],
            check=True,
        )  # fmt: skip
        filled = {
            "fill_seconds": round(time.perf_counter() - began, 1),
            "file_mib": round(Path(options.path).stat().st_size / 2**20),
        }
        return filled | asyncio.run(corpus(options))


def grow(options: argparse.Namespace, rest: list[str]) -> dict[str, Any]:
    size = "--respondents" if options.of == "survey" else "--personas"
    whole = options.respondents if options.of == "survey" else options.personas
    lines = []
    for n in (whole // 10, whole):
        ran = subprocess.run(
            [sys.executable, __file__, options.of, size, str(n), *rest],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines.append(json.loads(ran.stdout.splitlines()[-1]))
        print(json.dumps(lines[-1]), flush=True)
    small, large = lines
    shared = [key for key in large if key.endswith("_seconds") and min(small[key], large[key]) > 0]
    return {"exponent": {key: round(math.log10(large[key] / small[key]), 2) for key in shared}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["survey", "corpus", "grow", "fill"])
    parser.add_argument("of", nargs="?", choices=["survey", "corpus"], default="survey")
    parser.add_argument("--respondents", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--personas", type=int, default=2_000)
    parser.add_argument("--families", type=int, default=FAMILIES)
    parser.add_argument("--fit-families", type=int, default=1)
    parser.add_argument("--nuts", action="store_true")
    parser.add_argument("--rscript", default="")
    parser.add_argument("--folder", default=None)
    parser.add_argument("--cache", default=None)
    parser.add_argument("--path", default="", help="a warehouse that `fill` has written before")
    options = parser.parse_args()
    match options.what:
        case "survey":
            line = survey(options)
        case "corpus":
            line = filled_corpus(options)
        case "fill":
            fill(Path(options.path), options.personas, options.families)
            return
        case _:
            line = grow(options, ["--nuts"] * options.nuts)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
