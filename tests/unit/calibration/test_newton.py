import jax.numpy as jnp
import numpy as np
import pytest

from calibration.errors import NotConvergedError
from calibration.newton import find_centre, find_mode


def rising(y, data):
    """Rises for ever along the first coordinate, ever more slowly; a normal along the second."""
    return -jnp.exp(-y[0]) - 0.5 * (y[1] - data) ** 2


def falling_ever(y, data):
    """Its slope is as steep everywhere, and its curvature nothing."""
    return data * y[0] - 0.5 * y[1] ** 2


def test_a_density_that_rises_without_end_has_no_mode():
    with pytest.raises(NotConvergedError, match="runs off without end"):
        find_mode(rising, np.zeros(2), 3.0)


def test_its_centre_is_the_first_point_where_it_hardly_rises():
    centre = find_centre(rising, np.zeros(2), 3.0)
    assert centre.gradient_max < 0.5
    assert 1.0 <= centre.y[0] <= 4.0
    assert centre.iterations <= 6


def test_the_centre_of_a_density_with_a_mode_is_the_mode():
    centre = find_centre(lambda y, data: -jnp.sum((y - data) ** 2), np.zeros(2), 3.0)
    np.testing.assert_allclose(centre.y, 3.0)


def test_no_centre_is_made_up():
    with pytest.raises(NotConvergedError):
        find_centre(falling_ever, np.zeros(2), 3.0)
