"""The FastAPI plugin, in an application."""

import asyncio
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, Header
from pydantic import BaseModel

from faststream_pubsub import TestPubSubBroker
from faststream_pubsub.fastapi import PubSubMessage, PubSubRouter


class Order(BaseModel):
    number: int


async def test_route_gets_its_dependencies_and_message_and_answers(name):
    router = PubSubRouter(logger=None)

    def shop() -> str:
        return "north"

    @router.subscriber(name)
    async def pack(
        order: Order, where: Annotated[str, Depends(shop)], message: PubSubMessage
    ) -> str:
        return f"{order.number} {where} {message.attributes['colour']}"

    async with TestPubSubBroker(router.broker) as broker:
        reply = await broker.request(Order(number=7), name, attributes={"colour": "red"})
        assert await reply.decode() == "7 north red"


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_application_starts_the_broker_and_serves_its_document(target, name):
    router = PubSubRouter(emulator_host=target, logger=None)
    app = FastAPI()
    app.include_router(router)

    @router.subscriber(name)
    async def pack(order: Order) -> None: ...

    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        document = (await client.get("/asyncapi.json")).json()
        assert await router.broker.ping()
    assert name in {channel["address"] for channel in document["channels"].values()}
    assert not await router.broker.ping()


@pytest.mark.parametrize("target", ["embedded"], indirect=True)
async def test_the_package_faststream_fastapi_runs_the_broker(bench, name, inbox):
    plugin = pytest.importorskip(
        "faststream_fastapi", reason="the package faststream-fastapi is not installed"
    )
    broker = bench.broker()

    def shop() -> str:
        return "south"

    @broker.subscriber(name)
    async def pack(
        order: Order, where: Annotated[str, Depends(shop)], colour: Annotated[str, Header()]
    ) -> None:
        await inbox.put((order, where, colour))

    app = FastAPI()
    app.dependency_overrides[shop] = lambda: "north"
    application = plugin.FastStreamAPI(broker, application=app, safe_connection=True)
    async with LifespanOf(application):
        await broker.publish(Order(number=7), name, attributes={"colour": "red"})
        assert await inbox.wait_for(1) == [(Order(number=7), "north", "red")]
    assert not await broker.ping()


class LifespanOf:
    """Starts and stops an ASGI application, as a server does."""

    def __init__(self, application):
        self._application = application
        self._to_app, self._from_app = asyncio.Queue(), asyncio.Queue()

    async def __aenter__(self):
        self._to_app.put_nowait({"type": "lifespan.startup"})
        scope = {"type": "lifespan", "state": {}}
        self._running = asyncio.create_task(
            self._application(scope, self._to_app.get, self._from_app.put)
        )
        assert await self._from_app.get() == {"type": "lifespan.startup.complete"}

    async def __aexit__(self, *_):
        self._to_app.put_nowait({"type": "lifespan.shutdown"})
        await self._running
        assert await self._from_app.get() == {"type": "lifespan.shutdown.complete"}
