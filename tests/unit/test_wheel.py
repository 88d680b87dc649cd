"""What the wheel holds is what the tree holds."""

import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
NOT_SHIPPED = {"__pycache__", ".mypy_cache", ".ruff_cache"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    [path] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        yield archive


def in_tree():
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not NOT_SHIPPED & set(path.parts)
    }


def test_every_file_of_every_package_is_in_it_and_no_other(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == in_tree()


def test_files_other_than_python_are_in_it(wheel):
    assert {"infra/report/report.html.j2", "faststream_pubsub/py.typed"} <= set(wheel.namelist())


def test_its_files_are_the_tree_s(wheel):
    for name in ("nexus/app.py", "infra/report/report.html.j2"):
        assert wheel.read(name) == (ROOT / name).read_bytes()


def test_every_package_of_the_tree_is_shipped():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"benchmarks", "examples", "tests"} == set(PACKAGES)


def test_it_brings_the_command_and_the_licence(wheel):
    [info] = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    assert b"nexus = nexus.cli:main" in wheel.read(f"{info}/entry_points.txt")
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
