"""The lean way through a handler against FastStream's own: nobody can tell which one it was."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from faststream import AckPolicy, BaseMiddleware, Context, Depends, Header
from faststream.exceptions import (
    AckMessage,
    NackMessage,
    RejectMessage,
    SkipMessage,
    StopApplication,
    StopConsume,
)
from pydantic import BaseModel

from faststream_pubsub import PubSubBroker, PubSubResponse, PubSubRouter, wire
from faststream_pubsub._faststream import SubscriberUsecase
from faststream_pubsub.annotations import PubSubMessage
from faststream_pubsub.deliveries import Delivery
from faststream_pubsub.errors import AcknowledgeError
from faststream_pubsub.handler_lock import HandlerLock
from faststream_pubsub.memory import MemoryService
from faststream_pubsub.subscriber import PubSubSubscriber


class Order(BaseModel):
    number: int


class World(MemoryService):
    """Writes down all that can be seen of a message's way."""

    def __init__(self) -> None:
        super().__init__(lambda: (), raise_errors=True)
        self.seen: list[Any] = []
        self.ack_error: Exception | None = None

    # as a service
    async def publish(self, topic: str, message: Any) -> str:
        self.seen.append(("published", topic, message.data, dict(message.attributes)))
        return "1"

    # as a settler
    async def ack(self, delivery: Delivery) -> None:
        self.seen.append(("ack", delivery.ack_id))
        if self.ack_error is not None:
            raise self.ack_error

    async def ack_all(self, deliveries: Any) -> None:
        self.seen.append(("ack all", [delivery.ack_id for delivery in deliveries]))

    async def nack(self, delivery: Delivery, delay_seconds: int) -> None:
        self.seen.append(("nack", delivery.ack_id, delay_seconds))

    async def reject(self, delivery: Delivery, *, reason: str, attributes: Any) -> None:
        self.seen.append(("reject", delivery.ack_id, reason, dict(attributes)))

    # as a logger
    def log(self, level: int, text: Any, *, extra: Any = None, exc_info: Any = None) -> None:
        self.seen.append(("log", level, text, dict(extra or {}), repr(exc_info)))

    def note(self, *what: Any) -> None:
        self.seen.append(what)

    def broker(self, **options: Any) -> PubSubBroker:
        return PubSubBroker("p", **({"logger": self} | options))

    def delivery(self, body: Any, **attributes: str) -> Delivery:
        named = {"content-type": "application/json"} | {
            key.replace("__", "-"): value for key, value in attributes.items()
        }
        message = wire.PubsubMessage(
            data=json.dumps(body).encode(), attributes=named, message_id="7"
        )
        return Delivery(message, ack_id="a", attempt=1, subscription="s", settler=self)


Declare = Callable[[World], tuple[PubSubSubscriber, Any]]
CASES: dict[str, Declare] = {}


def case(declare: Declare, name: str = "") -> Declare:
    CASES[name or declare.__name__] = declare
    return declare


async def observe(declare: Declare, process: Callable[..., Any]) -> list[Any]:
    """What is seen of one message, how it ends, and what stays behind in the context."""
    world = World()
    subscriber, raw = declare(world)
    config = subscriber._outer_config.broker_config
    config.logger._setup(config.context)
    config.connect(world)
    await subscriber.start()
    try:
        response = await process(subscriber, raw)
    except BaseException as error:  # noqa: BLE001 - every end is compared
        world.note("raised", type(error), str(error), type(error.__cause__))
    else:
        world.note("returned", type(response), response.body, response.correlation_id)
    context = config.context
    scoped = ("handler_", "logger", "broker", "log_context", "message")
    world.note("left", [context.get_local(key) for key in scoped])
    world.note("running", subscriber.lock.qsize)
    await subscriber.stop()
    return world.seen


# settling: every policy, every end


ENDS: dict[str, Callable[[], BaseException]] = {
    "error": lambda: ValueError("no"),
    "ack": AckMessage,
    "nack": lambda: NackMessage(delay_seconds=3),
    "nack of another broker": lambda: NackMessage(delay="3"),
    "reject": lambda: RejectMessage(reason="why", attributes={"a": "b"}),
    "skip": SkipMessage,
    "stop consume": StopConsume,
    "stop application": StopApplication,
    "exit": lambda: SystemExit(3),
    "cancelled": asyncio.CancelledError,
}


