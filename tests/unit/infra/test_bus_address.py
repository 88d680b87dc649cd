"""Where the bus is: given by the environment, served by this process, or joined."""

import asyncio

import pytest

from embedded_pubsub import Server
from infra import pubsub
from infra.errors import ServiceUnavailableError, SettingsError
from infra.pubsub import bus_address
from infra.settings import Settings


@pytest.fixture(autouse=True)
def no_emulator(monkeypatch):
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


async def test_the_environment_names_the_server(settings, monkeypatch):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "somewhere:1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "a-project")
    async with bus_address(settings) as bus:
        assert (bus.emulator_host, bus.project) == ("somewhere:1", "a-project")
    assert not settings.home.exists()


async def test_cloud_pubsub_has_no_emulator(tmp_path):
    async with bus_address(Settings(home=tmp_path, pubsub="google", project="p-1")) as bus:
        assert (bus.emulator_host, bus.project) == (None, "p-1")


async def test_the_second_of_a_home_joins_the_first(settings):
    async with bus_address(settings) as first, bus_address(settings) as second:
        assert first == second


async def test_the_next_server_of_a_home_listens_where_the_last_one_did(settings):
    async with bus_address(settings) as first:
        pass
    async with bus_address(settings) as second:
        assert second == first


async def test_a_taken_port_is_left_to_its_owner(settings):
    async with bus_address(settings) as first:
        pass
    port = int(first.emulator_host.rpartition(":")[2])
    async with Server(port=port), bus_address(settings) as second:
        assert second.emulator_host != first.emulator_host


async def test_a_joiner_waits_for_a_server_that_is_starting(settings):
    folder = settings.home / "pubsub"
    folder.mkdir(parents=True)
    (folder / pubsub.ENDPOINT).write_text("127.0.0.1:1")

    async with Server(data_dir=folder) as server:

        async def join():
            async with bus_address(settings) as bus:
                return bus.emulator_host

        joining = asyncio.create_task(join())
        await asyncio.sleep(0.2)
        assert not joining.done()
        (folder / pubsub.ENDPOINT).write_text(server.target)
        assert await joining == server.target


async def test_a_holder_that_does_not_answer_is_named(settings, monkeypatch):
    monkeypatch.setattr(pubsub, "JOIN_SECONDS", 0.2)
    folder = settings.home / "pubsub"
    folder.mkdir(parents=True)
    async with Server(data_dir=folder):
        with pytest.raises(ServiceUnavailableError, match="does not answer"):
            async with bus_address(settings):
                pass


async def test_a_folder_that_cannot_hold_the_data_is_named(settings):
    (settings.home / "pubsub").mkdir(parents=True)
    (settings.home / "pubsub" / "pubsub.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(SettingsError, match=str(settings.home / "pubsub")):
        async with bus_address(settings):
            pass
