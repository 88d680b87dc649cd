import subprocess
import sys

import numpy as np
import pytest

from calibration.errors import SettingError, UnknownItemError
from calibration.simulate import Truth, simulate_grades

NAMES = ("art", "ideas", "values")


def rows(n: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    return (
        rng.integers(0, 40, n),
        rng.integers(0, 50, n),
        rng.integers(0, 12, n),
        np.array(NAMES)[rng.integers(0, 3, n)],
    )


def test_a_row_is_the_same_in_any_order_and_batch() -> None:
    truth, columns = Truth(5, 40, NAMES), rows(2000)
    whole = simulate_grades(truth, *columns)
    order = np.random.default_rng(0).permutation(2000)
    np.testing.assert_array_equal(
        simulate_grades(truth, *(c[order] for c in columns)), whole[order]
    )
    np.testing.assert_array_equal(simulate_grades(truth, *(c[:7] for c in columns)), whole[:7])


def test_more_personas_and_other_constructs_leave_a_row_as_it_was() -> None:
    few, many = Truth(5, 40, NAMES), Truth(5, 2000, ("zeal", *NAMES[::-1]))
    np.testing.assert_array_equal(many.theta[:40], few.theta)
    np.testing.assert_array_equal(
        simulate_grades(few, *rows(500)), simulate_grades(many, *rows(500))
    )


@pytest.mark.parametrize("column", range(4))
def test_every_coordinate_and_the_seed_change_the_draw(column: int) -> None:
    truth, columns = Truth(5, 41, NAMES), list(rows(2000))
    before = simulate_grades(truth, *columns)
    columns[column] = np.roll(columns[column], 1) if column == 3 else columns[column] + 1
    assert (simulate_grades(truth, *columns) != before).mean() > 0.3
    assert (simulate_grades(Truth(6, 41, NAMES), *rows(2000)) != before).mean() > 0.3


def test_shares_are_those_of_the_model() -> None:
    truth = Truth(1, 3, ("art",), 4)
    grades = simulate_grades(truth, 1, 0, np.arange(200_000), "art")
    eta = truth.discrimination[0] * (truth.theta[1] - truth.thresholds[0])
    expected = -np.diff(np.concatenate([[1.0], 1 / (1 + np.exp(-eta)), [0.0]]))
    shares = np.bincount(grades, minlength=5)[1:] / 200_000
    np.testing.assert_allclose(shares, expected, atol=5 * np.sqrt(0.25 / 200_000))


def test_turns_are_uncorrelated() -> None:
    truth = Truth(1, 2, ("art",), 5)
    grades = simulate_grades(truth, 0, np.arange(2000)[:, None], np.arange(12), "art").astype(float)
    assert np.abs(np.corrcoef(grades.T)[np.triu_indices(12, 1)]).max() < 5 / np.sqrt(2000)


def test_traits_spread_like_a_standard_normal_even_when_few() -> None:
    for seed in range(20):
        theta = Truth(seed, 10, NAMES).theta
        assert abs(theta.mean()) < 0.5
        assert 0.7 < theta.std() < 1.3


def test_thresholds_increase_and_discriminations_are_positive() -> None:
    for seed in range(20):
        truth = Truth(seed, 2, NAMES, 7)
        assert (np.diff(truth.thresholds, axis=1) > 0).all()
        assert (truth.discrimination > 0).all()


def test_what_the_truth_does_not_hold_is_refused() -> None:
    truth = Truth(0, 2, NAMES)
    with pytest.raises(UnknownItemError, match="construct zeal"):
        simulate_grades(truth, 0, 0, 0, "zeal")
    with pytest.raises(SettingError, match="persona 2: give 0 to 1"):
        simulate_grades(truth, [0, 2], 0, 0, "art")
    with pytest.raises(SettingError, match="n_categories = 1"):
        Truth(0, 2, NAMES, 1)


def test_simulating_loads_no_jax() -> None:
    code = (
        "import sys, calibration, calibration.simulate, calibration.data, calibration.gates\n"
        "heavy = {'jax', 'numpyro', 'arviz', 'scipy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
