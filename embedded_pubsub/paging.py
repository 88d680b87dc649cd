"""Lists, a page at a time. The token of a page is the last thing on the page before it."""

from collections.abc import Iterable

from embedded_pubsub import limits
from embedded_pubsub.errors import InvalidArgumentError
from embedded_pubsub.protos import Proto

DEFAULT_PAGE_SIZE = 1000


def in_project(names: Iterable[str], project: str) -> list[str]:
    """Give the names that are a project's, in order."""
    limits.check_project(project)
    return sorted(name for name in names if name.startswith(f"{project}/"))


def paged(names: list[str], request: Proto) -> tuple[list[str], str]:
    """Give the names after the page token, and the token of the next page."""
    if request.page_size < 0:
        raise InvalidArgumentError(f"page_size: {request.page_size} must not be negative.")
    size = min(request.page_size or DEFAULT_PAGE_SIZE, DEFAULT_PAGE_SIZE)
    rest = [name for name in names if name > request.page_token]
    page = rest[:size]
    return page, page[-1] if len(rest) > size else ""
