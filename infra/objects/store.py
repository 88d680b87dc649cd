"""The objects port over any store that obstore speaks to.

obstore is called from threads: its own coroutines hand their results over in a thread of theirs,
which aborts the process when the interpreter happens to be ending (pyo3-async-runtimes #40).
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import GCSStore, LocalStore

from infra.errors import ServiceUnavailableError, TerminalError
from infra.objects.keys import checked_key, digest_of
from infra.ports import Stored

Create = Callable[[str, bytes], bool]
"""Writes an object under a free key; false when the key is taken."""


class StoredObjects:
    """Write-once objects under a root URI; see ``infra.ports.Objects``."""

    def __init__(self, store: LocalStore | GCSStore, root: str, create: Create) -> None:
        self._store = store
        self._root = root.rstrip("/")
        self._create = create

    def __repr__(self) -> str:
        return f"StoredObjects({self._root!r})"

    def uri(self, key: str) -> str:
        """The URI that a key has. Raises TerminalError for a key that can't be one."""
        return f"{self._root}/{checked_key(key)}"

    async def put_once(self, key: str, data: bytes) -> Stored:
        """Write an object if it is not there.

        Raises:
            TerminalError: Other content is there, access is denied, or the key can't be one.
            ServiceUnavailableError: The folder or bucket can't be reached.
        """
        uri, digest = self.uri(key), digest_of(data)
        with _translated(uri):
            created = await asyncio.to_thread(self._create, key, data)
        if not created:
            await self._refuse_other_content(uri, digest)
        return Stored(uri, digest, created)

    async def get(self, uri: str) -> bytes:
        """Read an object of this root.

        Raises:
            TerminalError: No such object, not of this root, or access is denied.
            ServiceUnavailableError: The folder or bucket can't be reached.
        """
        key = self._key(uri)
        with _translated(uri):
            return await asyncio.to_thread(self._read, key)

    async def list(self, prefix: str) -> tuple[str, ...]:
        """The URIs of all objects below a prefix of whole path segments, sorted.

        An empty prefix lists everything.
        """
        folder = checked_key(prefix.rstrip("/")) if prefix.rstrip("/") else None
        with _translated(self._root):
            keys = await asyncio.to_thread(self._keys, folder)
        return tuple(sorted(f"{self._root}/{key}" for key in keys))

    def _read(self, key: str) -> bytes:
        return bytes(self._store.get(key).bytes())

    def _keys(self, folder: str | None) -> tuple[str, ...]:
        return tuple(meta["path"] for meta in self._store.list(folder).collect())

    def _key(self, uri: str) -> str:
        if not uri.startswith(f"{self._root}/"):
            raise TerminalError(
                f"object {uri} is not below {self._root}: use the settings that it was written with"
            )
        return checked_key(uri.removeprefix(f"{self._root}/"))

    async def _refuse_other_content(self, uri: str, digest: str) -> None:
        found = digest_of(await self.get(uri))
        if found != digest:
            raise TerminalError(
                f"object {uri} exists with digest {found}, and was to be written with {digest}: "
                "nothing is overwritten"
            )


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise TerminalError(f"object {uri} does not exist, nor perhaps its bucket") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise TerminalError(f"object {uri} can't be written: part of it is an object") from error
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
        raise TerminalError(
            f"object {uri} can't be used: access is denied to this account"
        ) from error
    except (BaseError, OSError) as error:
        raise ServiceUnavailableError(f"object {uri} can't be reached: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The first line; obstore's errors go on with a dump of their source."""
    return (str(error).splitlines() or [type(error).__name__])[0].strip()
