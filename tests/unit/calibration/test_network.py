from itertools import product

import numpy as np
import pytest

from calibration.errors import NonFiniteError, SettingError, ShapeError
from calibration.network import best_graph, best_score, learn_network

NAMES = ("a", "b", "c", "d")


def collider(n: int, seed: int = 0) -> np.ndarray:
    """a -> c <- b, and c -> d: the only graph of its class."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n))
    c = 0.8 * a - 0.7 * b + 0.5 * rng.standard_normal(n)
    d = 0.9 * c + 0.6 * rng.standard_normal(n)
    return np.stack([a, b, c, d], 1)


def acyclic(graph: np.ndarray) -> bool:
    return not np.linalg.matrix_power(np.eye(len(graph)) + graph, len(graph)).trace() > len(graph)


def test_the_graph_is_the_best_of_all_graphs() -> None:
    scores = collider(40, seed=3)[:, [2, 0, 3]]
    cells = [(p, c) for p in range(3) for c in range(3) if p != c]
    best = -np.inf
    for kept in product((False, True), repeat=6):
        graph = np.zeros((3, 3), bool)
        for (p, c), there in zip(cells, kept, strict=True):
            graph[p, c] = there
        if acyclic(graph):
            best = max(best, best_score(scores, graph))
    assert best_graph(scores)[1] == pytest.approx(best, rel=1e-12)


def test_a_collider_is_found_with_its_weights_and_is_sure() -> None:
    scores = collider(800)
    network = learn_network(NAMES, scores, np.zeros_like(scores), seed=0, resamplings=20)
    found = {(edge.parent, edge.child): edge for edge in network.edges}
    assert set(found) == {("a", "c"), ("b", "c"), ("c", "d")}
    spread = np.sqrt(0.8**2 + 0.7**2 + 0.5**2)
    assert found["a", "c"].weight == pytest.approx(0.8 / spread, abs=0.05)
    assert found["b", "c"].weight == pytest.approx(-0.7 / spread, abs=0.05)
    assert all(edge.strength == 1.0 and edge.direction > 0.9 for edge in network.edges)
    assert network.log_score - network.log_score_empty > 5 * network.gain_se
    assert network.log_score == pytest.approx(network.log_score_full, abs=0.02)


def test_unrelated_families_stay_apart_and_beat_the_full_graph() -> None:
    scores = np.random.default_rng(5).standard_normal((60, 4))
    network = learn_network(NAMES, scores, np.full_like(scores, 0.3), seed=1, resamplings=20)
    assert len(network.edges) <= 1
    assert network.strength.max() < 0.7
    assert network.log_score > network.log_score_full
    assert network.bic >= 0


def test_noise_of_the_scores_makes_an_edge_less_sure() -> None:
    rng = np.random.default_rng(2)
    a = rng.standard_normal(60)
    scores = np.stack([a, 0.45 * a + rng.standard_normal(60)], 1)
    sure, unsure = (
        learn_network(("a", "b"), scores, np.full_like(scores, sd), seed=0, resamplings=200)
        for sd in (0.0, 1.5)
    )
    assert sure.strength[0, 1] > unsure.strength[0, 1] + 0.2


def test_families_that_are_equal_have_finite_scores() -> None:
    a = np.random.default_rng(0).standard_normal(50)
    scores = np.stack([a, a, np.roll(a, 1)], 1)
    network = learn_network(("a", "b", "c"), scores, np.zeros_like(scores), seed=0, resamplings=20)
    assert np.isfinite([network.bic, network.log_score, network.gain_se]).all()
    assert network.strength[0, 1] == 1.0


def test_scores_that_make_no_network_are_refused_by_name() -> None:
    scores = collider(20)
    zeros = np.zeros_like(scores)
    with pytest.raises(SettingError, match="1 families"):
        learn_network(("a",), scores[:, :1], zeros[:, :1], seed=0)
    with pytest.raises(ShapeError, match="for 3 families"):
        learn_network(("a", "b", "c"), scores, zeros, seed=0)
    with pytest.raises(ShapeError, match="9 respondents have a score in every family"):
        learn_network(NAMES, scores[:9], zeros[:9], seed=0)
    scores[4, 1] = np.nan
    with pytest.raises(NonFiniteError, match="respondent 4, family b: score nan"):
        learn_network(NAMES, scores, zeros, seed=0)
    scores[:, 1] = 2.0
    with pytest.raises(SettingError, match="family b: all scores are equal"):
        learn_network(NAMES, scores, zeros, seed=0)
