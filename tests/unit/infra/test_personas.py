"""The simulator's personas have the traits that a fit is to find."""

import json

import numpy as np
import pyarrow as pa
import pytest

from calibration.simulate import Truth
from events.model import SimulatorEvaluator
from handlers.network import network_json
from infra.batch.grading import GradeRequest, simulated
from infra.personas import FAMILY_OF, NETWORK, truth_of
from infra.profiles import PROFILES, parameters_for

FAMILIES = PROFILES["production"].families
ITEMS = tuple(item for family in FAMILIES for item in family.items)


def test_what_the_profiles_ask_of_the_simulator():
    assert parameters_for(0, "smoke").evaluator.traits == "shared"
    assert parameters_for(10, "production").evaluator.traits == "by_family"
    assert parameters_for(0, "smoke", structure="correlated").evaluator.traits == "by_construct"


def test_personas_that_share_one_trait_are_those_of_before():
    evaluator = SimulatorEvaluator(seed=3)
    assert "traits" not in evaluator.model_dump_json()
    found = truth_of(evaluator, 10, ITEMS[:6])
    np.testing.assert_array_equal(found.traits, np.repeat(found.theta[:, None], 6, 1))
    assert found == Truth(3, 10, ITEMS[:6])


def test_a_family_s_constructs_share_its_trait_and_families_do_not():
    traits = truth_of(SimulatorEvaluator(seed=3, traits="by_family"), 500, ITEMS).traits
    by_family = {name: traits[:, [FAMILY_OF[i] == name for i in ITEMS]] for name in NETWORK}
    for own in by_family.values():
        assert np.ptp(own, axis=1).max() == 0
    assert abs(np.corrcoef(by_family["interests"][:, 0], by_family["virtues"][:, 0])[0, 1]) < 0.15


def test_constructs_correlate_as_the_truth_says():
    truth = truth_of(SimulatorEvaluator(seed=5, traits="by_construct"), 20_000, ITEMS[:6])
    root = np.sqrt(truth.common_share)
    expected = np.outer(root, root)
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(np.cov(truth.traits.T), expected, atol=0.04)
    assert 0.4 <= truth.common_share.min() < truth.common_share.max() <= 0.9


def test_families_follow_the_network():
    """A child's regression on its parents has the network's weights, and its variance is 1."""
    truth = truth_of(SimulatorEvaluator(seed=1, traits="by_family"), 20_000, ITEMS)
    column = {FAMILY_OF[item]: truth.traits[:, n] for n, item in enumerate(ITEMS)}
    for child, parents in NETWORK.items():
        x = np.stack([column[parent] for parent in parents], 1)
        found = np.linalg.lstsq(x, column[child], rcond=None)[0]
        np.testing.assert_allclose(found, list(parents.values()), atol=0.03)
        assert column[child].var() == pytest.approx(1.0, abs=0.04)


def test_a_persona_is_the_same_whatever_is_asked_beside_it():
    evaluator = SimulatorEvaluator(seed=2, traits="by_construct")
    few, many = truth_of(evaluator, 7, ("care", "wisdom")), truth_of(evaluator, 900, ITEMS)
    np.testing.assert_array_equal(
        few.traits, many.traits[:7, [ITEMS.index("care"), ITEMS.index("wisdom")]]
    )
    asked = [
        GradeRequest(row_id=f"{n}", persona=n, session=0, turn=0, constructs=("care", "wisdom"))
        for n in range(7)
    ]
    assert simulated(evaluator)(asked[:3]) == simulated(evaluator)(asked)[:3]


@pytest.mark.parametrize("traits", ["by_family", "by_construct"])
def test_the_network_step_finds_the_true_skeleton(traits):
    """At the production profile's persona number, scores as sure as its fits are."""
    personas = PROFILES["production"].corpus.personas
    truth = truth_of(SimulatorEvaluator(seed=0, traits=traits), personas, ITEMS)
    noise = np.random.default_rng(0)
    tables = [
        pa.table(
            {
                "family": [family.family] * personas,
                "persona": np.arange(personas),
                "mean": truth.traits[:, [FAMILY_OF[i] == family.family for i in ITEMS]].mean(1)
                + 0.1 * noise.standard_normal(personas),
                "sd": np.full(personas, 0.1),
            }
        )
        for family in FAMILIES
    ]
    names = tuple(sorted(family.family for family in FAMILIES))
    found = network_json(names, pa.concat_tables(tables), 0, resamplings=20)
    skeleton = {frozenset((child, parent)) for child, own in NETWORK.items() for parent in own}
    edges = json.loads(found)["edges"]
    assert {frozenset((edge["parent"], edge["child"])) for edge in edges} == skeleton
