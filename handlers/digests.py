"""Digests of what effects leave behind."""

import hashlib
from collections.abc import Iterable


def sha256(data: bytes) -> str:
    """The digest of bytes, as receipts and URIs name it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def sha256_of_lines(lines: Iterable[str]) -> str:
    """The digest of a set of lines, whatever order they come in."""
    return sha256("\n".join(sorted(lines)).encode())


def short(digest: str) -> str:
    """The part of a digest that names an object."""
    return digest.removeprefix("sha256:")[:16]
