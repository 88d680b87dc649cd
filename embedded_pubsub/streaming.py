"""StreamingPull: deliveries go down the stream, acks and deadlines come up on it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import grpc.aio

from embedded_pubsub import limits
from embedded_pubsub.errors import InvalidArgumentError, StaleAckIdError
from embedded_pubsub.leases import UNLIMITED, Consumer, Lease
from embedded_pubsub.protos import Proto, StreamingPullResponse
from embedded_pubsub.runtime import Feed, Runtime
from embedded_pubsub.wire import received_messages, subscription_properties

_PINGS_ARE_ANSWERED = 1
"""The protocol version from which a client waits for an answer to an empty request."""
_FIRST_ONLY = (
    "subscription", "max_outstanding_messages", "max_outstanding_bytes", "protocol_version",
)  # fmt: skip


class Stream:
    """One open stream of a consumer.

    Args:
        runtime: The running state machine.
        first: The opening `StreamingPullRequest`.

    Raises:
        InvalidArgumentError: The opening request is not one.
        NotFoundError: The subscription does not exist.
        FailedPreconditionError: The subscription is detached, pushed or exported.
    """

    def __init__(self, runtime: Runtime, first: Proto) -> None:
        _check_deadline(first.stream_ack_deadline_seconds)
        self._runtime = runtime
        self._confirmations: list[bytes] = []
        self._unconfirmed = 0
        self._answers_pings = first.protocol_version >= _PINGS_ARE_ANSWERED
        self._pinged = False
        self._subscription = runtime.state.pullable(first.subscription)
        self._consumer = Consumer(
            max_messages=_limit(first.max_outstanding_messages),
            max_bytes=_limit(first.max_outstanding_bytes),
            ack_deadline_seconds=first.stream_ack_deadline_seconds,
        )
        self._feed: Feed = runtime.open(self._subscription, self._consumer)
        try:
            self._settle(first)
        except InvalidArgumentError:
            self._feed.close()
            raise

    async def run(
        self,
        requests: AsyncIterator[Proto],
        context: "grpc.aio.ServicerContext[Proto, bytes]",
    ) -> None:
        """Serve the stream until the client half-closes it."""
        reader = asyncio.create_task(self._read(requests))
        reader.add_done_callback(lambda _: self._feed.wake())
        try:
            while not reader.done():
                response = self._next_response()
                if response:
                    await context.write(response)
                else:
                    await self._feed.wait()
            await self._confirm_the_rest(context)
            reader.result()
        finally:
            self._feed.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _next_response(self) -> bytes:
        """Serialize a `StreamingPullResponse`; empty where there is nothing to say."""
        return self._response(self._feed.take())

    def _response(self, leases: Sequence[Lease]) -> bytes:
        policy = self._subscription.backlog.policy
        bodies = self._runtime.bodies(leases)
        deliveries = received_messages(leases, bodies, attempts=policy.max_delivery_attempts > 0)
        confirmations, self._confirmations = b"".join(self._confirmations), []
        pinged, self._pinged = self._pinged, False
        if not deliveries and not confirmations and not pinged:
            return b""
        return deliveries + confirmations + subscription_properties(self._subscription.config)

    async def _confirm_the_rest(self, context: "grpc.aio.ServicerContext[Proto, bytes]") -> None:
        while self._unconfirmed:
            await self._feed.wait()
        if self._confirmations:
            await context.write(self._response([]))

    async def _read(self, requests: AsyncIterator[Proto]) -> None:
        async for request in requests:
            _check_later(request)
            if self._answers_pings and not request.ByteSize():
                self._pinged = True
                self._feed.wake()
            if request.stream_ack_deadline_seconds:
                _check_deadline(request.stream_ack_deadline_seconds)
                self._consumer.ack_deadline_seconds = request.stream_ack_deadline_seconds
            self._settle(request)

    def _settle(self, request: Proto) -> None:
        if request.ack_ids:
            self._acknowledge(request.ack_ids)
        ack_ids = request.modify_deadline_ack_ids
        seconds = request.modify_deadline_seconds
        if len(ack_ids) != len(seconds):
            raise InvalidArgumentError(
                f"modify_deadline_seconds: {len(seconds)} values for {len(ack_ids)} ack ids."
            )
        if ack_ids:
            self._modify_deadlines(ack_ids, seconds)

    def _acknowledge(self, ack_ids: Sequence[str]) -> None:
        state, subscription = self._runtime.state, self._subscription
        self._confirmed(
            lambda now: state.acknowledge(subscription, ack_ids, now),
            ack_ids,
            "acknowledge_confirmation",
        )

    def _modify_deadlines(self, ack_ids: Sequence[str], seconds: Sequence[int]) -> None:
        state, subscription = self._runtime.state, self._subscription
        self._confirmed(
            lambda now: state.modify_deadlines(subscription, ack_ids, seconds, now),
            ack_ids,
            "modify_ack_deadline_confirmation",
        )

    def _confirmed(
        self, operation: Callable[[float], None], ack_ids: Sequence[str], field: str
    ) -> None:
        """Run an operation; where delivery is exactly-once, tell what became of it."""
        invalid: set[str] = set()

        def run(now: float) -> None:
            try:
                operation(now)
            except StaleAckIdError as error:
                invalid.update(error.failures)

        def confirm(durable: bool) -> None:
            response = StreamingPullResponse()
            confirmation = getattr(response, field)
            done = confirmation.ack_ids if durable else confirmation.temporary_failed_ack_ids
            done.extend(ack_id for ack_id in ack_ids if ack_id not in invalid)
            confirmation.invalid_ack_ids.extend(invalid)
            self._confirmations.append(response.SerializeToString())
            self._unconfirmed -= 1
            self._feed.wake()

        if self._subscription.backlog.policy.exactly_once:
            self._unconfirmed += 1
            self._runtime.call_soon(run, confirm)
        else:
            self._runtime.call_soon(run)


def _check_later(request: Proto) -> None:
    for field in _FIRST_ONLY:
        if getattr(request, field):
            raise InvalidArgumentError(
                f"{field}: must be set in the first request of a stream only."
            )


def _check_deadline(seconds: int) -> None:
    limits.check_range(
        "stream_ack_deadline_seconds",
        seconds,
        limits.MIN_ACK_DEADLINE_SECONDS,
        limits.MAX_ACK_DEADLINE_SECONDS,
    )


def _limit(value: int) -> int:
    return value if value > 0 else UNLIMITED
