"""The unary methods of google.pubsub.v1 Publisher and Subscriber, on the running state machine.

A method takes the request's protobuf and gives the response's; it knows nothing of gRPC.
"""

import asyncio
import logging
import secrets
from collections.abc import Sequence

from embedded_pubsub import limits
from embedded_pubsub.errors import InvalidArgumentError, PubSubError
from embedded_pubsub.leases import Consumer
from embedded_pubsub.paging import in_project, paged
from embedded_pubsub.protos import (
    DetachSubscriptionResponse,
    Empty,
    ListSnapshotsResponse,
    ListSubscriptionsResponse,
    ListTopicSnapshotsResponse,
    ListTopicsResponse,
    ListTopicSubscriptionsResponse,
    Proto,
    PublishRequest,
    PublishResponse,
    SeekResponse,
)
from embedded_pubsub.runtime import MAX_MESSAGES_PER_RESPONSE, Runtime
from embedded_pubsub.seeking import seek_to_snapshot, seek_to_time
from embedded_pubsub.settings import exports
from embedded_pubsub.wire import received_messages

_LOG = logging.getLogger("embedded_pubsub")

MAX_PULL_WAIT_SECONDS = 20.0
"""How long a pull waits for a first message when its caller set no deadline."""


class Publisher:
    """google.pubsub.v1.Publisher."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._state = runtime.state

    async def create_topic(self, request: Proto) -> Proto:
        """Create a topic."""
        await self._runtime.transforms.check(request.message_transforms)
        topic = await self._runtime.call(lambda _: self._state.create_topic(request))
        _warn_of_ingestion(topic)
        return topic

    async def update_topic(self, request: Proto) -> Proto:
        """Change the fields of a topic that the mask names."""
        await self._runtime.transforms.check(request.topic.message_transforms)
        topic = await self._runtime.call(lambda _: self._state.update_topic(request))
        _warn_of_ingestion(topic)
        return topic

    async def publish(self, request: Proto) -> Proto:
        """Publish messages; answers when they are durable."""
        if self._state.topic(request.topic).config.message_transforms:
            return PublishResponse(message_ids=await self._publish_transformed(request))
        return PublishResponse(message_ids=await self._runtime.publish(request))

    async def _publish_transformed(self, request: Proto) -> list[str]:
        """Publish what the topic's transforms make of the messages, or nothing if one fails.

        A message that is filtered out gets an id like the others, but is not kept.
        """
        limits.check_messages(request)
        transforms = list(self._state.topic(request.topic).config.message_transforms)
        for message in request.messages:
            message.publish_time.FromSeconds(int(self._runtime.now()))
        outcomes = await self._runtime.transforms.apply(transforms, request.messages)
        kept = PublishRequest(topic=request.topic)
        for outcome in outcomes:
            if isinstance(outcome, PubSubError):
                raise outcome
            if outcome is not None:
                kept.messages.append(outcome)
        ids = iter(await self._runtime.publish(kept) if kept.messages else ())
        return [self._state.new_id() if each is None else next(ids) for each in outcomes]

    async def get_topic(self, request: Proto) -> Proto:
        """Give a topic."""
        return self._state.topic(request.topic).config

    async def list_topics(self, request: Proto) -> Proto:
        """List the topics of a project by name."""
        names = in_project(self._state.topics, request.project)
        page, token = paged(names, request)
        topics = [self._state.topics[name].config for name in page]
        return ListTopicsResponse(topics=topics, next_page_token=token)

    async def list_topic_subscriptions(self, request: Proto) -> Proto:
        """List the names of the subscriptions attached to a topic."""
        topic = self._state.topic(request.topic)
        names = sorted(s.config.name for s in topic.subscriptions.values())
        page, token = paged(names, request)
        return ListTopicSubscriptionsResponse(subscriptions=page, next_page_token=token)

    async def list_topic_snapshots(self, request: Proto) -> Proto:
        """List the names of the snapshots of a topic."""
        topic = self._state.topic(request.topic)
        names = sorted(s.config.name for s in topic.snapshots.values())
        page, token = paged(names, request)
        return ListTopicSnapshotsResponse(snapshots=page, next_page_token=token)

    async def delete_topic(self, request: Proto) -> Proto:
        """Delete a topic."""
        await self._runtime.call(lambda _: self._state.delete_topic(request.topic))
        return Empty()

    async def detach_subscription(self, request: Proto) -> Proto:
        """Detach a subscription from its topic."""
        name = request.subscription
        await self._runtime.call(lambda _: self._state.detach_subscription(name))
        return DetachSubscriptionResponse()


class Subscriber:
    """google.pubsub.v1.Subscriber, but for StreamingPull."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._state = runtime.state

    async def create_subscription(self, request: Proto) -> Proto:
        """Create a subscription."""
        await self._runtime.transforms.check(request.message_transforms)
        created = await self._runtime.call(lambda _: self._state.create_subscription(request))
        _warn_of_export(created)
        return created

    async def get_subscription(self, request: Proto) -> Proto:
        """Give a subscription."""
        return self._state.describe(self._state.subscription(request.subscription))

    async def update_subscription(self, request: Proto) -> Proto:
        """Change the fields of a subscription that the mask names."""
        await self._runtime.transforms.check(request.subscription.message_transforms)
        updated = await self._runtime.call(
            lambda now: self._state.update_subscription(request, now)
        )
        _warn_of_export(updated)
        return updated

    async def list_subscriptions(self, request: Proto) -> Proto:
        """List the subscriptions of a project by name."""
        state = self._state
        page, token = paged(in_project(state.subscriptions, request.project), request)
        found = [state.describe(state.subscriptions[name]) for name in page]
        return ListSubscriptionsResponse(subscriptions=found, next_page_token=token)

    async def delete_subscription(self, request: Proto) -> Proto:
        """Delete a subscription."""
        name = request.subscription
        await self._runtime.call(lambda _: self._state.delete_subscription(name))
        return Empty()

    async def pull(self, request: Proto, wait_seconds: float | None = None) -> bytes:
        """Lease messages; waits for a first one unless the request says not to.

        Args:
            request: A `PullRequest`.
            wait_seconds: How long the caller waits, None for ever.

        Returns:
            A serialized `PullResponse`.
        """
        if request.max_messages <= 0:
            raise InvalidArgumentError(
                f"max_messages: {request.max_messages} must be a positive number."
            )
        subscription = self._state.pullable(request.subscription)
        feed = self._runtime.open(subscription, Consumer())
        wait = MAX_PULL_WAIT_SECONDS
        if wait_seconds is not None:
            wait = min(wait, wait_seconds * 0.9)
        count = min(request.max_messages, MAX_MESSAGES_PER_RESPONSE)
        try:
            leases = feed.take(count)
            async with asyncio.timeout(wait):
                while not leases and (feed.transforming or not request.return_immediately):
                    await feed.wait()
                    leases = feed.take(count)
        except TimeoutError:
            leases = []
        finally:
            feed.close()
        attempts = subscription.backlog.policy.max_delivery_attempts > 0
        return received_messages(leases, self._runtime.bodies(leases), attempts=attempts)

    async def acknowledge(self, request: Proto) -> Proto:
        """Settle deliveries; answers when that is durable."""
        _check_ack_ids(request.ack_ids)
        subscription = self._state.attached(request.subscription)
        await self._runtime.call(
            lambda now: self._state.acknowledge(subscription, request.ack_ids, now)
        )
        return Empty()

    async def modify_ack_deadline(self, request: Proto) -> Proto:
        """Extend deliveries, or give them back with 0."""
        _check_ack_ids(request.ack_ids)
        subscription = self._state.attached(request.subscription)
        seconds = [request.ack_deadline_seconds] * len(request.ack_ids)
        await self._runtime.call(
            lambda now: self._state.modify_deadlines(subscription, request.ack_ids, seconds, now)
        )
        return Empty()

    async def modify_push_config(self, request: Proto) -> Proto:
        """Push from now on, or pull."""
        await self._runtime.call(lambda now: self._state.modify_push_config(request, now))
        return Empty()

    async def seek(self, request: Proto) -> Proto:
        """Set what is acknowledged, by a time or a snapshot."""
        subscription = self._state.attached(request.subscription)
        match request.WhichOneof("target"):
            case "time":
                time = limits.seconds_of(request.time)
                await self._runtime.call(
                    lambda now: seek_to_time(self._state, subscription, time, now)
                )
            case "snapshot":
                await self._runtime.call(
                    lambda now: seek_to_snapshot(self._state, subscription, request.snapshot, now)
                )
            case _:
                raise InvalidArgumentError("target: needs a time or a snapshot to seek to.")
        return SeekResponse()

    async def create_snapshot(self, request: Proto) -> Proto:
        """Create a snapshot, with a name of the server's making if it has none."""
        if not request.name:
            project = request.subscription.split("/subscriptions/")[0]
            request.name = f"{project}/snapshots/snapshot-{secrets.token_hex(8)}"
        return await self._runtime.call(lambda now: self._state.create_snapshot(request, now))

    async def get_snapshot(self, request: Proto) -> Proto:
        """Give a snapshot."""
        return self._state.snapshot(request.snapshot).config

    async def list_snapshots(self, request: Proto) -> Proto:
        """List the snapshots of a project by name."""
        page, token = paged(in_project(self._state.snapshots, request.project), request)
        snapshots = [self._state.snapshots[name].config for name in page]
        return ListSnapshotsResponse(snapshots=snapshots, next_page_token=token)

    async def update_snapshot(self, request: Proto) -> Proto:
        """Change the fields of a snapshot that the mask names."""
        return await self._runtime.call(lambda _: self._state.update_snapshot(request))

    async def delete_snapshot(self, request: Proto) -> Proto:
        """Delete a snapshot."""
        await self._runtime.call(lambda _: self._state.delete_snapshot(request.snapshot))
        return Empty()


def _warn_of_ingestion(topic: Proto) -> None:
    if topic.HasField("ingestion_data_source_settings"):
        _LOG.warning("%s: ingestion is kept but not run by embedded_pubsub", topic.name)


def _warn_of_export(subscription: Proto) -> None:
    if exports(subscription):
        _LOG.warning("%s: export is kept but not run by embedded_pubsub", subscription.name)


def _check_ack_ids(ack_ids: Sequence[str]) -> None:
    if not ack_ids:
        raise InvalidArgumentError("ack_ids: must not be empty.")
