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
Evaluate = Callable[..., tuple[Any, Any, Any]]
"""Value, slope and curvature from (y, data); with ``curved=False`` the last is not wanted."""
_BATCH = 8
_LONGEST = 2.0  # step of a coordinate; they are logs and cut points
_NEAR = 0.5  # slope, in standard errors, of a point that is good to whiten by
_FLAT = 1e-3  # curvature of a direction that has no top: its standard error would be above 30
_WORSE = 10.0  # than the least slope so far: the search by slopes alone has lost its way


@dataclass(frozen=True, slots=True)
class Mode:
    """A maximum.

    Attributes:
        y: Where it is, shape (n,).
        value: The log density there.
        hessian: Second derivatives there, shape (n, n).
        gradient_max: Length of the slope left, in units of its standard error.
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
    evaluate: Evaluate | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
    value_error: float = 0.0,
) -> Mode:
    """Maximise a log density.

    Args:
        log_density: A module-level function (it keys the cache of compiled programs).
        start: Starting point, shape (n,).
        data: The second argument of ``log_density``.
        evaluate: Its derivatives, where there is a cheaper way than differentiating twice.
        tolerance: Length of slope allowed at the end, in units of its standard error.
        max_iterations: Steps before it gives up.
        value_error: By which values may be off from one point to the next; slopes lead on where
            they go down by no more.

    Raises:
        NotConvergedError: No mode within the steps.
    """
    look = evaluate or _differentiated(log_density)
    mode = _climb(look, data, start, tolerance, max_iterations, value_error)
    flat = np.linalg.eigvalsh(-mode.hessian)[0] < _FLAT
    if mode.gradient_max < tolerance and not flat:
        return mode
    raise NotConvergedError(
        f"no mode after {mode.iterations} Newton steps (slope {mode.gradient_max:.1e}): a "
        "parameter runs off without end, as where two items are equal, one is keyed the other "
        "way, or a category holds too few answers",
        mode.y,
    )


def find_centre(log_density: LogDensity, start: NDArray[np.float64], data: Data) -> Mode:
    """The mode, or where the density rises without end, the first point where it hardly rises.

    Coordinates of a proper posterior need not have a mode: few answers leave a correlation free
    to rise towards one along a ridge that narrows. Draws are whitened as well from its broad end.

    Raises:
        NotConvergedError: Neither was found within the steps.
    """
    try:
        return find_mode(log_density, start, data)
    except NotConvergedError:
        near = _climb(_differentiated(log_density), data, start, _NEAR, 200)
        if near.gradient_max < _NEAR:
            return near
        raise


def approach(
    evaluate: Evaluate, near: Mode, data: Data, *, tolerance: float = 1e-6, max_steps: int = 60
) -> tuple[NDArray[np.float64], int]:
    """Go from the mode of like data towards this data's by slopes alone.

    BFGS (Nocedal & Wright 2006, 6.1) from the like data's curvature. Ends where the slope is
    within the tolerance, or where steps no longer lessen it.

    Args:
        evaluate: Of the density.
        near: Of the like data.
        data: This data.
        tolerance: Length of slope, in units of its standard error.
        max_steps: Slopes that are taken at most.

    Returns:
        The point with the least slope, and the slopes taken.
    """
    inverse: NDArray[np.float64] = np.linalg.inv(-near.hessian).astype(np.float64)
    y, gradient = near.y, evaluate(near.y, data, curved=False)[1]
    best, least = y, np.inf
    taken = 1
    while taken < max_steps:
        step = inverse @ gradient
        slope = float(np.sqrt(max(gradient @ step, 0.0)))
        if slope < least:
            best, least = y, slope
        if slope < tolerance or slope > _WORSE * least or np.abs(step).max() > _LONGEST:
            break
        y = y + step
        before, gradient = gradient, evaluate(y, data, curved=False)[1]
        taken += 1
        inverse = _updated(inverse, step, before - gradient)
    return best, taken


def _updated(
    inverse: NDArray[np.float64], step: NDArray[np.float64], change: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The inverse curvature that turns the slope's change into the step it came from."""
    along = float(step @ change)
    if along <= 0:
        return inverse
    turned = inverse @ change
    updated: NDArray[np.float64] = (
        inverse
        + (1.0 + change @ turned / along) * np.outer(step, step) / along
        - (np.outer(turned, step) + np.outer(step, turned)) / along
    )
    return updated


def second_derivatives(
    log_density: LogDensity, y: NDArray[np.float64], data: Data
) -> NDArray[np.float64]:
    """Hessian of a log density at a point, shape (n, n)."""
    return _numbers(_differentiated(log_density)(y, data))[2]


def _climb(
    look: Callable[[Any, Any], tuple[Array, Array, Array]],
    data: Data,
    start: NDArray[np.float64],
    tolerance: float,
    max_iterations: int,
    value_error: float = 0.0,
) -> Mode:
    """Newton steps until the slope is small."""
    y = start
    value, gradient, hessian = _numbers(look(y, data))
    for iteration in range(max_iterations + 1):
        step, slope = _newton_step(gradient, hessian)
        done = slope < tolerance or iteration == max_iterations
        reached = None if done else _advance(look, data, y, step, value - value_error)
        if reached is None:
            break
        y, value, gradient, hessian = reached
    return Mode(y, value, hessian, slope, iteration)


@lru_cache(maxsize=32)
def _differentiated(log_density: LogDensity) -> Evaluate:
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
    """Uphill step, no coordinate by more than 2, and the slope's size in standard errors."""
    plain = _plain_step(gradient, hessian)
    if plain is not None and np.abs(plain).max() <= _LONGEST:
        return plain, float(np.sqrt(gradient @ plain))
    curvature, vectors = np.linalg.eigh(-hessian)
    strength = np.maximum(np.abs(curvature), 1e-6 * np.abs(curvature).max())
    along = vectors.T @ gradient
    slope = float(np.linalg.norm(along / np.sqrt(strength)))
    bent: NDArray[np.float64] = vectors @ (along / strength)
    largest = float(np.abs(bent).max())
    return bent * min(1.0, _LONGEST / max(largest, 1e-300)), slope


def _plain_step(
    gradient: NDArray[np.float64], hessian: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Newton's own step, at a tenth of the eigenvectors' cost; None where curvature is wrong."""
    try:
        np.linalg.cholesky(-hessian)
    except np.linalg.LinAlgError:
        return None
    step = np.linalg.solve(-hessian, gradient).astype(np.float64)
    return step if gradient @ step >= 0 else None


def _advance(
    look: Callable[[Any, Any], tuple[Array, Array, Array]],
    data: Data,
    y: NDArray[np.float64],
    step: NDArray[np.float64],
    least: float,
) -> tuple[NDArray[np.float64], float, NDArray[np.float64], NDArray[np.float64]] | None:
    """The first of step, step / 2, ... that reaches the least value; None where none does."""
    for halving in range(40):
        candidate = y + step * 0.5**halving
        reached, gradient, hessian = _numbers(look(candidate, data))
        # A step at the optimum gains less than rounding loses.
        if np.isfinite(reached) and reached >= least - 1e-9 * abs(least):
            return candidate, reached, gradient, hessian
    return None
