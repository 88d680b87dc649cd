import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from calibration import coordinates, density, nuts

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
