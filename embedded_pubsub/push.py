"""Push delivery: messages of a subscription are posted to its endpoint, and acked by its answer.

Source: Cloud Pub/Sub documentation, "Create push subscriptions" and "Payload unwrapping".
How many messages are out at once starts at one, grows with every success and is halved by every
failure. Where the subscription has no retry policy, failures are also spaced out in time.
"""

import asyncio
import base64
import http.client
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from google.protobuf import json_format

from embedded_pubsub.errors import PubSubError
from embedded_pubsub.leases import Consumer, Lease, OrderedKey
from embedded_pubsub.protos import Proto, PubsubMessage
from embedded_pubsub.resources import SubscriptionState
from embedded_pubsub.runtime import Runtime

SUCCESS = frozenset({102, 200, 201, 202, 204})
MAX_OUTSTANDING = 32
MIN_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 60.0
TOKEN_SECONDS = 3600


class Post(NamedTuple):
    """One HTTP request."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def post_of(subscription: Proto, message: Proto, attempt: int, now: float) -> Post:
    """Put together the request that delivers a message.

    Args:
        subscription: The `Subscription`, with a push endpoint.
        message: The `PubsubMessage`.
        attempt: The delivery attempt, 0 where there is no dead-letter policy.
        now: Seconds since the epoch.
    """
    config = subscription.push_config
    headers = {"Content-Type": "application/json"}
    if config.WhichOneof("wrapper") == "no_wrapper":
        headers = _metadata(subscription, message) if config.no_wrapper.write_metadata else {}
        body = bytes(message.data)
    else:
        body = json.dumps(_wrapped(subscription, message, attempt)).encode()
    if config.HasField("oidc_token"):
        headers["Authorization"] = f"Bearer {_token(config, now)}"
    return Post(config.push_endpoint, headers, body)


def _wrapped(subscription: Proto, message: Proto, attempt: int) -> dict[str, Any]:
    shown = dict(json_format.MessageToDict(message))
    document = {
        "message": {
            **shown,
            "message_id": message.message_id,
            "publish_time": shown["publishTime"],
        },
        "subscription": subscription.name,
    }
    if attempt:
        document["deliveryAttempt"] = attempt
    return document


def _metadata(subscription: Proto, message: Proto) -> dict[str, str]:
    headers = {
        "x-goog-pubsub-subscription-name": subscription.name,
        "x-goog-pubsub-message-id": message.message_id,
        "x-goog-pubsub-publish-time": message.publish_time.ToJsonString(),
    }
    if message.ordering_key:
        headers["x-goog-pubsub-ordering-key"] = message.ordering_key
    attributes = {name: _one_line(value) for name, value in message.attributes.items()}
    return {**{_one_line(name): value for name, value in attributes.items()}, **headers}


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ").encode("utf-8").decode("latin-1")


def _token(config: Proto, now: float) -> str:
    """Give a JSON Web Token with the claims that Google's has; unsigned, for lack of a key."""
    claims = {
        "iss": "https://accounts.google.com",
        "aud": config.oidc_token.audience or config.push_endpoint,
        "azp": config.oidc_token.service_account_email,
        "email": config.oidc_token.service_account_email,
        "email_verified": True,
        "iat": int(now),
        "exp": int(now) + TOKEN_SECONDS,
    }
    parts = (json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims))
    encoded = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    return f"{'.'.join(encoded)}."


