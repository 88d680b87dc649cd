import csv
from pathlib import Path

import jax
import numpy as np
import pytest

from calibration import grm
from calibration.data import Responses
from calibration.results import Fit, SamplerSettings
from calibration.simulate import Truth, simulate_grades

REVERSED = ("A1", "C4", "C5", "E1", "E2", "O2", "O5")


@pytest.fixture(scope="session", autouse=True)
def _compiled_programs_are_kept(request: pytest.FixtureRequest) -> None:
    """In pytest's cache (which --cache-clear empties): most of these tests' time is compiling."""
    jax.config.update("jax_compilation_cache_dir", str(request.config.cache.mkdir("programs")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session")
def truth() -> Truth:
    return Truth(7, 10, ("art", "ideas", "fantasy", "feelings", "actions", "values"), 5)


@pytest.fixture(scope="session")
def smoke(truth: Truth) -> Responses:
    who, turn, item = (
        axis.ravel()
        for axis in np.meshgrid(
            np.arange(10), np.arange(60), np.array(truth.constructs), indexing="ij"
        )
    )
    names = np.char.add("p", who.astype(str))
    return Responses.from_columns(
        "openness",
        names,
        item,
        simulate_grades(truth, who, turn // 12, turn % 12, item),
        items=truth.constructs,
        groups={f"p{i}": int(group) for i, group in enumerate(truth.groups)},
    )


@pytest.fixture(scope="session")
def smoke_fit(smoke: Responses) -> Fit:
    return grm.fit(smoke, seed=11)


@pytest.fixture(scope="session")
def openness() -> Responses:
    path = Path(__file__).parents[3] / "examples" / "bfi.csv"
    if not path.exists():
        pytest.skip("examples/bfi.csv, the real responses, is not in this checkout")
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    columns = [index for index, item in enumerate(header) if item.startswith("O")]
    missing = {"": "nan", "NA": "nan"}
    table = [[float(missing.get(row[index], row[index])) for index in columns] for row in rows]
    items = [header[index] for index in columns]
    return Responses.from_matrix(
        "openness", table, items=items, reversed_items=[i for i in items if i in REVERSED]
    )


@pytest.fixture(scope="session")
def openness_mml(openness: Responses) -> Fit:
    return grm.fit(openness, seed=0, method="mml")


@pytest.fixture(scope="session")
def short() -> SamplerSettings:
    return SamplerSettings(chains=4, warmup=300, draws=300)
