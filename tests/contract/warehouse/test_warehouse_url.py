import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import SettingsError
from infra.warehouse import open_warehouse
from infra.warehouse.bigquery import BigQueryWarehouse
from infra.warehouse.duckdb import DuckDbWarehouse
from infra.warehouse.staging import staging_name

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "url",
    [
        "", "grades.duckdb", "sqlite:///a.db", "duckdb://", "duckdb:///", "duckdb://host/a.duckdb",
        "duckdb:///a.duckdb?mode=ro", "bigquery://", "bigquery://project", "bigquery://project/",
        "bigquery://project/a/b", "bigquery://project/dataset?region=EU",
    ],
)  # fmt: skip
def test_a_url_that_names_no_warehouse_says_what_would(url):
    with pytest.raises(SettingsError, match="use duckdb:///path/to/file or bigquery://project/"):
        open_warehouse(url)


async def test_a_duckdb_url_names_a_file(tmp_path):
    warehouse = open_warehouse(f"duckdb://{tmp_path}/with%20blank.duckdb")
    assert isinstance(warehouse, DuckDbWarehouse)
    await warehouse.open([])
    await warehouse.close()
    assert (tmp_path / "with blank.duckdb").exists()


async def test_a_bigquery_url_names_project_dataset_and_location(monkeypatch):
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "127.0.0.1:1")
    warehouse = open_warehouse("bigquery://my-project/my_dataset?location=EU")
    assert isinstance(warehouse, BigQueryWarehouse)
    assert warehouse._path("t") == ("my-project", "my_dataset", "t")
    assert warehouse._location == "EU"
    assert warehouse._endpoint == "127.0.0.1:1"
    await warehouse.close()


@pytest.mark.parametrize(
    ("url", "absent"),
    [
        (None, ["duckdb", "google", "pyarrow"]),
        ("duckdb:///tmp/never-opened.duckdb", ["google"]),
        ("bigquery://project/dataset", ["duckdb"]),
    ],
)
def test_only_the_engine_that_is_chosen_is_loaded(url, absent):
    chosen = f"infra.warehouse.open_warehouse({url!r})" if url else "None"
    script = (
        f"import infra.warehouse, sys; {chosen}; print([m for m in {absent} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"


def test_staging_names_are_legal_and_tell_claims_and_content_apart():
    names = {
        staging_name(claim, content)
        for claim in ("smoke/1/shard/0/merge", "smoke/1/shard/0_merge", "Ü/`; --", "x" * 500)
        for content in (b"", b"a")
    }
    assert len(names) == 8
    assert all(name.replace("_", "a").isalnum() and name.isascii() for name in names)
    assert max(map(len, names)) < 128
    assert staging_name("smoke/1/shard/0/merge").startswith("staging_smoke_1_shard_0_merge_")
