"""Names and digests of objects."""

import hashlib
import re

from infra.errors import TerminalError

_SEGMENT = r"[A-Za-z0-9_=@+,-][A-Za-z0-9._=@+,-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
KEY_LENGTH_MAX = 1000


def checked_key(key: str) -> str:
    """The key, if it means the same object in a folder and in a bucket.

    Raises:
        TerminalError: It is empty, absolute, too long, climbs with ``..``, or holds a character
            that a file name, a URI or a bucket would treat in its own way.
    """
    if len(key) > KEY_LENGTH_MAX or not _KEY.fullmatch(key):
        raise TerminalError(
            f"object key {key[:200]!r} can't be used: give names of letters, digits and _=@+,-. "
            f"joined by /, none empty or starting with a dot, at most 200 characters each and "
            f"{KEY_LENGTH_MAX} together"
        )
    return key


def digest_of(data: bytes) -> str:
    """``sha256:`` and the hexadecimal digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
