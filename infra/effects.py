"""Counts what a process did to the world, at the ports through which it does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from events.model import Evaluator
from infra.ports import (
    BatchService,
    Job,
    MergeResult,
    Objects,
    Outgoing,
    Publisher,
    Scalar,
    Stored,
    Warehouse,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from schemas.spec import TableSpec


@dataclass(slots=True)
class Effects:
    """The counts."""

    objects_written: int = 0
    batches_created: int = 0
    merges: int = 0
    events_published: int = 0


class CountedObjects:
    """Objects, counted when they are new."""

    def __init__(self, objects: Objects, effects: Effects) -> None:
        self._objects = objects
        self._effects = effects

    async def put_once(self, key: str, data: bytes) -> Stored:
        """See ``Objects``."""
        stored = await self._objects.put_once(key, data)
        self._effects.objects_written += stored.created
        return stored

    async def get(self, uri: str) -> bytes:
        """See ``Objects``."""
        return await self._objects.get(uri)

    async def list(self, prefix: str) -> tuple[str, ...]:
        """See ``Objects``."""
        return await self._objects.list(prefix)

    def uri(self, key: str) -> str:
        """See ``Objects``."""
        return self._objects.uri(key)


class CountedBatch:
    """Batch jobs, counted when they are asked for."""

    def __init__(self, batch: BatchService, effects: Effects) -> None:
        self._batch = batch
        self._effects = effects

    async def find(self, display_name: str) -> Job | None:
        """See ``BatchService``."""
        return await self._batch.find(display_name)

    async def create(self, *, display_name: str, requests_uri: str, evaluator: Evaluator) -> Job:
        """See ``BatchService``."""
        job = await self._batch.create(
            display_name=display_name, requests_uri=requests_uri, evaluator=evaluator
        )
        self._effects.batches_created += 1
        return job

    async def get(self, name: str) -> Job:
        """See ``BatchService``."""
        return await self._batch.get(name)

    async def close(self) -> None:
        """See ``BatchService``."""
        await self._batch.close()


class CountedWarehouse:
    """A warehouse whose merges are counted."""

    def __init__(self, warehouse: Warehouse, effects: Effects) -> None:
        self._warehouse = warehouse
        self._effects = effects

    async def open(self, tables: Sequence["TableSpec"]) -> None:
        """See ``Warehouse``."""
        await self._warehouse.open(tables)

    async def close(self) -> None:
        """See ``Warehouse``."""
        await self._warehouse.close()

    async def merge(
        self, table: "TableSpec", rows: "pa.Table", *, claim: str, constants: Mapping[str, Scalar]
    ) -> MergeResult:
        """See ``Warehouse``."""
        result = await self._warehouse.merge(table, rows, claim=claim, constants=constants)
        self._effects.merges += 1
        return result

    async def read(
        self, table: "TableSpec", *, where: Mapping[str, Scalar], columns: Sequence[str] = ()
    ) -> "pa.Table":
        """See ``Warehouse``."""
        return await self._warehouse.read(table, where=where, columns=columns)

    async def count(
        self, table: "TableSpec", *, where: Mapping[str, Scalar], by: Sequence[str]
    ) -> "pa.Table":
        """See ``Warehouse``."""
        return await self._warehouse.count(table, where=where, by=by)


class CountedPublisher:
    """A publisher whose confirmed events are counted."""

    def __init__(self, publisher: Publisher, effects: Effects) -> None:
        self._publisher = publisher
        self._effects = effects

    async def publish(self, outgoing: Sequence[Outgoing]) -> tuple[str, ...]:
        """See ``Publisher``."""
        confirmed = await self._publisher.publish(outgoing)
        self._effects.events_published += len(confirmed)
        return confirmed
