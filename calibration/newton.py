"""Damped Newton to a mode. The objective is compiled, the search is NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from calibration.errors import NotConvergedError

Data = Any  # a pytree of arrays, which JAX cannot type further
LogDensity = Callable[[Array, Data], Array]
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Mode:
    """A maximum.

    Attributes:
        y: Where it is, shape (n,).
        value: The log density there.
        hessian: Second derivatives there, shape (n, n).
        gradient_max: Largest slope left, in units of its standard error.
        iterations: Newton steps taken.
    """

    y: NDArray[np.float64]
    value: float
    hessian: NDArray[np.float64]
    gradient_max: float
    iterations: int


def find_mode(
    log_density: LogDensity,
    start: NDArray[np.float64],
    data: Data,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> Mode:
    """Maximise a log density.

    Args:
        log_density: A module-level function (it keys the cache of compiled programs).
        start: Starting point, shape (n,).
        data: The second argument of ``log_density``.
        tolerance: Largest slope allowed at the end, in units of its standard error.
        max_iterations: Steps before it gives up.

    Raises:
        NotConvergedError: No mode within the steps.
    """
    evaluate = _compiled(log_density)
    y = start
    value, gradient, hessian = _numbers(evaluate(y, data))
    for iteration in range(max_iterations):
        step, slope = _newton_step(gradient, hessian)
        if slope < tolerance:
            return Mode(y, value, hessian, slope, iteration)
        y, value, gradient, hessian = _advance(evaluate, data, y, step, value)
    raise NotConvergedError(
        f"no mode after {max_iterations} Newton steps (slope {slope:.1e}): a parameter runs off "
        "without end, as where two items are equal, one is keyed the other way, or a category "
        "holds too few answers"
    )


def second_derivatives(
    log_density: LogDensity, y: NDArray[np.float64], data: Data
) -> NDArray[np.float64]:
    """Hessian of a log density at a point, shape (n, n)."""
    return _numbers(_compiled(log_density)(y, data))[2]


@lru_cache(maxsize=32)
def _compiled(log_density: LogDensity) -> Callable[[Any, Any], tuple[Array, Array, Array]]:
    def evaluate(y: Array, data: Data) -> tuple[Array, Array, Array]:
        def with_value(point: Array) -> tuple[Array, Array]:
            value, slope = jax.value_and_grad(log_density)(point, data)
            return slope, value

        slope, column, value = jax.linearize(with_value, y, has_aux=True)
        # In batches: all columns at once would hold n times the table of patterns by nodes.
        # Whole batches, because a smaller last one would be compiled as well.
        directions = jnp.eye(-(-y.size // _BATCH) * _BATCH, y.size)
        hessian = jax.lax.map(column, directions, batch_size=_BATCH)[: y.size]
        return value, slope, hessian

    return jax.jit(evaluate)


def _numbers(
    result: tuple[Array, Array, Array],
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    value, gradient, hessian = result
    return float(value), np.asarray(gradient), np.asarray(hessian)


def _newton_step(
    gradient: NDArray[np.float64], hessian: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Uphill step, no coordinate by more than 2, and the slope's size."""
    curvature, vectors = np.linalg.eigh(-hessian)
    strength = np.maximum(np.abs(curvature), 1e-6 * np.abs(curvature).max())
    along = vectors.T @ gradient
    slope = float(np.max(np.abs(along) / np.sqrt(strength)))
    step = vectors @ (along / strength)
    largest = float(np.abs(step).max())
    return step * min(1.0, 2.0 / max(largest, 1e-300)), slope


def _advance(
    evaluate: Callable[[Any, Any], tuple[Array, Array, Array]],
    data: Data,
    y: NDArray[np.float64],
    step: NDArray[np.float64],
    value: float,
) -> tuple[NDArray[np.float64], float, NDArray[np.float64], NDArray[np.float64]]:
    for halving in range(40):
        candidate = y + step * 0.5**halving
        reached, gradient, hessian = _numbers(evaluate(candidate, data))
        # A step at the optimum gains less than rounding loses.
        if np.isfinite(reached) and reached >= value - 1e-9 * abs(value):
            return candidate, reached, gradient, hessian
    raise NotConvergedError(f"no Newton step raises the log density above {value:.6g}")
