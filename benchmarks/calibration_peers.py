"""Our marginal maximum likelihood and posterior against R's mirt and ltm, on real responses.

    python benchmarks/calibration_peers.py [--responses FILE.csv] [--scales FILE.toml]
        [--rscript Rscript] [--peers mirt ltm] [--posterior [--weak]]
    python benchmarks/calibration_peers.py --published [NAME ...] [--data PACKAGE::EXPRESSION ...]

The second form takes published data from the R packages that hold them: those of
`calibration_published.toml`, some by name or all, or any other, such as mirt::Science.

The peers are foreign programs: those that are not installed are skipped, by name. A line of JSON
per scale. Differences of estimates are in standard errors (mirt's), the largest over all a and b.
Seconds are medians of warm fits; `first` is this process's first fit of that shape, compiling (or
loading what an earlier process has compiled) included.
"""

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from calibration.runtime import configure

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
configure(host_devices=4)

import numpy as np  # noqa: E402  # after its settings
from numpy.typing import NDArray  # noqa: E402

from calibration import grm  # noqa: E402  # after JAX's settings
from calibration.data import Responses  # noqa: E402
from calibration.errors import CalibrationError  # noqa: E402
from calibration.results import WEAK_PRIORS, Fit, Priors  # noqa: E402

Estimates = dict[str, list[float]]


