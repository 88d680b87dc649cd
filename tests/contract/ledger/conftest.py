"""Both adapters, each test on an empty ledger of its own; one PostgreSQL server per session."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count

import asyncpg
import pytest

from infra.ledger import open_ledger
from infra.ports import Ledger
from tests.support.postgres import postgres_server

_schemas = count()


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    with postgres_server() as dsn:
        yield dsn


@pytest.fixture
async def postgres_url(postgres_dsn) -> AsyncIterator[str]:
    schema = f"test_{next(_schemas)}"
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await connection.execute(f"CREATE SCHEMA {schema}")
        yield f"{postgres_dsn}&search_path={schema}"
        await connection.execute(f"DROP SCHEMA {schema} CASCADE")
    finally:
        await connection.close()


@pytest.fixture
def sqlite_url(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request) -> str:
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
async def opened() -> AsyncIterator[Callable]:
    """Opens a further ledger on a URL, closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def open_one(url: str) -> Ledger:
            ledger = open_ledger(url)
            await ledger.open()
            stack.push_async_callback(ledger.close)
            return ledger

        yield open_one


@pytest.fixture
async def ledger(ledger_url, opened) -> Ledger:
    return await opened(ledger_url)
