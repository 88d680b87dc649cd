"""Wall time, memory and effective draws at scale, and how cost grows with size.

    python -m benchmarks.calibration_scale survey [--respondents 100000] [--items 20] [--nuts]
        [--draws 500] [--rscript Rscript] [--pymc-python PYTHON_WITH_PYMC] [--pymc-limit 900]
    python -m benchmarks.calibration_scale corpus [--personas 2000] [--families 10]
        [--nuts | --both] [--folder FOLDER]
    python -m benchmarks.calibration_scale correlated survey|corpus [--respondents N | --personas N]
    python -m benchmarks.calibration_scale grow survey|corpus [--nuts | --correlated]
        [--sizes N ...]

`survey`: one answer per respondent and item; where `--rscript` is given, mirt fits the same
answers before ours does, and with `--pymc-python` PyMC with nutpie samples them afterwards, theta
with the items. `corpus`: every turn of 50 sessions x 12 turns is graded on six constructs of each
family; the grades are written to the product's warehouse table by SQL, and read back by the
product's own query, which counts them there. All families are fitted one after the other in one
training process, with `--both` by maximum likelihood and then by NUTS from the same warehouse.
`grow` runs several sizes (a tenth and the whole, unless told), each in a process of its own, and
prints the exponent of the cost: of the second family for `corpus`, which compiles nothing; with
`--correlated` of `correlated`.
`correlated` fits traits with their correlations by NUTS at the defaults: the five scales of
examples/bfi.csv (or its first respondents), or personas graded 600 times on each of six correlated
constructs.

Peak memory is the largest resident set of the process (of the worker that reads and of the
training process, for `corpus`), JAX and its compiled programs included. Processor time of the
training process is read from /proc, so `corpus` needs Linux.
"""

import argparse
import asyncio
import csv
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the training process has it

import numpy as np  # after its setting

if TYPE_CHECKING:
    from calibration.data import Responses
    from calibration.results import Fit
    from infra.ports import Ports, Trainer

SESSIONS, TURNS, CONSTRUCTS, FAMILIES = 50, 12, 6, 10
HERE = Path(__file__).parent
CHAINS, WARMUP = 4, 200


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
            "steps_mean": round(d.steps_mean or math.nan, 1),
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
        sampler=calibration.SamplerSettings(CHAINS, WARMUP, options.draws),
    )
    line = {
        "respondents": options.respondents,
        "items": options.items,
        "count_seconds": round(read, 2),
        "wall_seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_gib": peak_gib(),
        **said(fit),
        **peer,
    }
    if options.pymc_python:
        line["pymc"] = by_pymc(options, responses.counts)
    return line


