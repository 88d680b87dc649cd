"""The FastAPI plugin, in an application."""

from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
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
