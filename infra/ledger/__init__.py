"""Claims, receipts, outbox, timers and saga states; SQLite by default, or PostgreSQL."""

from pathlib import Path
from urllib.parse import urlsplit

from infra.errors import SettingsError
from infra.ports import Ledger


def open_ledger(url: str) -> Ledger:
    """The adapter for a URL; its ``open`` is still to be awaited.

    Args:
        url: ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or
            ``postgresql://user:password@host/database``.

    Raises:
        SettingsError: The URL names no database that the ledger can live in.
    """
    match urlsplit(url).scheme:
        case "sqlite":
            from infra.ledger.sqlite import SqliteLedger  # noqa: PLC0415 - load what is used

            return SqliteLedger(_sqlite_path(url))
        case "postgresql" | "postgres":
            from infra.ledger.postgres import PostgresLedger  # noqa: PLC0415 - load what is used

            return PostgresLedger(url)
        case scheme:
            raise SettingsError(
                f"the ledger's URL has the scheme {scheme!r}: "
                "use sqlite:///path or postgresql://host/database",
            )


def _sqlite_path(url: str) -> Path:
    path = url.removeprefix("sqlite:///")
    if path in {url, ""}:
        raise SettingsError(
            f"the ledger's URL is {url!r}: write sqlite:///path, or sqlite:////path from the root",
        )
    return Path(path)
