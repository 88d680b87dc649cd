from pathlib import Path

import pytest

from infra.errors import SettingsError
from infra.ledger import open_ledger
from infra.ledger.postgres import PostgresLedger
from infra.ledger.sqlite import SqliteLedger


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///.nexus/ledger.db", Path(".nexus/ledger.db")),
        ("sqlite:////var/lib/nexus/ledger.db", Path("/var/lib/nexus/ledger.db")),
        ("sqlite:///with space?and#.db", Path("with space?and#.db")),
    ],
)
def test_a_sqlite_url_names_a_file(url, path):
    ledger = open_ledger(url)
    assert isinstance(ledger, SqliteLedger)
    assert ledger._path == path


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_postgresql_url_names_a_server(scheme):
    assert isinstance(open_ledger(f"{scheme}://host/database"), PostgresLedger)


@pytest.mark.parametrize("url", ["mysql://host/database", "ledger.db", "", "sqlite+aiosqlite:///x"])
def test_an_unknown_scheme_is_refused_with_the_way_out(url):
    with pytest.raises(SettingsError, match="use sqlite:///path or postgresql://host/database"):
        open_ledger(url)


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite://", "sqlite://host/path", "sqlite:path"])
def test_a_sqlite_url_without_a_path_is_refused(url):
    with pytest.raises(SettingsError, match="write sqlite:///path"):
        open_ledger(url)