def by_mirt(rscript: str, grades: np.ndarray, names: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grades.csv"
        np.savetxt(path, grades, fmt="%d", delimiter=",", header=",".join(names), comments="")
        script = str(HERE / "calibration_peers.R")
        ran = subprocess.run(
            [rscript, script, str(path), "mirt-once"], capture_output=True, text=True, check=True
        )
    lines = [line.split(",") for line in ran.stdout.splitlines()]
    return {f"mirt_{quantity}": float(value) for _, quantity, _, _, value in lines}


def by_pymc(options: argparse.Namespace, counts: np.ndarray) -> dict[str, Any]:
    """4 x (500 + 500) draws of the items and of theta; how far it is at the limit isn't known."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "counts.npy")
        np.save(path, counts)
        command = [options.pymc_python, str(HERE / "calibration_peers_pymc.py"), path, "0"]
        try:
            ran = subprocess.run(
                [*command, "--draws", "500", "--tune", "500", "--once"],
                capture_output=True, text=True, check=True, timeout=options.pymc_limit,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"not_ended_in_seconds": options.pymc_limit}
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def bfi(respondents: int) -> tuple["Responses", list[str]]:
    """The first respondents of examples/bfi.csv, and the trait of each item."""
    import calibration  # noqa: PLC0415

    folder = Path(__file__).parents[1] / "examples"
    scales = tomllib.loads((folder / "bfi.toml").read_text())
    with (folder / "bfi.csv").open(newline="") as file:
        items, *rows = csv.reader(file)
    missing = {"": "nan", "NA": "nan"}
    table = [[float(missing.get(cell, cell)) for cell in row] for row in rows[:respondents]]
    turned = [item for scale in scales.values() for item in scale.get("reversed", [])]
    trait = {item: name for name, scale in scales.items() for item in scale["items"]}
    responses = calibration.Responses.from_matrix("bfi", table, items=items, reversed_items=turned)
    return responses, [trait[item] for item in items]


def correlated_personas(personas: int, seed: int = 0) -> "Responses":
    """Correlations of 0.5 to the power of the constructs' distance, five grades."""
    import calibration  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    place = np.arange(CONSTRUCTS)
    omega = 0.5 ** np.abs(place[:, None] - place)
    theta = rng.standard_normal((personas, CONSTRUCTS)) @ np.linalg.cholesky(omega).T
    slopes = np.linspace(0.8, 2.0, CONSTRUCTS)[:, None]
    above = 1 / (1 + np.exp(-slopes * (theta[:, :, None] - np.linspace(-1.6, 1.6, 4))))
    ends = np.ones((personas, CONSTRUCTS, 1)), np.zeros((personas, CONSTRUCTS, 1))
    p = -np.diff(np.concatenate([ends[0], above, ends[1]], 2))
    counts = rng.multinomial(SESSIONS * TURNS, p)
    who, item, grade = (axis.ravel() for axis in np.indices(counts.shape))
    return calibration.Responses.from_columns(
        "corpus",
        np.char.zfill(who.astype(str), 6),
        np.char.add("construct", item.astype(str)),
        grade + 1,
        count=counts.ravel(),
    )


def correlated(options: argparse.Namespace) -> dict[str, Any]:
    import calibration  # noqa: PLC0415  # its own peak memory is measured

    calibration.configure(host_devices=4, cache_dir=options.cache)
    of_survey = options.of == "survey"
    responses, traits = (
        bfi(options.respondents) if of_survey else (correlated_personas(options.personas), None)
    )
    began, cpu = time.perf_counter(), time.process_time()
    fit = calibration.fit_correlated(responses, seed=1, traits=traits)
    d = fit.diagnostics
    return {
        "respondents": fit.n_respondents,
        "traits": len(fit.traits),
        "answers": fit.n_responses,
        "wall_seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "sampling_seconds": round(d.sampling_seconds, 1),
        "compile_seconds": round(d.compile_seconds, 1),
        "peak_gib": peak_gib(),
        "draws": d.draws,
        "steps_mean": d.steps_mean,
        "r_hat_max": round(d.r_hat_max or math.nan, 4),
        "ess_bulk_min": round(d.ess_bulk_min or math.nan),
        "ess_tail_min": round(d.ess_tail_min or math.nan),
        "divergences": d.divergences,
        "correlations": np.round(fit.correlation_mean, 3).tolist(),
    }


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


def children_cpu_seconds() -> float:
    """Processor time of the child processes that still run."""
    lists = Path("/proc/self/task").glob("*/children")
    pids = [pid for path in lists for pid in path.read_text().split()]
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    ticks = sum(int(part) for stat in stats for part in stat[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


async def corpus(options: argparse.Namespace) -> dict[str, Any]:
    """The training step as the product runs it: its query, its training process."""
    from events.model import Corpus, ResponsesEvaluator, Sampler  # noqa: PLC0415
    from infra.trainer import ProcessTrainer  # noqa: PLC0415
    from infra.warehouse.duckdb import DuckDbWarehouse  # noqa: PLC0415
    from schemas.tables import GRADES  # noqa: PLC0415

    path = Path(options.path)
    warehouse = DuckDbWarehouse(path)
    ports = cast("Ports", SimpleNamespace(warehouse=warehouse))
    trainer = ProcessTrainer(Path(options.cache or path.parent / "programs"))
    shared = {
        "corpus": Corpus(personas=options.personas, sessions=SESSIONS, turns=TURNS),
        "evaluator": ResponsesEvaluator(uri="none", digest=f"sha256:{0:064d}"),  # no groups
        "method": "nuts" if options.nuts else "mml",
        "sampler": Sampler(chains=CHAINS, warmup=WARMUP, draws=options.draws),
    }
    families: list[dict[str, Any]] = []
    for family in range(options.families):
        families.append(await fitted_family(family, shared, ports, trainer))
        print(json.dumps(families[-1]), flush=True)
    rows = await warehouse.count(GRADES, where={"iteration": 10}, by=())
    await trainer.close()
    await warehouse.close()
    summed = {
        key: round(sum(family[key] for family in families), 2)
        for key in ("query_seconds", "train_seconds", "train_cpu_seconds", "checks_seconds")
    }
    last = families[-1]
    of_last = ("train_seconds", "train_cpu_seconds", "sampling_seconds")
    return {
        "grades": rows["n"][0].as_py(),
        "families": len(families),
        **summed,
        "r_hat_max": max(family["r_hat_max"] or 0.0 for family in families) or None,
        "ess_min": min(min(family["ess_bulk_min"] or 0, family["ess_tail_min"] or 0)
                       for family in families) or None,
        "divergences": sum(family["divergences"] for family in families),
        **{f"last_family_{key}": last[key] for key in of_last},
        "worker_peak_gib": peak_gib(),
        "training_peak_gib": peak_gib(resource.RUSAGE_CHILDREN),
    }  # fmt: skip


async def fitted_family(
    family: int, shared: dict[str, Any], ports: "Ports", trainer: "Trainer"
) -> dict[str, Any]:
    from events.catalogue import TrainingRequested  # noqa: PLC0415
    from events.model import Family  # noqa: PLC0415
    from handlers.training import training_job  # noqa: PLC0415

    name = f"family{family}"
    items = tuple(f"construct{i}" for i in range(CONSTRUCTS))
    event = TrainingRequested(
        iteration=10,
        family=name,
        scale=Family(family=name, items=items),
        seed=family,
        **shared,
    )
    began, cpu = time.perf_counter(), children_cpu_seconds()
    job = await training_job(event, ports)
    read = time.perf_counter()
    training = await trainer.train(job)
    return {
        "family": name,
        "query_seconds": round(read - began, 2),
        "rows_read": job.counts.num_rows,
        "arrow_mib": round(job.counts.nbytes / 2**20, 1),
        "train_seconds": round(time.perf_counter() - read, 2),
        "train_cpu_seconds": round(children_cpu_seconds() - cpu, 2),
        **training.figures,
    }


def itself(*arguments: str) -> subprocess.CompletedProcess[str]:
    """This program in a process of its own, so that each has its own peak memory."""
    command = [sys.executable, "-m", "benchmarks.calibration_scale", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=HERE.parent)


def filled_corpus(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "warehouse.duckdb"
        same = ["--path", str(path), "--personas", str(options.personas)]
        same += ["--families", str(options.families), "--draws", str(options.draws)]
        same += ["--cache", options.cache or str(Path(folder) / "programs")]
        began = time.perf_counter()
        itself("fill", *same)
        line: dict[str, Any] = {
            "fill_seconds": round(time.perf_counter() - began, 1),
            "file_mib": round(path.stat().st_size / 2**20),
        }
        for nuts in (False, True) if options.both else (options.nuts,):
            *families, total = itself("corpus", *same, *["--nuts"] * nuts).stdout.splitlines()
            print("\n".join(families), flush=True)
            print(table("nuts" if nuts else "mml", list(map(json.loads, families))), flush=True)
            line |= {"nuts": json.loads(total)} if options.both and nuts else json.loads(total)
    return line


COLUMNS = (
    "family", "query_seconds", "rows_read", "train_seconds", "train_cpu_seconds",
    "compile_seconds", "sampling_seconds", "checks_seconds", "r_hat_max", "ess_bulk_min",
    "ess_tail_min", "divergences",
)  # fmt: skip


def table(method: str, families: list[dict[str, Any]]) -> str:
    def shown(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    rows = [[shown(family[column]) for column in COLUMNS] for family in families]
    lines = [[f"{method}: {COLUMNS[0]}", *COLUMNS[1:]], ["---"] * len(COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def grow(options: argparse.Namespace, rest: list[str]) -> dict[str, Any]:
    size = "--respondents" if options.of == "survey" else "--personas"
    whole = options.respondents if options.of == "survey" else options.personas
    sizes = options.sizes or [whole // 10, whole]
    lines = []
    for n in sizes:
        what = ["correlated", options.of] if options.correlated else [options.of]
        ran = itself(*what, size, str(n), *rest)
        lines.append(json.loads(ran.stdout.splitlines()[-1]))
        print(json.dumps(lines[-1]), flush=True)
    timed = [key for key in lines[0] if key.endswith("_seconds")]
    shared = [key for key in timed if all(line.get(key, 0) > 0 for line in lines)]
    log_size = np.log(sizes)
    exponent = {
        key: round(float(np.polyfit(log_size, np.log([line[key] for line in lines]), 1)[0]), 2)
        for key in shared
    }
    return {"sizes": sizes, "exponent": exponent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["survey", "corpus", "correlated", "grow", "fill"])
    parser.add_argument("of", nargs="?", choices=["survey", "corpus"], default="survey")
    parser.add_argument("--respondents", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--personas", type=int, default=2_000)
    parser.add_argument("--families", type=int, default=FAMILIES)
    parser.add_argument("--sizes", type=int, nargs="+", default=[])
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--nuts", action="store_true")
    parser.add_argument("--correlated", action="store_true")
    parser.add_argument("--both", action="store_true")
    parser.add_argument("--rscript", default="")
    parser.add_argument("--pymc-python", default="")
    parser.add_argument("--pymc-limit", type=float, default=900.0)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--cache", default=None)
    parser.add_argument("--path", default="", help="a warehouse that `fill` has written before")
    options = parser.parse_args()
    match options.what:
        case "survey":
            line = survey(options)
        case "corpus":
            line = asyncio.run(corpus(options)) if options.path else filled_corpus(options)
        case "correlated":
            line = correlated(options)
        case "fill":
            fill(Path(options.path), options.personas, options.families)
            return
        case _:
            passed = ["--nuts"] * options.nuts + (
                ["--cache", options.cache] if options.cache else []
            )
            if options.of == "corpus":
                passed += ["--families", "2"]
            peers = {"--rscript": options.rscript, "--pymc-python": options.pymc_python}
            for flag, program in peers.items():
                passed += [flag, program] if program else []
            passed += ["--pymc-limit", str(options.pymc_limit), "--draws", str(options.draws)]
            line = grow(options, passed)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
