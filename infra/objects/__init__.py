"""Adapters of the objects port: a local folder, and a Google Cloud Storage bucket."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from infra.errors import SettingsError, TerminalError
from infra.objects.gcs import gcs_objects
from infra.objects.keys import checked_key, digest_of
from infra.objects.local import local_objects
from infra.objects.store import StoredObjects

__all__ = ["StoredObjects", "digest_of", "gcs_objects", "local_objects", "open_objects"]


def open_objects(url: str, *, gcs_endpoint: str | None = None) -> StoredObjects:
    """The objects below ``file:///folder`` or ``gs://bucket/prefix``.

    Args:
        url: The root of all keys.
        gcs_endpoint: ``http://host:port`` of a storage emulator in place of Google's; the
            environment's ``STORAGE_EMULATOR_HOST`` without it.

    Raises:
        SettingsError: Another scheme, a relative folder, no bucket, or a bad prefix.
        ServiceUnavailableError: The folder can't be created.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    match parts.scheme:
        case "file" if path.startswith("/") and parts.netloc in {"", "localhost"}:
            return local_objects(Path(path))
        case "gs" if parts.netloc:
            return gcs_objects(
                parts.netloc,
                _checked_prefix(path, url),
                endpoint=gcs_endpoint or os.environ.get("STORAGE_EMULATOR_HOST"),
            )
        case _:
            raise SettingsError(
                f"objects is {url!r}: give file:///folder or gs://bucket or gs://bucket/prefix"
            )


def _checked_prefix(path: str, url: str) -> str:
    prefix = path.strip("/")
    try:
        return checked_key(prefix) if prefix else ""
    except TerminalError as error:
        raise SettingsError(f"objects is {url!r}: {error}") from error
