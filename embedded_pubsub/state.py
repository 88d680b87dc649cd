"""The state machine of the server: topics, subscriptions, snapshots and what happens to them.

Pure: no socket, no task, no clock, no file. Methods take the request's protobuf and the time in
seconds since the epoch, and leave behind what must be made durable and who has something new to
hand out (`Holdings`). It is written in layers, each on top of the one before: `Holdings`, `Topics`,
`Publishing`, `Subscriptions`, `Snapshots`, `Leasing`.
"""

from embedded_pubsub.errors import InvalidArgumentError
from embedded_pubsub.leasing import Leasing
from embedded_pubsub.restoring import restore
from embedded_pubsub.store import Saved


class PubSub(Leasing):
    """All topics, subscriptions, snapshots and schemas of one server.

    Args:
        saved: What the store held when it was opened.
        resident_bytes: Bodies beyond so many bytes are left to the store.
    """

    def __init__(self, saved: Saved, resident_bytes: float = float("inf")) -> None:
        super().__init__(saved, resident_bytes)
        restore(self, saved)

    def clear(self, project: str) -> None:
        """Delete all that `projects/{id}` has."""
        deletions = (
            (self.subscriptions, self.delete_subscription),
            (self.snapshots, self.delete_snapshot),
            (self.topics, self.delete_topic),
            (self.schemas.by_name, self.delete_schema),
        )
        for resources, delete in deletions:
            for name in [name for name in resources if name.startswith(f"{project}/")]:
                delete(name)

    def check_exists(self, resource: str) -> None:
        """Refuse the full name of a resource that does not exist."""
        match resource.split("/")[2:3]:
            case ["topics"]:
                self.topic(resource, "resource")
            case ["subscriptions"]:
                self.subscription(resource)
            case ["snapshots"]:
                self.snapshot(resource)
            case ["schemas"]:
                self.schemas.revisions(resource)
            case _:
                raise InvalidArgumentError(
                    f"resource: {resource!r} must name a topic, subscription, snapshot or schema."
                )
