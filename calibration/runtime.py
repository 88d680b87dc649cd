"""Settings of JAX that must be made before it is first used, in the process that fits."""

import os
import sys
from pathlib import Path
from typing import Any

from calibration.errors import SettingError

_DEVICES_FLAG = "--xla_force_host_platform_device_count"
# A loop that touches less is compiled into one function: by itself each of its many small
# operations is dispatched, which costs a small density more than its arithmetic.
_SMALL_LOOP = "xla_cpu_small_while_loop_byte_threshold"
_SMALL_LOOP_BYTES = 1 << 20


def configure(*, cache_dir: Path | str | None = None, host_devices: int = 4) -> None:
    """Use float64, one host device per chain, and a cache of compiled programs on disk.

    Call it once, before anything imports JAX, and best before NumPy, whose matrix products then
    keep to one thread each: spread over more, the small ones of maximum likelihood take several
    times as long on a busy machine. A second call with equal settings changes nothing.

    Args:
        cache_dir: Folder of the persistent compile cache; None for no cache on disk.
        host_devices: Host devices, which chains are spread over.

    Raises:
        SettingError: The number of devices is below 1, or JAX runs already with fewer.
    """
    if host_devices < 1:
        raise SettingError(f"host_devices = {host_devices}: give 1 or more")
    if "numpy" not in sys.modules:
        # The sums are spread over threads; a product that is spread again waits for itself.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "jax" not in sys.modules:
        flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag]
        kept = [flag for flag in flags if not flag.startswith(_DEVICES_FLAG)]
        if not any(_SMALL_LOOP in flag for flag in kept):
            kept.append(f"--xla_backend_extra_options={_SMALL_LOOP}={_SMALL_LOOP_BYTES}")
        os.environ["XLA_FLAGS"] = " ".join([*kept, f"{_DEVICES_FLAG}={host_devices}"])
    import jax  # noqa: PLC0415  # only after its flags are set

    config: Any = jax.config  # untyped
    config.update("jax_enable_x64", True)
    if cache_dir is not None:
        config.update("jax_compilation_cache_dir", str(cache_dir))
        # Their folder would be part of each program's key: a moved cache would be a cold one.
        config.update("jax_persistent_cache_enable_xla_caches", "none")
        config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if jax.default_backend() == "cpu" and jax.local_device_count() < host_devices:
        raise SettingError(
            f"JAX runs already with {jax.local_device_count()} host devices, {host_devices} are "
            "asked: call configure before anything uses JAX"
        )