def declare_end(policy: AckPolicy, end: Callable[[], BaseException] | None, where: str) -> Declare:
    def declare(world: World) -> tuple[PubSubSubscriber, Any]:
        async def parse(raw: Delivery, original: Callable[..., Any]) -> Any:
            if end is not None and where == "parser":
                raise end()
            return await original(raw)

        async def decode(message: Any, original: Callable[..., Any]) -> Any:
            if end is not None and where == "decoder":
                raise end()
            return await original(message)

        broker = world.broker(parser=parse, decoder=decode)
        subscriber = broker.subscriber("orders", ack_policy=policy)

        @subscriber
        async def handle(order: Order) -> int:
            if end is not None and where == "handler":
                raise end()
            return order.number

        return subscriber, world.delivery({"number": 5})

    return declare


for policy in AckPolicy:
    case(declare_end(policy, None, ""), f"{policy.value}: all well")
    for end_name, end in ENDS.items():
        case(declare_end(policy, end, "handler"), f"{policy.value}: {end_name} in handler")
    for place in ("parser", "decoder"):
        case(declare_end(policy, ENDS["error"], place), f"{policy.value}: error in {place}")
        case(declare_end(policy, ENDS["nack"], place), f"{policy.value}: nack in {place}")


@case
def handler_settles_by_itself(world: World) -> tuple[PubSubSubscriber, Any]:
    subscriber = world.broker().subscriber("orders", ack_policy=AckPolicy.NACK_ON_ERROR)

    @subscriber
    async def handle(order: Order, message: PubSubMessage) -> None:
        await message.reject("mine")
        raise ValueError(order.number)

    return subscriber, world.delivery({"number": 5})


def declare_failing_ack(policy: AckPolicy) -> Declare:
    def declare(world: World) -> tuple[PubSubSubscriber, Any]:
        subscriber = world.broker().subscriber("orders", ack_policy=policy)
        world.ack_error = AcknowledgeError("7", "stale")

        @subscriber
        async def handle(order: Order) -> int:
            return order.number

        return subscriber, world.delivery({"number": 5})

    return declare


for policy in AckPolicy:
    case(declare_failing_ack(policy), f"{policy.value}: acknowledgement fails")


@case
def batch(world: World) -> tuple[PubSubSubscriber, Any]:
    subscriber = world.broker().subscriber("orders", batch=True)

    @subscriber
    async def handle(orders: list[Order]) -> int:
        return sum(order.number for order in orders)

    return subscriber, (world.delivery({"number": 5}), world.delivery({"number": 6}))


# middlewares


def make_middleware(world: World, name: str, raising: str = "", dealing: bool = False) -> Any:
    class Noting(BaseMiddleware):
        async def on_receive(self) -> None:
            self.note("on_receive")

        async def consume_scope(self, call_next: Any, msg: Any) -> Any:
            self.note("consume")
            try:
                result = await call_next(msg)
            except Exception as error:
                self.note("consumed", repr(error))
                raise
            self.note("consumed")
            return result

        async def publish_scope(self, call_next: Any, cmd: Any) -> Any:
            self.note("publish")
            await call_next(cmd)

        async def after_processed(self, *error: Any) -> bool:
            self.note("after", repr(error[1]) if error else None)
            return dealing

        def note(self, hook: str, *more: Any) -> None:
            scoped = [str(self.context.get_local(key)) for key in ("broker", "log_context")]
            world.note(name, hook, scoped[1], *more)
            if hook == raising:
                raise ValueError(f"{name} {hook}")

    return Noting


def declare_middlewares(raising: str, *, dealing: bool, failing: bool = False) -> Declare:
    def declare(world: World) -> tuple[PubSubSubscriber, Any]:
        outer = make_middleware(world, "outer")
        inner = make_middleware(world, "inner", raising, dealing)
        broker = world.broker(middlewares=[outer, inner])
        subscriber = broker.subscriber("orders")

        @subscriber
        @broker.publisher("results")
        async def handle(order: Order) -> int:
            if failing:
                raise ValueError("handler")
            return order.number

        return subscriber, world.delivery({"number": 5}, reply_to="replies")

    return declare


for hook in ("", "on_receive", "consume", "consumed", "publish", "after"):
    case(declare_middlewares(hook, dealing=False), f"middleware raises: {hook}")
    case(declare_middlewares(hook, dealing=True), f"middleware raises and deals: {hook}")
case(declare_middlewares("", dealing=True, failing=True), "middleware deals with an error")
case(declare_middlewares("", dealing=False, failing=True), "middlewares see an error")


@case
def middleware_changes_message_and_result(world: World) -> tuple[PubSubSubscriber, Any]:
    class Changing(BaseMiddleware):
        async def consume_scope(self, call_next: Any, msg: Any) -> Any:
            msg.body = b'{"number": 50}'
            return PubSubResponse(await call_next(msg) + 1, attributes={"a": "b"})

    broker = world.broker(middlewares=[Changing])
    subscriber = broker.subscriber("orders")

    @subscriber
    @broker.publisher("results")
    async def handle(order: Order) -> int:
        return order.number

    return subscriber, world.delivery({"number": 5})


