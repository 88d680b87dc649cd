"""Resource names: what a user writes, and the full name that the service knows."""

import re
from functools import lru_cache
from typing import Final

from faststream.exceptions import SetupError

# https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names
_ID: Final = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9\-._~+%]{2,254}")
_PART: Final = re.compile(r"[A-Za-z0-9\-._~+%]{0,255}")
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
        return _checked_path(collection, name)
    if name[:1].isascii() and name[:1].isdigit():
        name = f"{DIGIT_PREFIX}{name}"
    if not _ID.fullmatch(name):
        raise SetupError(
            f"{collection[:-1]} {name!r} is no Pub/Sub name: it needs 3 to 255 characters, starts "
            "with a letter, but not with `goog`, and holds letters, digits and `-._~+%` only.",
        )
    return f"projects/{project}/{collection}/{name}"


def check_part(collection: str, name: str) -> None:
    """Check what a router declares, before which prefixes may come.

    Raises:
        SetupError: No prefix can make it a Pub/Sub resource ID.
    """
    if "/" in name:
        _checked_path(collection, name)
    elif not _PART.fullmatch(name):
        raise SetupError(
            f"{collection[:-1]} {name!r} is no part of a Pub/Sub name: it may have up to 255 "
            "characters, which are letters, digits and `-._~+%`.",
        )


def check_name(collection: str, name: str, *, is_whole: bool) -> None:
    """Check a name at declaration; see `resource_path` and `check_part`."""
    if is_whole:
        resource_path("project", collection, name)
    else:
        check_part(collection, name)


def check_text(setting: str, value: object) -> None:
    """Check that something is text.

    Raises:
        SetupError: It is not; the text names both.
    """
    if not isinstance(value, str):
        raise SetupError(f"{setting}={value!r} must be text.")


def _checked_path(collection: str, name: str) -> str:
    if not re.fullmatch(rf"projects/[^/]+/{collection}/[^/]+", name):
        raise SetupError(
            f"{collection[:-1]} {name!r} is no full name: `projects/PROJECT/{collection}/ID` is.",
        )
    return name


def add_prefix(prefix: str, name: str) -> str:
    """Put a router's prefix before an ID; a full name stays as it is."""
    return name if "/" in name else f"{prefix}{name}"


def default_subscription(topic: str) -> str:
    """Subscription ID for a topic, as the Cloud console names a topic's default subscription."""
    return f"{topic.rsplit('/', maxsplit=1)[-1]}-sub"
