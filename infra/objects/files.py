"""Files that are there whole or not at all."""

import os
import secrets
from pathlib import Path


def create_once(path: Path, data: bytes, *, staging: Path | None = None) -> bool:
    """Write a file under a name that is free.

    The bytes reach the disk under a staging name (``<name>#<digits>``, which the object store
    never lists) before they get their final one, so neither a kill nor a power cut can leave
    half a file there: it would stand in the way of every later try.

    Args:
        path: The final name; its folder is created when missing.
        data: The whole content.
        staging: A folder of the same file system for the staging name; the path's own without it.

    Returns:
        Whether this call created the file; false when the name is taken.
    """
    make_folder(path.parent)
    staged = (staging or path.parent) / f"{path.name}#{secrets.randbits(63)}"
    try:
        created = not path.exists() and _stage_and_link(staged, path, data)
    finally:
        staged.unlink(missing_ok=True)
    sync_folder(path.parent)
    return created


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each entry safe on disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stage_and_link(staged: Path, path: Path, data: bytes) -> bool:
    with staged.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(staged, path)
    except FileExistsError:
        return False
    return True
