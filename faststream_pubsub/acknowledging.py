"""Acks, nacks and lease extensions, many in one call."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from faststream_pubsub import wire
from faststream_pubsub.client import PubSubClient, with_retry
from faststream_pubsub.coalescer import Coalescer
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.errors import AcknowledgeError

PATIENCE_SECONDS: Final = 60.0
EXTENSION_PATIENCE_SECONDS: Final = 5.0
# so that acks gather; longer, and the service's flow control waits for them
_REST_SECONDS: Final = 0.001
_TRANSIENT_PREFIX: Final = "TRANSIENT_"
_DETAILS: Final = "grpc-status-details-bin"


@dataclass(slots=True)
class _Deadline:
    delivery: Delivery
    seconds: int


def failed_ack_ids(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """Failures per ack ID that an exactly-once subscription reports in the status details.

    Source: `PERMANENT_FAILURE_*` and `TRANSIENT_FAILURE_*` of
    https://cloud.google.com/pubsub/docs/exactly-once-delivery.
    """
    reasons: dict[str, str] = {}
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS:
            continue
        for detail in Status.FromString(value).details:
            info = ErrorInfo()
            if detail.Unpack(info):
                reasons.update(info.metadata)
    return reasons


class Acknowledger:
    """Tells the service what became of the deliveries of one subscription."""

    def __init__(
        self,
        client: PubSubClient,
        subscription: str,
        *,
        on_lost: Callable[[list[Delivery]], None],
        on_error: Callable[[str, BaseException | None], None],
        on_late: Callable[[list[Delivery]], None] = lambda _: None,
        on_failed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prepare an idle acknowledger.

        Args:
            client: The connection.
            subscription: Full name of the subscription.
            on_lost: Called with deliveries whose lease the service has given up.
            on_error: Called with a text when calls failed for good.
            on_late: Called with deliveries whose lease is over when they are acknowledged.
            on_failed: Called with the number of messages that were not acknowledged.
        """
        self._client = client
        self._subscription = subscription
        self._on_lost = on_lost
        self._on_error = on_error
        self._on_late = on_late
        self._on_failed = on_failed
        self._unconfirmed: dict[str, asyncio.Future[None]] = {}
        self._acks: Coalescer[Delivery] = Coalescer(
            self._send_acks,
            max_items=wire.MAX_ACK_IDS,
            rest_seconds=_REST_SECONDS,
        )
        self._deadlines: Coalescer[_Deadline] = Coalescer(
            self._send_deadlines,
            max_items=wire.MAX_ACK_IDS,
            rest_seconds=_REST_SECONDS,
        )

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge soon."""
        self._acks.add(delivery)

    def ack_all(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge several soon."""
        self._acks.extend(deliveries)

    async def ack_confirmed(self, delivery: Delivery) -> None:
        """Acknowledge and wait for the service's confirmation.

        Raises:
            AcknowledgeError: The service refused, or could not be reached in time.
        """
        confirmed = asyncio.get_running_loop().create_future()
        self._unconfirmed[delivery.ack_id] = confirmed
        self._acks.add(delivery)
        await confirmed

    def set_deadline(self, deliveries: Iterable[Delivery], seconds: int) -> None:
        """Extend leases, or with 0 end them so that the messages are delivered again."""
        self._deadlines.extend([_Deadline(delivery, seconds) for delivery in deliveries])

    async def close(self, timeout_seconds: float) -> None:
        """Send what is queued; what can't be sent in time is given up and reported."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._acks.flush()
                await self._deadlines.flush()
        except TimeoutError:
            self._on_error(
                "acknowledgements are lost, messages will be delivered again: the server has not "
                f"answered within {timeout_seconds:.0f} s",
                None,
            )
            waiting = self._acks.take_waiting()
            self._on_failed(len(waiting))
            self._settle(waiting, lambda _: "the broker was stopped")
            await self._acks.abort()
            await self._deadlines.abort()

    async def _send_acks(self, batch: list[Delivery]) -> None:
        now = asyncio.get_running_loop().time()
        if late := [delivery for delivery in batch if delivery.lease_until < now]:
            self._on_late(late)
            for delivery in late:
                delivery.lease_until = math.inf  # told once
        request = wire.AcknowledgeRequest(
            subscription=self._subscription,
            ack_ids=[delivery.ack_id for delivery in batch],
        )
        try:
            await with_retry(
                self._client, "acknowledge", request, patience_seconds=PATIENCE_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            self._after_failed_acks(batch, error)
        except asyncio.CancelledError:
            self._settle(batch, lambda _: "the broker was stopped")
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
            self._after_no_answer(batch, error, repr(error))
        else:
            self._settle(batch, lambda _: None)

    def _after_failed_acks(self, batch: list[Delivery], error: grpc.aio.AioRpcError) -> None:
        reasons = failed_ack_ids(error)
        if not reasons:
            self._after_no_answer(batch, error, f"{error.code().name}: {error.details()}")
            return
        again = [delivery for delivery in batch if _is_transient(reasons, delivery)]
        ended = [delivery for delivery in batch if not _is_transient(reasons, delivery)]
        self._on_failed(sum(delivery.ack_id in reasons for delivery in ended))
        self._settle(ended, lambda delivery: reasons.get(delivery.ack_id))
        self._acks.extend(again)

    def _after_no_answer(self, batch: list[Delivery], error: Exception, told: str) -> None:
        self._on_error(f"{len(batch)} messages could not be acknowledged", error)
        self._on_failed(len(batch))
        self._settle(batch, lambda _: told)

    def _settle(self, batch: list[Delivery], reason_of: Callable[[Delivery], str | None]) -> None:
        if not self._unconfirmed:
            return
        for delivery in batch:
            confirmed = self._unconfirmed.pop(delivery.ack_id, None)
            if confirmed is None or confirmed.done():
                continue
            if reason := reason_of(delivery):
                confirmed.set_exception(AcknowledgeError(delivery.message_id, reason))
            else:
                confirmed.set_result(None)

    async def _send_deadlines(self, batch: list[_Deadline]) -> None:
        by_seconds: defaultdict[int, list[Delivery]] = defaultdict(list)
        for deadline in batch:
            by_seconds[deadline.seconds].append(deadline.delivery)
        for seconds, deliveries in by_seconds.items():
            await self._send_deadline(deliveries, seconds)

    async def _send_deadline(self, deliveries: list[Delivery], seconds: int) -> None:
        request = wire.ModifyAckDeadlineRequest(
            subscription=self._subscription,
            ack_ids=[delivery.ack_id for delivery in deliveries],
            ack_deadline_seconds=seconds,
        )
        try:
            await with_retry(
                self._client,
                "modify_ack_deadline",
                request,
                patience_seconds=EXTENSION_PATIENCE_SECONDS,
            )
        except grpc.aio.AioRpcError as error:
            self._after_failed_deadline(deliveries, seconds, error)
        except Exception as error:  # noqa: BLE001 - nobody waits for it, and others come after it
            self._on_error(f"{len(deliveries)} leases could not be set to {seconds} s", error)

    def _after_failed_deadline(
        self,
        deliveries: list[Delivery],
        seconds: int,
        error: grpc.aio.AioRpcError,
    ) -> None:
        reasons = failed_ack_ids(error)
        if not reasons:
            self._on_error(f"{len(deliveries)} leases could not be set to {seconds} s", error)
            if error.code() in wire.TRANSIENT:
                for delivery in deliveries:
                    delivery.extend_at = 0.0  # due at once
            return
        lost = [d for d in deliveries if d.ack_id in reasons and not _is_transient(reasons, d)]
        if seconds:
            self._on_lost(lost)


def _is_transient(reasons: Mapping[str, str], delivery: Delivery) -> bool:
    reason: Any = reasons.get(delivery.ack_id, "")
    return bool(reason.startswith(_TRANSIENT_PREFIX))
