"""A Bayesian belief network over families, from respondents' posterior scores. NumPy only.

A linear Gaussian network (Shachter & Kenley 1989): each family's score is a linear function of
its parents' plus noise. Its structure is the directed acyclic graph with the highest BIC, found
exactly by dynamic programming over subsets (Silander & Myllymäki 2006). How sure an edge is
follows from doing it again on respondents drawn with replacement whose scores are drawn from
their posteriors (Friedman, Goldszmidt & Wyner 1999): so both the sample's and the scores' noise
count. Gaussian graphs that imply the same independences score the same, so what is reported of an
edge is how often the two families touch, and how often it points this way.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.errors import NonFiniteError, SettingError, ShapeError

MOST_FAMILIES = 12
_LEAST_RESPONDENTS = 10
_FOLDS = 5
_FEWEST_LEFT = 2  # residual degrees of freedom

_Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow of the network.

    Attributes:
        parent: Where it begins.
        child: Where it ends.
        weight: Change of the child, in its standard deviations, per one of the parent's, with the
            other parents held.
        strength: Share of the resamplings in which the two touch, whatever the direction.
        direction: Share of those in which it points this way.
    """

    parent: str
    child: str
    weight: float
    strength: float
    direction: float


@dataclass(frozen=True, slots=True)
class Network:
    """A belief network.

    Attributes:
        families: Its nodes.
        edges: Of the graph with the highest BIC.
        strength: Share of the resamplings in which two families touch, shape (n, n).
        bic: Of the graph, less that of the empty one; larger is better.
        log_score: Held-out log density per respondent, by five-fold cross-validation, the graph
            found anew in each fold.
        log_score_empty: The same of the graph without edges.
        log_score_full: The same of the graph with all of them.
        gain_se: Standard error of ``log_score - log_score_empty`` over respondents.
    """

    families: tuple[str, ...]
    edges: tuple[Edge, ...]
    strength: _Table
    bic: float
    log_score: float
    log_score_empty: float
    log_score_full: float
    gain_se: float


def learn_network(
    families: tuple[str, ...],
    mean: _Table,
    sd: _Table,
    *,
    seed: int,
    resamplings: int = 100,
) -> Network:
    """Find the network of families from their scores.

    Args:
        families: Names, 2 to 12.
        mean: Posterior means of the respondents' scores, shape (n_respondents, n_families).
        sd: Posterior standard deviations, same shape; zeros for scores known exactly.
        seed: Of the resamplings and folds.
        resamplings: At least 20.

    Raises:
        ShapeError: The arrays don't fit the names, or there are fewer than 10 respondents.
        NonFiniteError: A score is NaN or infinite, or a standard deviation negative; says whose.
        SettingError: Too few or too many families or resamplings, or a score that doesn't vary.
    """
    mean, sd = np.asarray(mean, float), np.asarray(sd, float)
    _check(families, mean, sd, resamplings)
    rng = np.random.default_rng((seed, 31))
    graph, bic = best_graph(mean)
    strength, direction = _strengths(mean, sd, resamplings, rng)
    chosen, empty, full = _held_out(mean, rng)
    weights = _weights(mean, graph)
    edges = tuple(
        Edge(
            families[p],
            families[c],
            weights[p, c],
            strength[p, c],
            direction[p, c] / max(strength[p, c], 1e-12),
        )
        for p, c in zip(*np.nonzero(graph), strict=True)
    )
    gain = chosen - empty
    return Network(
        families,
        edges,
        strength,
        bic - best_score(mean, np.zeros_like(graph)),
        float(chosen.mean()),
        float(empty.mean()),
        float(full.mean()),
        float(gain.std(ddof=1) / np.sqrt(gain.size)),
    )


def best_graph(scores: _Table) -> tuple[NDArray[np.bool_], float]:
    """The acyclic graph with the highest BIC and that BIC; ``graph[p, c]`` is an arrow p to c.

    Args:
        scores: Shape (n_respondents, n_families).
    """
    local = _Local(scores)
    n = scores.shape[1]
    parents = [_best_parents(local, child) for child in range(n)]
    # The best network of each set of nodes ends in a sink, whose parents are among the others.
    value, sink = np.zeros(1 << n), np.zeros(1 << n, int)
    for members in range(1, 1 << n):
        inside = [child for child in range(n) if members >> child & 1]
        totals = [value[m := members & ~(1 << c)] + parents[c][m][0] for c in inside]
        at = int(np.argmax(totals))
        value[members], sink[members] = totals[at], inside[at]
    graph = np.zeros((n, n), bool)
    members = (1 << n) - 1
    while members:
        child = int(sink[members])
        members &= ~(1 << child)
        chosen = parents[child][members][1]
        graph[[p for p in range(n) if chosen >> p & 1], child] = True
    return graph, float(value[-1])


def best_score(scores: _Table, graph: NDArray[np.bool_]) -> float:
    """BIC of a graph: log-likelihood less half the log of the respondents per parameter."""
    local = _Local(scores)
    return sum(
        local.score(child, tuple(np.flatnonzero(graph[:, child]).tolist()))
        for child in range(scores.shape[1])
    )