@case
def middleware_added_after_start(world: World) -> tuple[PubSubSubscriber, Any]:
    broker = world.broker()
    subscriber = broker.subscriber("orders")

    @subscriber
    async def handle(order: Order) -> int:
        return order.number

    async def parse(raw: Delivery, original: Callable[..., Any]) -> Any:
        broker.add_middleware(make_middleware(world, "late"))
        return await original(raw)

    subscriber._call_options = subscriber._call_options._replace(parser=parse)
    return subscriber, world.delivery({"number": 5})


@case
def publisher_of_another_router_keeps_its_middlewares_out(
    world: World,
) -> tuple[PubSubSubscriber, Any]:
    router = PubSubRouter(middlewares=[make_middleware(world, "router")])
    publisher = router.publisher("results")
    broker = world.broker()
    broker.include_router(router)
    subscriber = broker.subscriber("orders")

    @subscriber
    @publisher
    async def handle(order: Order) -> int:
        return order.number

    return subscriber, world.delivery({"number": 5})


# which handler


def declare_filters(*, matching: bool) -> Declare:
    def declare(world: World) -> tuple[PubSubSubscriber, Any]:
        subscriber = world.broker().subscriber("orders")

        @subscriber(filter=lambda message: message.headers.get("kind") == "a")
        async def first(order: Order) -> str:
            return f"first {order.number}"

        if matching:

            @subscriber
            async def second(order: Order) -> str:
                return f"second {order.number}"

        return subscriber, world.delivery({"number": 5}, kind="b")

    return declare


case(declare_filters(matching=True), "second handler takes it")
case(declare_filters(matching=False), "no handler takes it")


@case
def message_that_its_parser_has_processed(world: World) -> tuple[PubSubSubscriber, Any]:
    async def parse(raw: Delivery, original: Callable[..., Any]) -> Any:
        message = await original(raw)
        message.processed = True
        return message

    subscriber = world.broker(parser=parse).subscriber("orders")

    @subscriber
    async def handle(order: Order) -> int:
        return order.number

    return subscriber, world.delivery({"number": 5})


# publishing


@case
def result_goes_to_publishers_and_reply_topic(world: World) -> tuple[PubSubSubscriber, Any]:
    broker = world.broker()
    subscriber = broker.subscriber("orders")

    @subscriber
    @broker.publisher("first", attributes={"a": "b"})
    @broker.publisher("second")
    async def handle(order: Order) -> PubSubResponse:
        return PubSubResponse(order.number, correlation_id="mine", attributes={"c": "d"})

    return subscriber, world.delivery({"number": 5}, reply_to="replies", correlation_id="c")


@case
def no_reply(world: World) -> tuple[PubSubSubscriber, Any]:
    subscriber = world.broker().subscriber("orders", no_reply=True)

    @subscriber
    async def handle(order: Order) -> int:
        return order.number

    return subscriber, world.delivery({"number": 5}, reply_to="replies", correlation_id="c")


@case
def reply_alone(world: World) -> tuple[PubSubSubscriber, Any]:
    subscriber = world.broker().subscriber("orders")

    @subscriber
    async def handle(order: Order) -> int:
        return order.number

    return subscriber, world.delivery({"number": 5}, reply_to="replies", correlation_id="c")


# arguments


def declare_handler(make: Callable[[World], Callable[..., Any]], body: Any, **options: Any) -> None:
    def declare(world: World) -> tuple[PubSubSubscriber, Any]:
        subscriber = world.broker(**options).subscriber("orders")
        subscriber(make(world))
        return subscriber, world.delivery(body, kind="a")

    case(declare, f"{make.__name__} {options}")


def contexts(world: World) -> Callable[..., Any]:
    def thread() -> int:
        # it may block
        world.note("in a thread", threading.current_thread() is not threading.main_thread())
        return 4

    async def handle(
        order: Order,
        message: PubSubMessage,
        kind: Annotated[str, Header()],
        logger: Annotated[Any, Context()],
        handler_: Annotated[Any, Context()],
        absent: Annotated[int, Context(default=3)],
        made: Annotated[int, Context("elsewhere", initial=thread)],
        number: Annotated[str, Context("message.message_id", cast=True)],
    ) -> list[Any]:
        world.note(logger is world, type(handler_), type(message))
        return [order.number, kind, absent, made, number]

    return handle


