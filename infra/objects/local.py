"""Objects in a local folder."""

from pathlib import Path

from obstore.store import LocalStore

from infra.errors import ServiceUnavailableError
from infra.objects.files import create_once, make_folder
from infra.objects.store import StoredObjects


def local_objects(folder: Path) -> StoredObjects:
    """Objects in a folder, which is created when missing; their URIs are ``file:///…``.

    Writing is ours: obstore's local store gives an object its name before its bytes are on disk.

    Raises:
        ServiceUnavailableError: The folder can't be created or read.
    """
    root = folder.absolute()
    try:
        make_folder(root)
        store = LocalStore(prefix=root)
    except OSError as error:
        raise ServiceUnavailableError(f"objects folder {root}: {error.strerror}") from error

    def create(key: str, data: bytes) -> bool:
        return create_once(root / key, data)

    return StoredObjects(store, root.as_uri(), create)
