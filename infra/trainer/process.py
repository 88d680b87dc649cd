"""Fits in a process of its own, which is kept for the next family and its compiled programs."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from infra.errors import CannotCalibrateError, TransientError
from infra.ports import Training, TrainingJob, TrainingProgress
from infra.trainer import frames

_FRAME_LIMIT = 2**26


class ProcessTrainer:
    """The ``Trainer`` port: one fit at a time, in one training process.

    Cancelling ``train`` kills the process; the next call starts another.
    """

    def __init__(self, cache_dir: Path) -> None:
        """Keep compiled programs in ``cache_dir``."""
        self._cache_dir = cache_dir
        self._process: asyncio.subprocess.Process | None = None
        self._host_devices = 0
        self._turn = asyncio.Lock()

    async def train(
        self, job: TrainingJob, progress: Callable[[TrainingProgress], None] | None = None
    ) -> Training:
        """See ``infra.ports.Trainer``."""
        async with self._turn:
            process = await self._ready(job.sampler.chains)
            try:
                return await self._exchange(process, job, progress)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                code = await process.wait()
                self._process = None
                raise TransientError(f"the training process ended with code {code}") from error
            except CannotCalibrateError:
                raise
            except BaseException:
                await self._kill()
                raise

    async def close(self) -> None:
        """End the process; it holds nothing that must be kept."""
        await self._kill()

    async def _exchange(
        self,
        process: asyncio.subprocess.Process,
        job: TrainingJob,
        progress: Callable[[TrainingProgress], None] | None,
    ) -> Training:
        if process.stdin is None or process.stdout is None:
            raise TransientError("the training process has no pipes")
        process.stdin.write(frames.pack(job))
        await process.stdin.drain()
        while True:
            match await frames.read_async(process.stdout):
                case TrainingProgress() as told:
                    if progress is not None:
                        progress(told)
                case Training() as training:
                    return training
                case (str(kind), str(reason)):
                    raise CannotCalibrateError(f"{kind}: {reason}")

    async def _ready(self, chains: int) -> asyncio.subprocess.Process:
        """The training process, with a host device for each chain, which JAX wants at its start."""
        if chains > self._host_devices:
            await self._kill()
            self._host_devices = chains
        if self._process is None or self._process.returncode is not None:
            self._cache_dir.mkdir(parents=True, exist_ok=True)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "infra.trainer.child",
                str(self._cache_dir),
                str(self._host_devices),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_FRAME_LIMIT,
                env={
                    "OPENBLAS_NUM_THREADS": "1",  # see calibration.configure
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                },
                start_new_session=True,
            )
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
