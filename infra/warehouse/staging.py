"""Names of staging tables."""

import hashlib
import re

_NAME_LENGTH = 80
_DIGEST_LENGTH = 12


def staging_name(claim: str, content: bytes = b"") -> str:
    """A table name that says whose rows it holds; other claims or content give other names."""
    readable = re.sub(r"[^a-z0-9]+", "_", claim.lower()).strip("_")[:_NAME_LENGTH]
    digest = hashlib.sha256(claim.encode() + b"\0" + content).hexdigest()[:_DIGEST_LENGTH]
    return f"staging_{readable}_{digest}"
