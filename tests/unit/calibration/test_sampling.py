import os
import subprocess
import sys
from functools import partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from calibration import coordinates, density, grm, nuts
from calibration.correlated import fit_correlated
from calibration.data import Responses
from calibration.results import SamplerSettings

TELL = "from calibration import configure; configure(); import os; print(os.environ['XLA_FLAGS'])"
SMALL_LOOP = "xla_cpu_small_while_loop_byte_threshold"


@pytest.mark.parametrize("total", [1, 124, 125, 126, 400, 999, 5000])
def test_blocks_cover_every_draw_once(total: int) -> None:
    blocks = list(nuts._blocks(total))
    assert [done for done, _ in blocks] == np.cumsum([0, *(n for _, n in blocks)])[:-1].tolist()
    assert sum(n for _, n in blocks) == total


@pytest.mark.parametrize(
    ("given", "kept"), [("", "1048576"), (f"--xla_backend_extra_options={SMALL_LOOP}=7", "7")]
)
def test_small_loops_are_compiled_into_one_function(given: str, kept: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", TELL],
        env={**os.environ, "XLA_FLAGS": given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [flag for flag in told.stdout.split() if SMALL_LOOP in flag] == [
        f"--xla_backend_extra_options={SMALL_LOOP}={kept}"
    ]


def test_the_middle_cut_stands_for_the_lowest() -> None:
    used = np.array([[True] * 4, [True, True, True, False], [True, False, False, False]])
    rng = np.random.default_rng(5)
    items = rng.standard_normal(3 * 5)
    y = coordinates.from_lowest_to_middle(items, used)
    known = density.from_middle(density.split_items(jnp.asarray(y), 3, 4), jnp.asarray(used))
    stated = coordinates.unpack_items(items, 3, 4)
    for part, back, told in zip(
        stated, coordinates.unpack_from_middle(y, used), known, strict=True
    ):
        np.testing.assert_allclose(back, part)
        np.testing.assert_allclose(np.asarray(told), part)
    cuts = np.asarray(density.cut_points(known, jnp.asarray(used)))
    np.testing.assert_allclose(y[3:6], [cuts[0, 2], cuts[1, 1], cuts[2, 0]])


def test_points_and_curvatures_are_the_same_from_either_cut() -> None:
    used = np.array([[True] * 4, [True, True, True, False], [True, False, False, False]])
    rng = np.random.default_rng(6)
    y = rng.standard_normal(2 + 3 * 5)
    middle = coordinates.from_lowest_to_middle(y, used)
    np.testing.assert_array_equal(middle[:2], y[:2])
    np.testing.assert_allclose(coordinates.from_middle_to_lowest(middle, used), y)
    np.testing.assert_allclose(density.count_from_lowest(jnp.asarray(middle), used), y)

    bent = rng.standard_normal((y.size, y.size))

    def around_the_mode(at: Array) -> Array:
        return -0.5 * jnp.sum((bent @ (density.count_from_lowest(at, used) - y)) ** 2)

    hessian = jax.hessian(around_the_mode)(jnp.asarray(middle))
    told = coordinates.curvature_from_middle(y, -bent.T @ bent, used)
    np.testing.assert_allclose(told, hessian, atol=1e-9)


def test_standardised_cuts_are_the_thresholds_of_factor_analysis() -> None:
    """Loading l = a' / sqrt(1 + a'^2) with a' = a / 1.7, threshold t: c = 1.7 t / sqrt(1 - l^2)."""
    used = np.array([[True] * 4, [True, True, True, False], [True, False, False, False]])
    rng = np.random.default_rng(7)
    y = rng.standard_normal(2 + 3 * 5)
    standardised = coordinates.standardise(y, used)
    np.testing.assert_array_equal(standardised[:5], y[:5])
    stated, log_jacobian = density.from_standardised(jnp.asarray(standardised), used)
    np.testing.assert_allclose(stated, y)
    change = jax.jacfwd(lambda at: density.from_standardised(at, used)[0])(standardised)
    assert float(log_jacobian) == pytest.approx(np.linalg.slogdet(change)[1])

    normal = np.exp(y[2:5]) / 1.7
    loading = normal / np.sqrt(1 + normal**2)
    cuts = np.asarray(density.cut_points(density.split_items(jnp.asarray(y), 3, 4), used))
    thresholds = cuts / 1.7 * np.sqrt(1 - loading**2)[:, None]
    middle = standardised[5:8] / 1.7
    np.testing.assert_allclose(middle, [thresholds[0, 2], thresholds[1, 1], thresholds[2, 0]])
    gaps = np.exp(standardised[8:].reshape(3, 3)) / 1.7
    np.testing.assert_allclose(gaps[0], np.diff(thresholds[0]))
    np.testing.assert_allclose(gaps[1, :2], np.diff(thresholds[1, :3]))


def test_a_lowest_category_that_few_used_bends_no_chain() -> None:
    rng = np.random.default_rng(0)
    b = np.tile([-1.5, -0.3, 0.8, 2.0], (5, 1))
    b[0] = [-5.5, -4.9, -0.5, 1.5]
    a = np.array([0.8, 1.2, 1.5, 1.0, 1.8])
    b[2] = [-1.0, 0.5, 4.9, 5.5]
    eta = a * rng.standard_normal(500)[:, None] + rng.logistic(size=(500, 5))
    grades = (eta[..., None] > a[:, None] * b).sum(-1)
    who, item = (axis.ravel() for axis in np.indices(grades.shape))
    names = np.array(list("vwxyz"))[item]
    responses = Responses.from_columns(
        "f", np.char.zfill(who.astype(str), 3), names, grades.ravel()
    )
    assert responses.counts[:, 0].sum(0).tolist() == [6, 2, 209, 167, 116]
    settings = SamplerSettings(warmup=300, draws=500)
    assert grm.fit(responses, seed=0, sampler=settings).diagnostics.divergences == 0


def normal(y: Array, data: Array) -> Array:
    return -0.5 * jnp.sum((y - data) ** 2)


def test_chains_in_step_draw_what_chains_apart_draw(
    short: SamplerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where JAX has an accelerator, chains are one batch: here the CPU is taken for one."""
    at = nuts.Whitened(jnp.zeros(3), jnp.eye(3), jnp.array([0.0, 2.0, -1.0]))

    def drawn() -> nuts.Chains:
        nuts._program.cache_clear()
        return nuts.sample(normal, at, seed=5, settings=short, tell=lambda *_: None, short_every=16)

    apart = drawn()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    in_step = drawn()
    nuts._program.cache_clear()
    assert apart.y.shape == in_step.y.shape == (4, 300, 3)
    np.testing.assert_allclose(in_step.y, apart.y, atol=1e-6)
    np.testing.assert_allclose(in_step.step_size, apart.step_size)
    np.testing.assert_array_equal(in_step.steps, apart.steps)


class LoweredError(Exception):
    """Nothing is sampled."""


@pytest.mark.parametrize(("n", "correlated"), [(10, False), (100, False), (10, True), (501, True)])
def test_programs_can_be_compiled_for_cuda(
    n: int, correlated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as that can be told without a GPU: none of their operations is for CPUs alone."""
    find = nuts._program

    def lower(*how: Any) -> NoReturn:
        program = find(*how)

        def start(keys: Array, whitened: nuts.Whitened) -> NoReturn:
            state = jax.eval_shape(program.start, keys, whitened)
            for_cuda = partial(jax.export.export, platforms=["cuda"])
            assert for_cuda(program.start)(keys, whitened).platforms == ("cuda",)
            assert for_cuda(program.advance)(state, 0, whitened).platforms == ("cuda",)
            raise LoweredError

        return program._replace(start=start)

    monkeypatch.setattr(nuts, "_program", lower)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    find.cache_clear()
    rng = np.random.default_rng(0)
    theta = np.repeat(rng.standard_normal((n, 2)), 2, 1)
    grades = (theta + rng.logistic(size=(600 // n, n, 4)) > 0).sum(0)
    who, item = (axis.ravel() for axis in np.indices(grades.shape))
    responses = Responses.from_columns("f", who, np.array(list("wxyz"))[item], grades.ravel())
    traits = ("p", "p", "q", "q")
    fit = partial(fit_correlated, traits=traits) if correlated else grm.fit
    with pytest.raises(LoweredError):
        fit(responses, seed=0)
    find.cache_clear()


def bell(y: Array, sd: Array) -> Array:
    """A normal density's logarithm."""
    return -0.5 * jnp.sum((y / sd) ** 2)


@pytest.mark.parametrize(("longest", "long"), [(1.0, False), (40.0, True)])
def test_short_trees_are_made_longer_where_they_creep(longest: float, long: bool) -> None:
    sd = jnp.array([1.0, 1.0, longest])
    chains = nuts.sample_in_short_trees(
        bell,
        nuts.Whitened(jnp.zeros(3), jnp.eye(3), sd),
        seed=0,
        settings=SamplerSettings(chains=2, warmup=100, draws=200),
        tell=lambda *_: None,
    )
    assert bool(chains.steps.max() >= 2**nuts.SHORT_TREES) is long
    assert chains.y[:, :, 2].std() == pytest.approx(longest, rel=0.3)