def only_contexts(world: World) -> Callable[..., Any]:
    async def handle(
        order: Order,
        message: PubSubMessage,
        kind: Annotated[str, Header()],
        absent: Annotated[int, Context(default=3)],
        broker: Annotated[Any, Context()],
        log_context: Annotated[Any, Context()],
        context: Annotated[Any, Context()],
    ) -> list[Any]:
        world.note(type(broker), log_context, type(message), context.get("message") is message)
        return [order.number, kind, absent]

    return handle


def context_that_is_not_there(_: World) -> Callable[..., Any]:
    async def handle(order: Order, absent: Annotated[int, Context()]) -> list[Any]:
        return [order.number, absent]

    return handle


def header_of_another_type(_: World) -> Callable[..., Any]:
    async def handle(order: Order, kind: Annotated[int, Header()]) -> list[Any]:
        return [order.number, kind]

    return handle


def dependencies(world: World) -> Callable[..., Any]:
    async def opened(number: int) -> AsyncIterator[int]:
        world.note("open")
        yield number + 1
        world.note("close")

    def plus(number: int = 3) -> int:
        return number

    async def handle(
        number: int, more: Annotated[int, Depends(opened)], most: Annotated[int, Depends(plus)]
    ) -> list[int]:
        world.note("call")
        return [number, more, most]

    return handle


def sync_handler(_: World) -> Callable[..., Any]:
    def handle(order: Order) -> int:
        return order.number

    return handle


def several_fields(_: World) -> Callable[..., Any]:
    async def handle(number: int, text: str = "none") -> list[Any]:
        return [number, text]

    return handle


def all_fields(_: World) -> Callable[..., Any]:
    async def handle(**fields: int) -> dict[str, int]:
        return fields

    return handle


def all_items(_: World) -> Callable[..., Any]:
    async def handle(*items: int) -> tuple[int, ...]:
        return items

    return handle


def nothing(_: World) -> Callable[..., Any]:
    async def handle() -> str:
        return "nothing"

    return handle


def untyped(_: World) -> Callable[..., Any]:
    async def handle(body):
        return body

    return handle


def with_default(_: World) -> Callable[..., Any]:
    async def handle(body: dict[str, int] = {"number": 1}) -> Any:  # noqa: B006 - never changed
        return body

    return handle


def keyword_only(_: World) -> Callable[..., Any]:
    async def handle(*, order: Order) -> int:
        return order.number

    return handle


def positional_only(_: World) -> Callable[..., Any]:
    async def handle(order: Order, /) -> int:
        return order.number

    return handle


def result_is_checked(_: World) -> Callable[..., Any]:
    async def handle(order: Order) -> int:
        return f"{order.number} is a text"  # type: ignore[return-value] # that is the case

    return handle


def result_is_cast(_: World) -> Callable[..., Any]:
    async def handle(order: Order) -> Order:
        return {"number": str(order.number)}  # type: ignore[return-value] # that is the case

    return handle


for make in (
    contexts,
    only_contexts,
    context_that_is_not_there,
    header_of_another_type,
    dependencies,
    sync_handler,
    several_fields,
    all_fields,
    nothing,
    untyped,
    with_default,
    keyword_only,
    positional_only,
    result_is_checked,
    result_is_cast,
):
    declare_handler(make, {"number": 5})
declare_handler(sync_handler, {"number": "five"})
declare_handler(all_items, [1, 2])
declare_handler(untyped, {"number": 5}, apply_types=False)
declare_handler(untyped, {"number": 5}, logger=None)
declare_handler(only_contexts, {"number": 5}, serializer=None)


def broker_dependency(number: int) -> int:
    return number


declare_handler(untyped, {"number": 5}, dependencies=[Depends(broker_dependency)])
declare_handler(untyped, {"number": "x"}, dependencies=[Depends(broker_dependency)])


@pytest.mark.parametrize("name", CASES)
async def test_lean_way_is_faststreams_way(name: str):
    theirs = await observe(CASES[name], SubscriberUsecase.process_message)
    ours = await observe(CASES[name], PubSubSubscriber.process_message)
    assert _told(ours) == _told(theirs)
    assert len(ours) > 2


def _told(notes: list[Any]) -> list[str]:
    return [re.sub(r"0x[0-9a-f]+|\.\.\.\w*>", "address", str(note)) for note in notes]


async def test_lock_waits_for_running_handlers():
    lock = HandlerLock()
    with lock:
        lock.acquire()
        assert (lock.qsize, lock.empty) == (2, False)
        waiting = asyncio.create_task(lock.wait_release(30))
        await asyncio.sleep(0)
        lock.release()
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, timeout=5)
    assert lock.empty


async def test_lock_waits_no_longer_than_it_is_told():
    lock = HandlerLock()
    with lock:
        await lock.wait_release(0.01)
        await lock.wait_release(None)
        assert not lock.empty
