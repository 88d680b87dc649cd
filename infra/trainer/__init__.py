"""Adapters of the training port: a process of its own, so that the bus never waits for a fit."""

from infra.trainer.process import ProcessTrainer

__all__ = ["ProcessTrainer"]
