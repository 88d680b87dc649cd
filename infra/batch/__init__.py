"""Adapters of the batch port: a local service, by simulator or by a file of real responses."""

from infra.batch.local import LocalBatchService

__all__ = ["LocalBatchService"]