class _Local:
    """BIC of one family given its parents."""

    def __init__(self, scores: _Table) -> None:
        self.size, self.nodes = scores.shape
        self.covariance = np.atleast_2d(np.cov(scores.T, bias=True))

    def score(self, child: int, parents: tuple[int, ...]) -> float:
        if self.size - len(parents) - 1 < _FEWEST_LEFT:
            return -np.inf
        variance = _residual(self.covariance, child, parents).variance
        likelihood = -0.5 * self.size * (np.log(2 * np.pi * variance) + 1)
        return float(likelihood - 0.5 * (len(parents) + 2) * np.log(self.size))


class _Regression(NamedTuple):
    weights: _Table
    variance: float


def _residual(covariance: _Table, child: int, parents: tuple[int, ...]) -> _Regression:
    own = float(covariance[child, child])
    if not parents:
        return _Regression(np.zeros(0), own)
    among = covariance[np.ix_(parents, parents)]
    # A hair on the diagonal, for families that are equal.
    among = among + 1e-9 * np.diag(np.diag(among))
    weights = np.asarray(np.linalg.solve(among, covariance[list(parents), child]), np.float64)
    left = own - float(weights @ covariance[list(parents), child])
    return _Regression(weights, max(left, 1e-9 * own))


def _best_parents(local: _Local, child: int) -> dict[int, tuple[float, int]]:
    """For each set of other nodes, the best score with parents in it, and those parents."""
    others = [node for node in range(local.nodes) if node != child]
    best: dict[int, tuple[float, int]] = {}
    for size in range(len(others) + 1):
        for chosen in combinations(others, size):
            members = sum(1 << node for node in chosen)
            smaller = [best[members & ~(1 << node)] for node in chosen]
            best[members] = max([(local.score(child, chosen), members), *smaller])
    return best


def _strengths(
    mean: _Table, sd: _Table, resamplings: int, rng: np.random.Generator
) -> tuple[_Table, _Table]:
    """Shares of the resamplings in which two families touch, and in which the arrow is there."""
    total = np.zeros((mean.shape[1],) * 2)
    for _ in range(resamplings):
        rows = rng.integers(len(mean), size=len(mean))
        drawn = mean[rows] + sd[rows] * rng.standard_normal(mean.shape)
        total += best_graph(drawn)[0]
    directed = total / resamplings
    return directed + directed.T, directed


def _held_out(mean: _Table, rng: np.random.Generator) -> tuple[_Table, _Table, _Table]:
    """Log density of each respondent's scores by the graph found, the empty and the full one."""
    fold = rng.permutation(np.arange(len(mean)) % _FOLDS)
    n = mean.shape[1]
    logs = np.zeros((3, len(mean)))
    for k in range(_FOLDS):
        train, test = mean[fold != k], mean[fold == k]
        graphs = (best_graph(train)[0], np.zeros((n, n), bool), np.triu(np.ones((n, n), bool), 1))
        for row, graph in enumerate(graphs):
            logs[row, fold == k] = _log_density(train, test, graph)
    return logs[0], logs[1], logs[2]


def _log_density(train: _Table, test: _Table, graph: NDArray[np.bool_]) -> _Table:
    """Of the test rows, by regressions fitted on the others; variances are unbiased."""
    size, total = len(train), np.zeros(len(test))
    covariance, centre = np.atleast_2d(np.cov(train.T, bias=True)), train.mean(0)
    for child in range(train.shape[1]):
        parents = tuple(np.flatnonzero(graph[:, child]).tolist())
        weights, variance = _residual(covariance, child, parents)
        variance *= size / max(size - len(parents) - 1, 1)
        off = test[:, child] - centre[child] - (test[:, parents] - centre[list(parents)]) @ weights
        total -= 0.5 * (np.log(2 * np.pi * variance) + off**2 / variance)
    return total


def _weights(scores: _Table, graph: NDArray[np.bool_]) -> _Table:
    covariance = np.atleast_2d(np.cov(scores.T, bias=True))
    sd = np.sqrt(np.diag(covariance))
    weights = np.zeros(graph.shape)
    for child in range(len(graph)):
        parents = tuple(np.flatnonzero(graph[:, child]).tolist())
        found = _residual(covariance, child, parents).weights
        weights[list(parents), child] = found * sd[list(parents)] / sd[child]
    return weights


def _check(families: tuple[str, ...], mean: _Table, sd: _Table, resamplings: int) -> None:
    if not 2 <= len(families) <= MOST_FAMILIES or resamplings < 20:
        raise SettingError(
            f"{len(families)} families, resamplings = {resamplings}: give 2 to {MOST_FAMILIES} "
            "families and at least 20 resamplings"
        )
    if mean.ndim != 2 or mean.shape != sd.shape or mean.shape[1] != len(families):
        raise ShapeError(
            f"mean and sd have shapes {mean.shape} and {sd.shape} for {len(families)} families: "
            "give a row per respondent and a column per family"
        )
    if len(mean) < _LEAST_RESPONDENTS:
        raise ShapeError(
            f"{len(mean)} respondents have a score in every family: a network needs "
            f"{_LEAST_RESPONDENTS} or more"
        )
    bad = np.argwhere(~np.isfinite(mean) | ~np.isfinite(sd) | (sd < 0))
    if bad.size:
        row, column = bad[0]
        raise NonFiniteError(
            f"respondent {row}, family {families[column]}: score {mean[row, column]} ± "
            f"{sd[row, column]}: leave the respondent out"
        )
    still = np.flatnonzero(mean.std(0) < 1e-12)
    if still.size:
        raise SettingError(f"family {families[still[0]]}: all scores are equal: leave it out")
