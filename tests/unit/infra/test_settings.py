from pathlib import Path

import pytest

from infra.errors import SettingsError
from infra.ledger import open_ledger
from infra.mail import open_mailer
from infra.objects import open_objects
from infra.settings import Settings
from infra.warehouse import open_warehouse
from schemas.tables import TABLES


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No setting from outside, and a folder of its own."""
    import os

    for name in list(os.environ):
        if name.startswith("NEXUS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("NEXUS_PUBSUB", "kafka", "'embedded' or 'google'"),
        ("NEXUS_TOPIC_PREFIX", "1-x", "match pattern"),
        ("NEXUS_TOPIC_PREFIX", "a/b", "match pattern"),
        ("NEXUS_BATCH_SECONDS", "-1", "greater than or equal to 0"),
        ("NEXUS_BATCH_SECONDS", "soon", "valid number"),
        ("NEXUS_CLAIM_LEASE_SECONDS", "0", "greater than 0"),
        ("NEXUS_CLAIM_LEASE_SECONDS", "nan", "less than or equal to 86400"),
        ("NEXUS_TRIES", "0", "greater than or equal to 1"),
        ("NEXUS_TRIES", "three", "valid integer"),
        ("NEXUS_POLL_SECONDS", "inf", "less than or equal to 86400"),
        ("NEXUS_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_bad_value_is_named_by_its_variable(monkeypatch, name, value, reason):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert str(caught.value).startswith(f"{name}={value!r}: ")
    assert reason in str(caught.value)


def test_no_recipient_at_all_is_refused(monkeypatch):
    monkeypatch.setenv("NEXUS_MAIL_RECIPIENTS", " , ")
    with pytest.raises(SettingsError, match=r"^NEXUS_MAIL_RECIPIENTS=.*at least 1 item"):
        Settings.load()


def test_recipients_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("NEXUS_MAIL_RECIPIENTS", "a@example.org, b@example.org,")
    assert Settings.load().mail_recipients == ("a@example.org", "b@example.org")


def test_the_option_goes_before_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "variable"))
    assert Settings.load().home == tmp_path / "variable"
    assert Settings.load(tmp_path / "option").home == tmp_path / "option"


def test_a_part_that_is_set_stays_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("NEXUS_LEDGER", "postgresql://host/db")
    settings = Settings.load(tmp_path)
    assert settings.ledger == "postgresql://host/db"
    assert settings.objects == f"file://{tmp_path}/objects"


def test_a_home_that_the_warehouse_cannot_live_in_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"^NEXUS_HOME=.*what\?.*DuckDB can't open files"):
        Settings.load(tmp_path / "what?")


def test_a_relative_home_is_made_absolute(tmp_path):
    assert Settings.load(Path("here")).home == tmp_path / "here"


@pytest.mark.parametrize("name", ["plain", "a b", "50%20", "a#b", "ü", "a+b&c=d;e"])
async def test_every_part_lives_in_its_home_whatever_its_name(tmp_path, name):
    home = tmp_path / name
    settings = Settings(home=home)
    ledger, warehouse = open_ledger(settings.ledger), open_warehouse(settings.warehouse)
    await ledger.open()
    await ledger.close()
    await warehouse.open(TABLES)
    await warehouse.close()
    stored = await open_objects(settings.objects).put_once("k", b"data")
    assert await open_objects(settings.objects).get(stored.uri) == b"data"
    mailer = open_mailer(
        settings.mail, sender=settings.mail_sender, recipients=settings.mail_recipients
    )
    await mailer.send(mail())
    assert {path.name for path in tmp_path.iterdir()} == {name}
    made = {path.name for path in home.iterdir()}
    assert {"ledger.sqlite", "warehouse.duckdb", "objects", "mail"} <= made


def mail():
    from infra.ports import Mail

    return Mail("<a@b>", "subject", "body")
