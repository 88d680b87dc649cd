"""How often gates 5 to 10 hold a fit of data that the model is true of, and of data it is not.

    python benchmarks/calibration_gates.py [--replications 100] [--seed 0] [--respondents 500]

Surveys: five items, four categories, one answer each, by maximum likelihood; the second wave of
gate 10 has other respondents. Personas: ten, six items, 60 answers each, by NUTS; the second wave
has the same personas. Each known fault is put into the same surveys. Prints a line of JSON per
world: the share of replications that fail each gate, and how often the faulty item is named.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.runtime import configure

configure(host_devices=4)

from calibration import gates, grm  # noqa: E402  # after JAX's settings
from calibration.artefact import GrmArtefact  # noqa: E402
from calibration.conformal import predict_sets  # noqa: E402
from calibration.data import Responses  # noqa: E402
from calibration.invariance import compare, differences_p_value, name_items  # noqa: E402
from calibration.predictive import check_fit  # noqa: E402
from calibration.results import Fit, SamplerSettings  # noqa: E402
from calibration.stability import compare_versions  # noqa: E402

Items = tuple[NDArray[np.float64], NDArray[np.float64]]
ITEMS = ("u", "v", "w", "x", "y")
SAMPLER = SamplerSettings()


@dataclass(frozen=True)
class Waves:
    """Two fits of one instrument; the gates judge the second."""

    first: Responses
    second: Responses
    method: str


def truth(rng: np.random.Generator, n_items: int) -> Items:
    a = np.exp(rng.normal(0.3, 0.3, n_items))
    b = np.array([-1.2, 0.0, 1.2]) + rng.normal(0, 0.4, (n_items, 1)) + rng.normal(0, 0.1, 3)
    return a, np.sort(b, axis=1)


def answers(
    rng: np.random.Generator, theta: NDArray[np.float64], items: Items
) -> NDArray[np.int64]:
    """Grades 0 to 3; theta has one column per item, or one for all."""
    a, b = items
    u = rng.random((len(theta), a.size))
    reached = [u < 1 / (1 + np.exp(-a * (theta - b[:, k]))) for k in range(3)]
    grades: NDArray[np.int64] = np.sum(reached, axis=0)
    return grades


def survey(grades: NDArray[np.int64]) -> Responses:
    groups = np.arange(len(grades)) % 2
    return Responses.from_matrix("f", grades, items=ITEMS, groups=groups)


def surveys(
    n: int, fault: Callable[[np.random.Generator, NDArray[np.float64], Items], NDArray[np.int64]]
) -> Callable[[np.random.Generator], Waves]:
    def draw(rng: np.random.Generator) -> Waves:
        items = truth(rng, len(ITEMS))
        first = answers(rng, rng.standard_normal((n, 1)), items)
        second = fault(rng, rng.standard_normal((n, 1)), items)
        # Maximum likelihood runs off on a reversed item, and is refused.
        method = "nuts" if fault is reversed_item else "mml"
        return Waves(survey(first), survey(second), method)

    return draw


def second_trait(
    rng: np.random.Generator, theta: NDArray[np.float64], items: Items
) -> NDArray[np.int64]:
    own = 0.7 * rng.standard_normal((len(theta), 1)) * np.array([1, 1, 0, -1, -1])
    return answers(rng, theta + own, items)


def moved(rng: np.random.Generator, theta: NDArray[np.float64], items: Items) -> NDArray[np.int64]:
    return answers(rng, theta, (items[0], items[1] + np.array([0, 0, 0.8, 0, 0])[:, None]))


def reversed_item(
    rng: np.random.Generator, theta: NDArray[np.float64], items: Items
) -> NDArray[np.int64]:
    grades = answers(rng, theta, items)
    grades[:, 2] = 3 - grades[:, 2]
    return grades


def biased(rng: np.random.Generator, theta: NDArray[np.float64], items: Items) -> NDArray[np.int64]:
    shift = np.outer(np.arange(len(theta)) % 2, [0, 0, 1.0, 0, 0])
    return answers(rng, theta - shift, items)


def personas(rng: np.random.Generator) -> Waves:
    a, b = truth(rng, 6)
    theta = rng.standard_normal(10)
    who = np.repeat(np.arange(10), 60)

    def wave() -> Responses:
        grades = answers(rng, theta[who][:, None], (a, b))
        name = np.tile(np.arange(6), len(who)).astype(str)
        groups = {str(i): i % 2 for i in range(10)}
        return Responses.from_columns("f", np.repeat(who, 6), name, grades.ravel(), groups=groups)

    return Waves(wave(), wave(), "nuts")


def fitted(responses: Responses, method: str, seed: int) -> Fit:
    return grm.fit(responses, seed=seed, method=method, sampler=SAMPLER)  # type: ignore[arg-type]  # nuts or mml


def verdicts(waves: Waves, seed: int) -> Iterator[str]:
    """The failed gates, by name, and the items that gate 8 and 10 would name."""
    before = GrmArtefact.from_fit(fitted(waves.first, waves.method, seed))
    try:
        fit = fitted(waves.second, waves.method, seed)
    except grm.NotConvergedError:
        yield "no fit"
        return
    levels = compare(waves.second)
    scalar, differ = levels[-1].holds, differences_p_value(levels) < 0.01
    items = () if scalar and not differ else name_items(waves.second)
    moves = compare_versions(GrmArtefact.from_fit(fit), before)
    evidence = gates.Evidence(
        check_fit(fit, waves.second, seed=seed),
        predict_sets(waves.second, seed=seed, method=fit.diagnostics.method),
        moves,
        items,
    )
    for gate in gates.judge(fit, levels, evidence):
        if not gate.passed:
            yield f"{gate.number} {gate.name}"
    if not scalar:
        yield "scalar invariance"
    yield from (f"differs: {item.item}" for item in items if not item.invariant)
    yield from (f"moved: {item}" for item in moves.moved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=100)
    parser.add_argument("--personas", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--respondents", type=int, default=500)
    options = parser.parse_args()
    n = options.respondents
    worlds = {
        "true, survey": (surveys(n, answers), options.replications),
        "a second trait parts u, v from x, y": (
            surveys(n, second_trait),
            options.replications // 5,
        ),
        "w moved by 0.8": (surveys(n, moved), options.replications // 5),
        "w keyed the other way": (surveys(n, reversed_item), options.replications // 5),
        "w harder by 1 in one group": (surveys(n, biased), options.replications // 5),
        "true, personas": (personas, options.personas),
    }
    for name, (draw, replications) in worlds.items():
        seen: Counter[str] = Counter()
        for replication in range(replications):
            rng = np.random.default_rng((options.seed, replication))
            seen.update(set(verdicts(draw(rng), replication)))
        shares = {what: round(count / replications, 3) for what, count in sorted(seen.items())}
        print(
            json.dumps({"world": name, "replications": replications, "failed": shares}), flush=True
        )


if __name__ == "__main__":
    main()