def send(post: Post, timeout_seconds: float) -> bool:
    """Send a request; whether the answer acknowledges it. Blocks, and follows no redirect."""
    url = urlsplit(post.url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=timeout_seconds)
    try:
        path = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
        connection.request("POST", path, post.body, dict(post.headers))
        return connection.getresponse().status in SUCCESS
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Pushes:
    """The push subscriptions of a running server, each with a task of its own."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._threads = ThreadPoolExecutor(MAX_OUTSTANDING, "embedded-pubsub-push")
        self._tasks: dict[SubscriptionState, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Push what there is, and what comes."""
        self._runtime.on_touched = self._touched
        for subscription in self._runtime.state.subscriptions.values():
            self._touched(subscription)

    async def close(self) -> None:
        """Give up; what is out stays leased."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _touched(self, subscription: SubscriptionState) -> None:
        if not _is_pushed(subscription) or self._runtime.closing or subscription in self._tasks:
            return
        task = asyncio.create_task(_Pusher(self._runtime, subscription, self._threads).run())
        self._tasks[subscription] = task
        task.add_done_callback(lambda _: self._ended(subscription))

    def _ended(self, subscription: SubscriptionState) -> None:
        del self._tasks[subscription]
        self._touched(subscription)


def _is_pushed(subscription: SubscriptionState) -> bool:
    config = subscription.config
    attached = not subscription.deleted and not config.detached
    return attached and bool(config.push_config.push_endpoint)


class _Pusher:
    def __init__(
        self, runtime: Runtime, subscription: SubscriptionState, threads: ThreadPoolExecutor
    ) -> None:
        self._runtime = runtime
        self._subscription = subscription
        self._threads = threads
        self._consumer = Consumer(max_messages=1)
        self._failures = 0
        self._out: set[asyncio.Task[None]] = set()
        self._locks: WeakKeyDictionary[OrderedKey, asyncio.Lock] = WeakKeyDictionary()

    async def run(self) -> None:
        """Push until the subscription is gone, detached, or pulled from instead."""
        feed = self._runtime.open(self._subscription, self._consumer)
        try:
            while _is_pushed(self._subscription):
                leases = feed.take()
                for lease, body in zip(leases, self._runtime.bodies(leases), strict=True):
                    task = asyncio.create_task(self._deliver_in_order(lease, body))
                    self._out.add(task)
                    task.add_done_callback(self._out.discard)
                await feed.wait()
        except PubSubError:
            return
        finally:
            feed.close()
            for task in self._out:
                task.cancel()

    async def _deliver_in_order(self, lease: Lease, body: bytes) -> None:
        key = lease.entry.key
        if key is None:
            await self._deliver(lease, body)
            return
        # A key object lives while it has messages; a lock of asyncio is taken first come first.
        async with self._locks.setdefault(key, asyncio.Lock()):
            if lease.entry.lease is lease:
                await self._deliver(lease, body)

    async def _deliver(self, lease: Lease, body: bytes) -> None:
        entry = lease.entry
        policy = self._subscription.backlog.policy
        attempt = entry.failures + 1 if policy.max_delivery_attempts else 0
        message = PubsubMessage.FromString(body)
        post = post_of(self._subscription.config, message, attempt, self._runtime.now())
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(self._threads, send, post, policy.ack_deadline_seconds)
        if done:
            self._failures = 0
            self._consumer.max_messages = min(self._consumer.max_messages + 1, MAX_OUTSTANDING)
        else:
            self._failures += 1
            self._consumer.max_messages = max(self._consumer.max_messages // 2, 1)
            if policy.backoff is None:
                await self._hold(lease)
        self._settle(lease, done=done)

    async def _hold(self, lease: Lease) -> None:
        seconds = min(MIN_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 60), MAX_BACKOFF_SECONDS)
        lease.deadline = max(lease.deadline, self._runtime.now() + seconds + 1)
        await asyncio.sleep(seconds)

    def _settle(self, lease: Lease, *, done: bool) -> None:
        state, subscription, ids = self._runtime.state, self._subscription, [lease.ack_id]
        try:
            if done:
                self._runtime.call_soon(lambda now: state.acknowledge(subscription, ids, now))
            else:
                self._runtime.call_soon(
                    lambda now: state.modify_deadlines(subscription, ids, [0], now)
                )
        except PubSubError:
            return  # The lease ran out meanwhile: the message comes again.
