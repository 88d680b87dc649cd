"""Resource names: what a user writes, and the full name that the service knows."""

import re
from functools import lru_cache
from typing import Final

from faststream.exceptions import SetupError

# https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names
_ID: Final = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9\-._~+%]{2,254}")
DIGIT_PREFIX: Final = "id-"
"""Goes before an ID that begins with a digit, which Pub/Sub allows for no resource."""


@lru_cache(maxsize=1_024)
def resource_path(project: str, collection: str, name: str) -> str:
    """Full name of a resource.

    An ID that begins with a digit, a UUID for instance, gets `DIGIT_PREFIX`: as there can be no
    resource of the ID itself, nothing else is meant by it.

    Args:
        project: Project ID.
        collection: `topics` or `subscriptions`.
        name: An ID, or a full name, which is returned as it is.

    Raises:
        SetupError: The name can't be a Pub/Sub resource ID.
    """
    if "/" in name:
        return name
    if name[:1].isascii() and name[:1].isdigit():
        name = f"{DIGIT_PREFIX}{name}"
    if not _ID.fullmatch(name):
        raise SetupError(
            f"{collection[:-1]} {name!r} is no Pub/Sub name: it needs 3 to 255 characters, starts "
            "with a letter, but not with `goog`, and holds letters, digits and `-._~+%` only.",
        )
    return f"projects/{project}/{collection}/{name}"


def add_prefix(prefix: str, name: str) -> str:
    """Put a router's prefix before an ID; a full name stays as it is."""
    return name if "/" in name else f"{prefix}{name}"


def default_subscription(topic: str) -> str:
    """Subscription ID for a topic, as the Cloud console names a topic's default subscription."""
    return f"{topic.rsplit('/', maxsplit=1)[-1]}-sub"