def table_of(lines: Iterable[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Header and rows of responses: a column per item, empty or NA = missing."""
    header, *rows = csv.reader(lines)
    missing = {"": "nan", "NA": "nan"}
    return header, np.array([[float(missing.get(cell, cell)) for cell in row] for row in rows])


def scales_of(responses: Path, scales: Path | None) -> list[Responses]:
    """Every scale of a file of responses."""
    with responses.open(newline="") as file:
        header, table = table_of(file)
    families = (
        {"all": {"items": header}} if scales is None else tomllib.loads(scales.read_text("utf-8"))
    )
    return [
        Responses.from_matrix(
            family,
            table[:, [header.index(item) for item in said["items"]]],
            items=said["items"],
            reversed_items=said.get("reversed", ()),
        )
        for family, said in families.items()
    ]


def published(rscript: str, name: str, expression: str) -> Responses | None:
    """What an R package holds; None where it can't be had or calibrated, with a word."""
    ran = subprocess.run(
        [rscript, str(HERE / "calibration_peers.R"), "--data", expression],
        capture_output=True,
        text=True,
        check=False,
    )
    why = ran.stderr.strip()[-300:]
    if not ran.returncode:
        header, table = table_of(ran.stdout.splitlines())
        try:
            return Responses.from_matrix(name, table, items=header)
        except CalibrationError as error:
            why = str(error)
    print(json.dumps({"skipped": name, "why": why}), flush=True)
    return None


def write_grades(responses: Responses, path: Path) -> None:
    """The keyed grades as a table that R reads; respondents without an answer are not there."""
    answered = responses.counts.sum(2) > 0
    place = responses.counts.argmax(2)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(responses.items)
        for there, row in zip(answered, place, strict=True):
            writer.writerow(
                responses.categories[j][k] if seen else "NA"
                for j, (seen, k) in enumerate(zip(there, row, strict=True))
            )


class Peer:
    """What an R package said: figures by name, and estimates and errors by item, a first."""

    def __init__(self) -> None:
        self.version = ""
        self.figures: dict[str, float] = {}
        self.estimate: Estimates = {}
        self.error: Estimates = {}

    def hear(self, quantity: str, item: str, value: float) -> None:
        if quantity.startswith("version_"):
            self.version = quantity.removeprefix("version_")
        elif item:
            getattr(self, quantity).setdefault(item, []).append(value)
        else:
            self.figures[quantity] = value

    def said(self) -> dict[str, Any]:
        """What it holds where ours refuses: its least and largest discrimination among it."""
        slopes = [values[0] for values in self.estimate.values()]
        return {**self.figures, "least_a": min(slopes), "largest_a": max(slopes)}


def ask_r(rscript: str, responses: Responses, packages: list[str]) -> dict[str, Peer]:
    """The peers' fits; a package that is not installed is left out, with a word."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grades.csv"
        write_grades(responses, path)
        asked = {package: asked_of(rscript, path, package) for package in packages}
    return {package: peer for package, peer in asked.items() if peer is not None}


def asked_of(rscript: str, grades: Path, package: str) -> Peer | None:
    """One peer's fit; None where it can't be had, with a word."""
    ran = subprocess.run(
        [rscript, str(HERE / "calibration_peers.R"), str(grades), package],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        print(json.dumps({"skipped": package, "why": ran.stderr.strip()[-300:]}))
        return None
    said = Peer()
    for name, quantity, item, _, value in csv.reader(ran.stdout.splitlines()):
        if name == package:
            said.hear(quantity, item, float(value))
    return said


def estimates_of(fit: Fit) -> tuple[Estimates, Estimates]:
    means = {e.item: [s.mean for s in (e.discrimination, *e.thresholds)] for e in fit.estimates}
    errors = {e.item: [s.sd for s in (e.discrimination, *e.thresholds)] for e in fit.estimates}
    return means, errors


def flat(estimates: Estimates, items: tuple[str, ...]) -> NDArray[np.float64]:
    return np.concatenate([estimates[item] for item in items])


def timed_mml(responses: Responses, rounds: int = 5) -> tuple[Fit, dict[str, float]]:
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        fit = grm.fit(responses, seed=0, method="mml")
        seconds.append(time.perf_counter() - began)
    warm = statistics.median(seconds[1:])
    return fit, {"first_seconds": round(seconds[0], 3), "warm_seconds": round(warm, 4)}


def against(fit: Fit, peer: Peer, warm: float) -> dict[str, Any]:
    means, errors = estimates_of(fit)
    ours = flat(means, fit.items)
    theirs = flat(peer.estimate, fit.items)
    scale = flat(peer.error or errors, fit.items)
    line = {
        "version": peer.version,
        "log_likelihood": round(peer.figures["log_likelihood"], 5),
        "ours_less_theirs": round(fit.log_likelihood - peer.figures["log_likelihood"], 5),
        "largest_difference_in_errors": round(float(np.max(np.abs(ours - theirs) / scale)), 5),
        "seconds": peer.figures["seconds"],
        "load_seconds": peer.figures["load_seconds"],
        "times_as_fast": round(peer.figures["seconds"] / warm, 1),
    }
    if peer.error:
        ratio = flat(errors, fit.items) / scale
        line["seconds_with_errors"] = peer.figures["seconds_with_errors"]
        line["errors_ratio"] = [round(float(ratio.min()), 4), round(float(ratio.max()), 4)]
    return line


def posterior_against(responses: Responses, peer: Peer, priors: Priors) -> dict[str, Any]:
    began = time.perf_counter()
    fit = grm.fit(responses, seed=1, priors=priors)
    difference = np.abs(flat(estimates_of(fit)[0], fit.items) - flat(peer.estimate, fit.items))
    said = fit.diagnostics
    return {
        "largest_difference": round(float(difference.max()), 4),
        "largest_difference_in_errors": round(
            float((difference / flat(peer.error, fit.items)).max()), 3
        ),
        "wall_seconds": round(time.perf_counter() - began, 1),
        "sampling_seconds": round(said.sampling_seconds, 1),
        "r_hat_max": said.r_hat_max,
        "ess_min": round(min(said.ess_bulk_min or 0, said.ess_tail_min or 0)),
        "divergences": said.divergences,
    }


def asked_for(options: argparse.Namespace) -> Iterator[Responses]:
    if options.published is None and not options.data:
        is_bfi = options.scales is None and options.responses == EXAMPLES / "bfi.csv"
        yield from scales_of(options.responses, EXAMPLES / "bfi.toml" if is_bfi else options.scales)
        return
    known = tomllib.loads((HERE / "calibration_published.toml").read_text("utf-8"))
    names = [] if options.published is None else options.published or list(known)
    wanted = {name: known[name] for name in names} | {text: text for text in options.data}
    for name, expression in wanted.items():
        responses = published(options.rscript, name, expression)
        if responses is not None:
            yield responses


def compared(
    responses: Responses, packages: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    line: dict[str, Any] = {
        "scale": responses.family,
        "respondents": responses.n_respondents,
        "items": len(responses.items),
    }
    said = ask_r(options.rscript, responses, packages)
    try:
        fit, seconds = timed_mml(responses)
    except CalibrationError as error:
        return line | {"refused": str(error)} | {name: peer.said() for name, peer in said.items()}
    line |= {
        "log_likelihood": round(fit.log_likelihood, 5),
        "newton_iterations": fit.diagnostics.newton_iterations,
        **seconds,
    }
    for package, peer in said.items():
        line[package] = against(fit, peer, seconds["warm_seconds"])
    if options.posterior and "mirt" in said:
        line["posterior"] = posterior_against(
            responses, said["mirt"], WEAK_PRIORS if options.weak else Priors()
        )
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=Path, default=EXAMPLES / "bfi.csv")
    parser.add_argument("--scales", type=Path, default=None)
    parser.add_argument("--published", nargs="*", default=None)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--rscript", default="Rscript")
    parser.add_argument("--peers", nargs="*", default=["mirt", "ltm"])
    parser.add_argument("--posterior", action="store_true")
    parser.add_argument("--weak", action="store_true", help="Weak priors for the posterior.")
    options = parser.parse_args()
    packages = options.peers if shutil.which(options.rscript) else []
    if options.peers and not packages:
        print(json.dumps({"skipped": options.peers, "why": f"no {options.rscript} on the path"}))
    for responses in asked_for(options):
        print(json.dumps(compared(responses, packages, options)), flush=True)


if __name__ == "__main__":
    main()
